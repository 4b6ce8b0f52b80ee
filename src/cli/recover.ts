/**
 * After the store lost what was acknowledged. `inorder recover` lists the entities that are behind, and recovers them. `inorder shards
 * resume` ends the halt of shards, once an operator has decided to accept the store as it is.
 */
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { ConfigError, UnavailableError } from '../errors.ts';
import { entityFields, type Event } from '../events/event.ts';
import { entityChoice } from '../events/identity.ts';
import { entityText, grouped, printable, printableJsonLine } from '../printable.ts';
import { createPublisher, type Publisher } from '../publishing/create-publisher.ts';
import { openInput } from '../publishing/open-input.ts';
import { readInput } from '../publishing/read-input.ts';
import type { StreamRecordKeeper } from '../rabbitmq/stream-record.ts';
import { haltText, lookForHalts, type Store, type Halt } from '../stores/store.ts';
import { loadProcessors } from '../worker/operator-modules.ts';
import { fromEventStore, fromFile, fromLetters, type Selection, type RecoverySource } from '../worker/recovery-sources.ts';
import { type Behind, type Recovered, recoverEntity, type Recovery, type Remedy } from '../worker/recovery.ts';
import { commandLog, recordOf, withEventStore, withStore, withBroker } from './access.ts';
import { audit, confirm, requiredWhy, whyOption, yesOption } from './change.ts';
import {
  brokerVariables,
  type CommandIo,
  defineCommand,
  entityTypeOption,
  type ExitCode,
  jsonOption,
  flag,
  value,
  eventStoreVariables,
  storeVariables,
} from './command.ts';
import { ProgressDisplay } from './process-io.ts';

export const recover = defineCommand({
  name: 'recover',
  summary: 'After the store lost its tail: lists the entities that are behind, and recovers them.',
  description: [
    'For a fail-over to a replica that had not received everything, or a restored copy. Without a source it lists the entities that are',
    'behind by the store alone: parked at an event that is not the next one. With a source it compares every version, and commits the',
    'missing events as a worker would have. Handlers do not run again, except for events of the event store that may never have been',
    'processed: those are published. If it is interrupted, run it again. Exit code 1 when an entity stays behind.',
    '',
    'event-store  the events of EVENT_STORE; an entity whose newest events are not applied yet is listed as well',
    'FILE         events as `inorder events list --applied --json` prints them, or versions and states as `entity import` takes them',
  ].join('\n'),
  positionals: ['[ID]'],
  options: {
    from: value('SOURCE', '`event-store`, or a FILE (`-`: standard input).'),
    resync: flag(
      'Without a source: the events missing before the first dead letter count as done, for the entity ID or for all listed ones. The state stays the older one.',
    ),
    type: entityTypeOption,
    reason: value('TEXT', 'Why, for the audit trail.'),
    yes: yesOption,
    json: jsonOption,
  },
  variables: [...eventStoreVariables, 'STATE_STORE', 'EVENT_LOG', ...brokerVariables, 'PROCESSOR', 'ENTITY_TYPE', 'MAX_STATE_BYTES'],
  async run({ positionals: [entityId], options }, io): Promise<ExitCode> {
    if (options.from !== null && options.resync)
      throw new ConfigError(['--from and --resync exclude each other: with a source no event has to count as done']);
    if (options.resync && (options.reason ?? '').trim() === '')
      throw new ConfigError(['--resync needs --reason: say why, for the audit trail']);
    const config = loadConfig(io.env);
    const signal = io.takeSignals();
    const choice = entityChoice(entityId, options.type, config.processing.entityType);
    const selection: Selection = { choice, signal };
    const changes = options.from !== null || options.resync;
    return withStore(
      config,
      io,
      async (store): Promise<ExitCode> =>
        withSource(options.from, { config, io, store, selection }, async (source) => {
          const plan = await listed(source, !options.json ? 'text' : changes && options.yes ? 'nothing' : 'json', io);
          if (!changes || plan.length === 0 || signal.aborted) return plan.length > 0 || signal.aborted ? 1 : 0;
          if (!(await confirm(`Recover them with ${source.name}?`, options.yes, io, signal))) return 1;
          const what = `recovers ${plan.length} entities that were behind with ${source.name}`;
          await audit(store, { action: 'recover', ...choice, what, reason: options.reason ?? '' });
          return recoverAll(plan, { config, io, store, signal, json: options.json });
        }),
    );
  },
});

const remedy = 'it must be JSON, as `inorder events list --applied --json` prints events or `inorder entity import` takes entities';

type Plan = readonly (readonly [Behind, Remedy])[];

interface Access {
  readonly config: Config;
  readonly io: CommandIo;
  readonly store: Store;
}

async function withSource<T>(
  from: string | null,
  { config, io, store, selection }: Access & { readonly selection: Selection },
  use: (source: RecoverySource) => Promise<T>,
): Promise<T> {
  if (from === null) return use(fromLetters(store, selection));
  if (from === 'event-store') return withEventStore(config, io, (events) => use(fromEventStore(events, store, selection)));
  const input = await openInput(from, io.stdin, selection.signal);
  try {
    const texts = await readInput(input, { format: 'ndjson', map: new Map(), delimiter: null, remedy });
    const file = { path: input.name, texts, defaultEntityType: config.processing.entityType, limits: config.limits };
    return await use(await fromFile(file, store, selection));
  } finally {
    input.close();
  }
}

async function listed(source: RecoverySource, as: 'text' | 'json' | 'nothing', io: CommandIo): Promise<Plan> {
  const plan: (readonly [Behind, Remedy])[] = [];
  let events = 0;
  for await (const [behind, remedy] of source.behind()) {
    plan.push([behind, remedy]);
    events += behind.target - behind.version;
    if (as !== 'nothing') await io.stdout.write(as === 'json' ? asJson(behind, null) : asText(behind));
  }
  if (as === 'text')
    await io.stdout.write(`${grouped(plan.length)} behind, by ${grouped(events)} events, compared with ${printable(source.name)}\n`);
  return plan;
}

async function recoverAll(
  plan: Plan,
  { config, io, store, signal, json }: Access & { readonly signal: AbortSignal; readonly json: boolean },
): Promise<ExitCode> {
  const progress = new ProgressDisplay(io, 'recovered');
  const publishing = new LazyPublisher(config, io);
  const { maxStateBytes } = config.limits;
  const recovery: Recovery = {
    store,
    processors: await loadProcessors(config.processing),
    maxStateBytes,
    eventLog: config.store.eventLog,
    publish: (event) => publishing.publish(event),
    time: io.time,
  };
  const counts = { recovered: 0, published: 0, failed: 0 };
  try {
    for (const [index, [behind, remedy]] of plan.entries()) {
      if (signal.aborted) break;
      const result = await recoverEntity(behind, remedy, recovery);
      counts[result.status]++;
      progress.show(index + 1, plan.length);
      if (json) await io.stdout.write(asJson(behind, result));
      else if (result.status === 'failed') await io.stdout.write(`${entityText(behind)}: ${printable(result.problem)}\n`);
    }
  } finally {
    progress.end();
    await publishing.close();
  }
  if (!json) {
    const published = counts.published === 0 ? '' : `, ${grouped(counts.published)} published for their handlers`;
    await io.stdout.write(
      `${grouped(counts.recovered)} recovered${published}, ${grouped(counts.failed)} failed; what waits behind them: inorder dead-letters replay --ready\n`,
    );
  }
  return counts.failed > 0 || signal.aborted ? 1 : 0;
}

/** Connects only if there is something to publish, which is rare. */
class LazyPublisher {
  readonly #options: { readonly config: Config; readonly io: CommandIo };
  #publisher: Publisher | null = null;

  constructor(config: Config, io: CommandIo) {
    this.#options = { config, io };
  }

  async publish(event: Event): Promise<void> {
    const { config, io } = this.#options;
    this.#publisher ??= createPublisher({ ...config.broker, limits: config.limits, log: commandLog(config, io), time: io.time });
    const outcome = await this.#publisher.publish(event);
    if (outcome.status !== 'confirmed')
      throw new UnavailableError(`event ${event.sequence} of ${entityText(event)} was not confirmed: run it again`);
  }

  async close(): Promise<void> {
    await this.#publisher?.close();
  }
}

function asJson({ version, target, problem, ...entity }: Behind, result: Recovered | null): string {
  const status = result?.status ?? 'behind';
  const why = result?.status === 'failed' ? result.problem : problem;
  return printableJsonLine({ ...entityFields(entity), version, target, behind: target - version, status, problem: why });
}

function asText({ version, target, problem, ...entity }: Behind): string {
  return `${entityText(entity)} at ${version}, behind by ${grouped(target - version)}, to ${target}${problem === null ? '' : `: ${printable(problem)}`}\n`;
}

export const resumeShards = defineCommand({
  name: 'shards resume',
  summary: 'Ends the halt of shards: the store is accepted as it is.',
  description: [
    'For shards that are halted because the store went backwards: it lost commits, is an older copy, is empty, or is another one than',
    'the stream had. First prints the causes. It does not bring back lost data: restore the store or correct its entities',
    'before, or their next events find a gap. The workers resume by themselves within seconds; one with another store stays halted.',
    '`inorder audit` shows who ended which halt, and why.',
  ].join('\n'),
  positionals: [],
  options: {
    why: whyOption,
    yes: yesOption,
  },
  variables: [...brokerVariables, ...storeVariables],
  async run({ options }, io) {
    const why = requiredWhy(options.why);
    const config = loadConfig(io.env);
    return withStore(config, io, (store) =>
      withBroker(config, io, async (connection): Promise<ExitCode> => {
        const record = recordOf(connection, config.broker.stream, io);
        const known = await record.read();
        if (record.trouble !== null) await io.stderr.write(`inorder: the broker keeps no record of the store: ${record.trouble}\n`);
        const { halts } = await lookForHalts(store, known, io.time);
        if (halts.length === 0) {
          await io.stdout.write('no shard is halted\n');
          return 0;
        }
        await io.stdout.write(halts.map((halt) => `${haltText(halt)} (${halt.at})\n`).join(''));
        if (!(await confirm('Go on with the store as it is?', options.yes, io))) return 1;
        await resume(store, record, halts, why);
        await io.stdout.write('the shards may go on\n');
        return 0;
      }),
    );
  },
});

/** Ends the halts in the store first: the shards stay halted as long as the broker's record says so. */
export async function resume(
  store: Store,
  record: Pick<StreamRecordKeeper, 'read' | 'change' | 'trouble'>,
  halts: readonly Halt[],
  reason: string,
): Promise<void> {
  const known = await record.read();
  const what = `let the shards go on: ${halts.map(haltText).join('; ')}`;
  await audit(store, { action: 'resume', what, reason });
  const { identity, epoch } = await store.operator.resume(known?.epoch ?? 0);
  await record.change((now) =>
    now === null ? null : { generation: now.generation + 1, isOlder: now.isOlder, identity, epoch, halts: [] },
  );
  if (known !== null && record.trouble !== null)
    throw new UnavailableError(`the record at the broker cannot be changed, so that the shards stay halted: ${record.trouble}`);
}

/** `inorder status`: the depths of the queues, halts, the worker nearby, and on request the number of parked entities. */
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/config.ts';
import { UnavailableError } from '../errors.ts';
import {
  askWorker,
  type ShardStatus,
  tokenRefused,
  type TrialsStatus,
  type WorkerAnswer,
  type WorkerStatus,
} from '../observability/worker-status.ts';
import { grouped, printable } from '../printable.ts';
import { type QueueDepth, streamDepths, whyNobodyConsumes } from '../rabbitmq/queue-depths.ts';
import { layoutFinding, type StreamLayout } from '../stores/layout.ts';
import { haltText, lookForHalts, type Halt, type Store } from '../stores/store.ts';
import { recordOf, withBroker, withStore } from './access.ts';
import { brokerVariables, type CommandIo, defineCommand, jsonOption, flag, stateStoreVariables, httpVariables } from './command.ts';

interface Status {
  readonly stream: string;
  readonly shards: readonly QueueDepth[];
  readonly dead_letters: QueueDepth;
  readonly unrouted: QueueDepth;
  /** Null: the store did not answer. */
  readonly halts: readonly Halt[] | null;
  /** What the store has on record. Null: nothing yet, or the store did not answer. */
  readonly layout: { readonly version: number; readonly shards: number; readonly exchange_type: string } | null;
  /** Null: not asked for, or the store did not answer. */
  readonly parked: number | null;
  /** Null: no worker answers at HTTP_HOST and HTTP_PORT, or it refuses READ_TOKEN. */
  readonly worker: WorkerStatus | null;
  /** Why parts of the stream do not work; empty if all of it works. */
  readonly problems: readonly string[];
}

export const command = defineCommand({
  name: 'status',
  summary: 'The depths of the queues, the shards that do not work, and the worker nearby.',
  description: [
    'Asks the broker for the ready messages of each queue (without the unacknowledged ones of workers) and its',
    'consumers, the store for halts, and the worker at HTTP_HOST and HTTP_PORT, if there is one, for its',
    'shards. Exit code 1 when a shard has no consumer or is halted, the store does not answer, or that worker is not ready',
    'or refuses READ_TOKEN.',
  ].join('\n'),
  positionals: [],
  options: {
    parked: flag('Also count the parked entities, which reads the whole store.'),
    json: jsonOption,
  },
  variables: [...brokerVariables, ...stateStoreVariables, 'SHARDS', 'EXCHANGE_TYPE', ...httpVariables],
  async run({ options }, io) {
    const config = loadConfig(io.env);
    const [queues, answer, { trouble, ...kept }] = await Promise.all([
      askQueues(config, io),
      askWorker(config, io.time),
      askStore(config, io, options.parked),
    ]);
    const worker = answer === 'refused' ? null : answer;
    const problems = [
      ...queues.shards.flatMap(whyNobodyConsumes),
      ...(kept.halts ?? []).map(haltText),
      ...trouble,
      ...(worker?.not_ready ?? []).map((reason) => `the worker nearby is not ready: ${reason}`),
      ...(answer === 'refused' ? [`the worker nearby ${tokenRefused.what}: ${tokenRefused.remedy}`] : []),
    ];
    const status: Status = { stream: config.broker.stream, ...queues, ...kept, worker, problems };
    await io.stdout.write(options.json ? `${JSON.stringify(status)}\n` : asText(status, answer));
    return problems.length === 0 ? 0 : 1;
  },
});

async function askQueues(config: Config, io: CommandIo): Promise<Pick<Status, 'shards' | 'dead_letters' | 'unrouted'>> {
  const depths = await withBroker(config, io, (connection) => streamDepths(connection, config.broker, io.time));
  return { shards: depths.shards, dead_letters: depths.deadLetters, unrouted: depths.unrouted };
}

async function askStore(
  config: Config,
  io: CommandIo,
  countsParked: boolean,
): Promise<Pick<Status, 'halts' | 'layout' | 'parked'> & { readonly trouble: readonly string[] }> {
  try {
    return await withStore(config, io, async (store) => {
      const known = await withBroker(config, io, (connection) => recordOf(connection, config.broker.stream, io).read());
      const { halts, state } = await lookForHalts(store, known, io.time);
      const { level, detail, remedy } = layoutFinding(state.layout, config.broker);
      return {
        halts,
        layout: layoutFields(state.layout),
        parked: countsParked ? await countParked(store) : null,
        trouble: level === 'ok' ? [] : [`${detail}: ${remedy}`],
      };
    });
  } catch (error) {
    if (!(error instanceof UnavailableError)) throw error;
    return { halts: null, layout: null, parked: null, trouble: [`whether shards are halted is not known: ${error.message}`] };
  }
}

function layoutFields(layout: StreamLayout | null): Status['layout'] {
  return layout === null ? null : { version: layout.version, shards: layout.shards, exchange_type: layout.exchangeType };
}

async function countParked(store: Store): Promise<number> {
  let parked = 0;
  for await (const entity of store.listEntities({})) if (entity.parked !== null) parked++;
  return parked;
}

function asText({ stream, shards, dead_letters, unrouted, layout, parked, problems }: Status, worker: WorkerAnswer): string {
  const queues = [...shards, dead_letters, unrouted];
  const width = Math.max(...queues.map(({ queue }) => queue.length));
  const rows = queues.map(({ queue, ready, consumers }) => {
    const numbers = ready === null ? '  there is no such queue' : `${String(ready).padStart(9)}${String(consumers).padStart(11)}`;
    return `${queue.padEnd(width)}${numbers}`;
  });
  return [
    `${'queue'.padEnd(width)}    ready  consumers`,
    ...rows,
    '',
    ...(layout === null ? [] : [`on record: layout ${layout.version}, ${layout.shards} shards, ${layout.exchange_type}`]),
    ...(parked === null ? [] : [`parked entities: ${parked}`]),
    ...(worker === 'refused' ? [] : [worker === null ? `no worker of ${stream} answers at HTTP_HOST and HTTP_PORT` : workerAsText(worker)]),
    ...problems.map((problem) => `problem: ${problem}`),
    '',
  ].join('\n');
}

function workerAsText({ service, state, not_ready, shards }: WorkerStatus): string {
  const total = (pick: 'held' | 'gaps') => shards.reduce((sum, shard) => sum + shard[pick], 0);
  const readiness = not_ready.length === 0 ? '' : ` (not ready: ${not_ready.join('; ')})`;
  const worker = `worker ${service}: ${state}${readiness}, ${shards.length} shards, ${total('held')} held, ${total('gaps')} gaps`;
  return [worker, ...shards.flatMap(trialsAsText)].join('\n');
}

/** Why a shard is slow; a worker of an earlier version does not say it. */
export function trialsAsText({ shard, trials }: Pick<ShardStatus, 'shard' | 'trials'>): readonly string[] {
  if (trials == null) return [];
  const { accused, on_trial: onTrial } = trials;
  const named = (what: string, isMeant: (one: TrialsStatus['on_trial'][number]) => boolean) => {
    const names = onTrial
      .filter(isMeant)
      .map(({ entity_type, entity_id, sequence }) => `${entity_type} ${entity_id} ${sequence ?? ''}`.trimEnd());
    return names.length === 0 ? [] : [`${what}: ${printable(names.join(', '))}`];
  };
  const parts = [
    ...(accused === 0 ? [] : [`accused and tried alone: ${grouped(accused)}`]),
    ...named('alone now', ({ alone }) => alone),
    ...named('on record beside others', ({ alone }) => !alone),
  ];
  return parts.length === 0 ? [] : [`shard ${shard} looks for what its process died of: ${parts.join('; ')}`];
}

/** `inorder status`: the depths of the queues, halts, the worker nearby, and on request the number of parked entities. */
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/config.ts';
import { UnavailableError } from '../errors.ts';
import { askWorker, type WorkerStatus } from '../observability/worker-status.ts';
import { type QueueDepth, streamDepths, whyNobodyConsumes } from '../rabbitmq/queue-depths.ts';
import { haltText, lookForHalts } from '../stores/halts.ts';
import type { Halt, Store } from '../stores/store.ts';
import { withBroker, withStore } from './access.ts';
import { brokerVariables, type CommandIo, defineCommand, jsonOption, flag, stateStoreVariables, httpVariables } from './command.ts';
import { recordOf } from './shards-resume.ts';

interface Status {
  readonly stream: string;
  readonly shards: readonly QueueDepth[];
  readonly dead_letters: QueueDepth;
  readonly unrouted: QueueDepth;
  /** Null: the store did not answer. */
  readonly halts: readonly Halt[] | null;
  /** Null: not asked for, or the store did not answer. */
  readonly parked: number | null;
  /** Null: no worker answers at HTTP_HOST and HTTP_PORT. */
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
    'shards. Exit code 1 when a shard has no consumer or is halted, the store does not answer, or that worker is not ready.',
  ].join('\n'),
  positionals: [],
  options: {
    parked: flag('Also count the parked entities, which reads the whole store.'),
    json: jsonOption,
  },
  variables: [...brokerVariables, ...stateStoreVariables, 'SHARDS', ...httpVariables],
  async run({ options }, io) {
    const config = loadConfig(io.env);
    const [queues, worker, { trouble, ...kept }] = await Promise.all([
      askQueues(config, io),
      askWorker(config, io.time),
      askStore(config, io, options.parked),
    ]);
    const problems = [
      ...queues.shards.flatMap(whyNobodyConsumes),
      ...(kept.halts ?? []).map(haltText),
      ...trouble,
      ...(worker?.not_ready ?? []).map(ofWorker),
    ];
    const status: Status = { stream: config.broker.stream, ...queues, ...kept, worker, problems };
    await io.stdout.write(options.json ? `${JSON.stringify(status)}\n` : asText(status));
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
): Promise<Pick<Status, 'halts' | 'parked'> & { readonly trouble: readonly string[] }> {
  try {
    return await withStore(config, io, async (store) => {
      const known = await withBroker(config, io, (connection) => recordOf(connection, config.broker.stream, io).read());
      const { halts } = await lookForHalts(store, known, io.time);
      return { halts, parked: countsParked ? await countParked(store) : null, trouble: [] };
    });
  } catch (error) {
    if (!(error instanceof UnavailableError)) throw error;
    return { halts: null, parked: null, trouble: [`whether shards are halted is not known: ${error.message}`] };
  }
}

async function countParked(store: Store): Promise<number> {
  let parked = 0;
  for await (const entity of store.listEntities({})) if (entity.parked !== null) parked++;
  return parked;
}

function ofWorker(reason: string): string {
  return `the worker nearby is not ready: ${reason}`;
}

function asText({ stream, shards, dead_letters, unrouted, parked, worker, problems }: Status): string {
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
    ...(parked === null ? [] : [`parked entities: ${parked}`]),
    worker === null ? `no worker of ${stream} answers at HTTP_HOST and HTTP_PORT` : workerAsText(worker),
    ...problems.map((problem) => `problem: ${problem}`),
    '',
  ].join('\n');
}

function workerAsText({ service, state, not_ready, shards }: WorkerStatus): string {
  const total = (pick: 'held' | 'gaps') => shards.reduce((sum, shard) => sum + shard[pick], 0);
  const readiness = not_ready.length === 0 ? '' : ` (not ready: ${not_ready.join('; ')})`;
  return `worker ${service}: ${state}${readiness}, ${shards.length} shards, ${total('held')} held, ${total('gaps')} gaps`;
}

/** `inorder status`: how full the queues are, what the worker nearby does, and on request what is parked. */
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/config.ts';
import { askWorker, type WorkerReport } from '../observability/worker-report.ts';
import { queueDepths, type QueueDepth } from '../rabbitmq/queue-depths.ts';
import { deadLetterQueueName, shardQueueName, unroutedQueueName } from '../rabbitmq/topology-plan.ts';
import type { Store } from '../stores/store.ts';
import { withBroker } from './broker-access.ts';
import { defineCommand, jsonOption } from './command.ts';
import { withStore } from './store-access.ts';

interface Status {
  readonly stream: string;
  readonly shards: readonly QueueDepth[];
  readonly dead_letters: QueueDepth;
  readonly unrouted: QueueDepth;
  /** Null: it was not asked for. */
  readonly parked: number | null;
  /** Null: no worker answers at HTTP_HOST and HTTP_PORT. */
  readonly worker: WorkerReport | null;
}

export const command = defineCommand({
  name: 'status',
  summary: 'Depth of the queues, and what the worker nearby is doing.',
  description: [
    'Asks the broker how many messages wait in each queue (what a worker holds unacknowledged is not among',
    'them), and the worker at HTTP_HOST and HTTP_PORT, if one answers there, for its shards.',
  ].join('\n'),
  positionals: [],
  options: {
    parked: { kind: 'flag', meaning: 'Also count the parked entities, by reading all of the store.' },
    json: jsonOption,
  },
  variables: ['AMQP_URL', 'STATE_STORE', 'REDIS_URL', 'DATABASE_URL', 'STREAM', 'SHARDS', 'HTTP_HOST', 'HTTP_PORT'],
  async run({ options }, io) {
    const config = loadConfig(io.env);
    const [queues, worker, parked] = await Promise.all([
      askQueues(config),
      askWorker(config),
      options.parked ? withStore(config, io.stderr, countParked) : null,
    ]);
    const status: Status = { stream: config.broker.stream, ...queues, parked, worker };
    await io.stdout.write(options.json ? `${JSON.stringify(status)}\n` : asText(status));
    return 0;
  },
});

async function askQueues(config: Config): Promise<Pick<Status, 'shards' | 'dead_letters' | 'unrouted'>> {
  const { stream, shards } = config.broker;
  const names = Array.from({ length: shards }, (_, shard) => shardQueueName(stream, shard));
  const depths = await withBroker(config, (connection) =>
    queueDepths(connection, [...names, deadLetterQueueName(stream), unroutedQueueName(stream)]),
  );
  return { shards: depths.slice(0, shards), dead_letters: depths[shards]!, unrouted: depths[shards + 1]! };
}

async function countParked(store: Store): Promise<number> {
  let parked = 0;
  for await (const entity of store.listEntities({})) if (entity.parked !== null) parked++;
  return parked;
}

function asText({ stream, shards, dead_letters, unrouted, parked, worker }: Status): string {
  const queues = [...shards, dead_letters, unrouted];
  const width = Math.max(...queues.map(({ queue }) => queue.length));
  const rows = queues.map(({ queue, ready, consumers }) => {
    const numbers =
      ready === null ? '  there is no such queue' : `${String(ready).padStart(9)}${String(consumers).padStart(11)}`;
    return `${queue.padEnd(width)}${numbers}`;
  });
  return [
    `${'queue'.padEnd(width)}    ready  consumers`,
    ...rows,
    '',
    ...(parked === null ? [] : [`parked entities: ${parked}`]),
    worker === null ? `no worker of ${stream} answers at HTTP_HOST and HTTP_PORT` : workerAsText(worker),
    '',
  ].join('\n');
}

function workerAsText({ service, state, not_ready, shards }: WorkerReport): string {
  const total = (pick: 'held' | 'gaps') => shards.reduce((sum, shard) => sum + shard[pick], 0);
  const readiness = not_ready.length === 0 ? '' : ` (not ready: ${not_ready.join('; ')})`;
  return `worker ${service}: ${state}${readiness}, ${shards.length} shards, ${total('held')} held, ${total('gaps')} gaps`;
}

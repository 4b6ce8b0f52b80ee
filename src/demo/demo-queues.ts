/** The demo's part of broker and store: how full its queues are, and the removal of everything that its stream has in either. */
import type { ChannelModel } from 'amqplib';
import { deadLetterQueueName, type TopologyPlan } from '../rabbitmq/topology-plan.ts';
import { queueDepths } from '../rabbitmq/queue-depths.ts';
import type { Time } from '../time.ts';
import { Connection } from '../stores/redis/connection.ts';
import { parseRedisUrl } from '../stores/redis/redis-url.ts';

export interface Depths {
  /** Messages ready in the shard queues. */
  readonly shards: number;
  readonly deadLetters: number;
  readonly unrouted: number;
}

export async function readDepths(connection: ChannelModel, plan: TopologyPlan, time: Time): Promise<Depths> {
  const depths = await queueDepths(
    connection,
    plan.queues.map(({ name }) => name),
    time,
  );
  const of = (wanted: (queue: string) => boolean) =>
    depths.filter(({ queue }) => wanted(queue)).reduce((sum, { ready }) => sum + (ready ?? 0), 0);
  const deadLetters = deadLetterQueueName(plan.stream);
  return {
    shards: of((queue) => queue.startsWith(`${plan.stream}.shard.`)),
    deadLetters: of((queue) => queue === deadLetters),
    unrouted: of((queue) => queue === `${plan.stream}.unrouted`),
  };
}

export async function removeTopology(connection: ChannelModel, plan: TopologyPlan): Promise<void> {
  const channel = await connection.createChannel();
  for (const { name } of [...plan.queues, plan.record.queue]) await channel.deleteQueue(name);
  for (const { name } of [...plan.exchanges, plan.record.exchange]) await channel.deleteExchange(name);
  await channel.close();
}

const pageSize = 1_000;
const commandTimeoutMs = 5_000;

/** `stream` is a name without characters that mean something in a pattern. */
export async function removeKeys(redisUrl: string, stream: string, time: Time): Promise<void> {
  const connection = new Connection({ target: parseRedisUrl(redisUrl), commandTimeoutMs, log: undefined, onReconnect: undefined, time });
  try {
    for (const master of await connection.masters()) {
      let cursor = '0';
      do {
        const [next, keys] = await master.scan(cursor, 'MATCH', `inorder:${stream}:*`, 'COUNT', pageSize);
        await connection.send(keys.map((key) => ['UNLINK', key]));
        cursor = next;
      } while (cursor !== '0');
    }
  } finally {
    await connection.close();
  }
}

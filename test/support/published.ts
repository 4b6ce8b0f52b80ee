/** A stream with two shards and no worker, and what has been published to it. */
import amqp from 'amqplib';
import type { TestContext } from 'node:test';
import { removeStream } from '../../deploy/local/stream-removal.ts';
import type { RawMessage } from '../../src/events/event.ts';
import { toRawMessage } from '../../src/rabbitmq/channels.ts';
import { applyTopology } from '../../src/rabbitmq/topology.ts';
import { planTopology, shardQueueName } from '../../src/rabbitmq/topology-plan.ts';
import { systemTime } from '../../src/time.ts';
import { uniqueStream, useServices, waitFor } from './services.ts';

const shards = 2;

/** Declares a stream of its own for a test, and removes it after it. */
export async function useTopology(t: TestContext, name: string) {
  const { amqpUrl, redisUrl } = await useServices(t);
  const stream = uniqueStream(name);
  const plan = planTopology({ stream, shards, queueType: 'quorum', exchangeType: 'x-consistent-hash' });
  const connection = await amqp.connect(amqpUrl);
  await applyTopology({ ready: async () => connection, time: systemTime }, plan);
  await connection.close();
  t.after(() => removeStream({ amqpUrl, redisUrl }, stream, shards));
  return { amqpUrl, stream, variables: { AMQP_URL: amqpUrl, REDIS_URL: redisUrl, STREAM: stream } };
}

/** Takes everything out of the shards; within each shard in its order. */
export async function messagesOf(amqpUrl: string, stream: string): Promise<RawMessage[]> {
  const connection = await amqp.connect(amqpUrl);
  try {
    const messages: RawMessage[] = [];
    for (let shard = 0; shard < shards; shard++) {
      // A queue with a single active consumer refuses basic.get.
      const channel = await connection.createChannel();
      const queue = shardQueueName(stream, shard);
      const wanted = messages.length + (await channel.checkQueue(queue)).messageCount;
      await channel.consume(queue, (message) => message !== null && messages.push(toRawMessage(message)), {
        noAck: true,
      });
      await waitFor(() => messages.length >= wanted, { what: `${wanted} messages` });
      await channel.close();
    }
    return messages;
  } finally {
    await connection.close();
  }
}

export interface Envelope {
  readonly entity_id: string;
  readonly sequence: number;
  readonly type: string;
  readonly data: any;
}

export async function bodiesOf(amqpUrl: string, stream: string): Promise<Envelope[]> {
  return (await messagesOf(amqpUrl, stream)).map(({ body }) => JSON.parse(Buffer.from(body).toString()));
}

/** Without repetitions of what came before. */
export function firstArrivals(bodies: readonly Envelope[]): Envelope[] {
  const seen = new Set<string>();
  return bodies.filter(({ entity_id, sequence }) => {
    const key = `${sequence} ${entity_id}`;
    return !seen.has(key) && seen.add(key);
  });
}

/** Events that came behind a later one of their entity. */
export function outOfOrder(bodies: readonly Envelope[]): Envelope[] {
  const last = new Map<string, number>();
  return bodies.filter(({ entity_id, sequence }) => {
    const before = last.get(entity_id) ?? 0;
    last.set(entity_id, Math.max(before, sequence));
    return sequence < before;
  });
}

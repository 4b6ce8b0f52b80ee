/**
 * The recipe as it is written: prefetch 1, and for each message EXISTS, GET, SET, SETEX, each awaited, then the
 * acknowledgement, then the next message. With `parallel` it does so for each shard by itself, so that as many messages
 * are under way as there are shards; the recipe does not say so, but a good programmer might.
 * A program of its own; it prints how long it took from the first delivery to the last acknowledgement.
 */
import amqp from 'amqplib';
import { Redis } from 'ioredis';
import { readTask, report } from './task.ts';

const idempotencyTtlSeconds = 86_400;

interface Order {
  version: number;
  items: unknown[];
  status: string;
}

interface OrderEvent {
  readonly id: string;
  readonly entity_id: string;
  readonly sequence: number;
  readonly type: string;
  readonly data: { readonly items?: unknown[]; readonly item?: unknown };
}

const task = readTask();
const redis = new Redis(task.redisUrl);
const connection = await amqp.connect(task.amqpUrl, { noDelay: true });
let turn: Promise<void> = Promise.resolve();
let startedMs = 0;
let acknowledged = 0;
let finish: () => void = () => undefined;
let fail: (error: unknown) => void = () => undefined;
const finished = new Promise<void>((resolve, reject) => {
  finish = resolve;
  fail = reject;
});

async function handle(channel: amqp.Channel, message: amqp.ConsumeMessage): Promise<void> {
  const event = JSON.parse(message.content.toString()) as OrderEvent;
  const processedKey = `${task.keyPrefix}:processed:${event.id}`;
  if ((await redis.exists(processedKey)) === 0) {
    const orderKey = `${task.keyPrefix}:order:${event.entity_id}`;
    const stored = await redis.get(orderKey);
    const order: Order = stored === null ? { version: 0, items: [], status: 'none' } : (JSON.parse(stored) as Order);
    if (event.sequence !== order.version + 1) throw new Error(`${event.id} follows version ${order.version}`);
    await redis.set(orderKey, JSON.stringify(apply(order, event)));
    await redis.setex(processedKey, idempotencyTtlSeconds, '1');
  }
  channel.ack(message);
  if (++acknowledged === task.events) finish();
}

function apply(order: Order, event: OrderEvent): Order {
  order.version = event.sequence;
  order.status = event.type;
  if (event.data.items !== undefined) order.items.push(...event.data.items);
  if (event.data.item !== undefined) order.items.push(event.data.item);
  return order;
}

for (const queue of task.queues) {
  const channel = await connection.createChannel();
  await channel.prefetch(1);
  await channel.consume(queue, (message) => {
    if (message === null) return fail(new Error(`the broker cancelled the consumer of ${queue}`));
    if (startedMs === 0) startedMs = performance.now();
    if (task.parallel) handle(channel, message).catch(fail);
    else turn = turn.then(() => handle(channel, message)).catch(fail);
  });
}
await finished;
report({ events: task.events, durationMs: performance.now() - startedMs });
await connection.close();
await redis.quit();

/**
 * The limit: a consumer that does nothing but acknowledge each message, on a channel per shard as Inorder has them.
 * A program of its own; it prints how long it took from the first delivery to the last acknowledgement.
 */
import amqp from 'amqplib';
import { readTask, report } from './task.ts';

const task = readTask();
const connection = await amqp.connect(task.amqpUrl, { noDelay: true });
let startedMs = 0;
let acknowledged = 0;
let finish: () => void = () => undefined;
const finished = new Promise<void>((resolve) => {
  finish = resolve;
});

for (const queue of task.queues) {
  const channel = await connection.createChannel();
  await channel.prefetch(task.prefetch);
  await channel.consume(queue, (message) => {
    if (message === null) throw new Error(`the broker cancelled the consumer of ${queue}`);
    if (acknowledged === 0) startedMs = performance.now();
    channel.ack(message);
    if (++acknowledged === task.events) finish();
  });
}
await finished;
report({ events: task.events, durationMs: performance.now() - startedMs });
await connection.close();

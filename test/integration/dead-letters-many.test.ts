/** A hundred thousand dead letters: read in bounded memory, and left as they were. */
import assert from 'node:assert/strict';
import test from 'node:test';
import amqp, { type ConsumeMessage } from 'amqplib';
import { deadLetterQueueName } from '../../src/rabbitmq/topology-plan.ts';
import { runCommand } from '../support/command-process.ts';
import { waitFor } from '../support/services.ts';
import { useTopology } from '../support/published.ts';

const count = 100_000;
const bodyBytes = 1_024;
/** Enough for the command itself, and for a small part of the letters. */
const heapMegabytes = 40;

test(`${count} dead letters are listed in a heap of ${heapMegabytes} MiB, oldest first, and lie there as before`, async (t) => {
  const { amqpUrl, stream, variables } = await useTopology(t, 'many');
  const connection = await amqp.connect(amqpUrl);
  t.after(() => connection.close());
  const channel = await connection.createConfirmChannel();
  const queue = deadLetterQueueName(stream);
  for (let sequence = 1; sequence <= count; sequence++) {
    const start = `{"id":"e${sequence}","entity_id":"e-${sequence % 997}","sequence":${sequence},"type":"Happened","data":"`;
    channel.publish('', queue, Buffer.from(`${start.padEnd(bodyBytes - 2, 'x')}"}`), { persistent: true, contentType: 'application/json' });
    if (sequence % 1_000 === 0) await channel.waitForConfirms();
  }
  await waitFor(async () => (await channel.checkQueue(queue)).messageCount === count, { what: 'the dead letters' });

  const limits = { NODE_OPTIONS: `--max-old-space-size=${heapMegabytes}` };
  const listing = await runCommand(['dead-letters', 'list', '--json'], { ...variables, ...limits });
  assert.deepEqual([listing.code, listing.stderr], [0, '']);
  const listed = listing.stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line).sequence as number);
  assert.equal(
    listed.findIndex((sequence, index) => sequence !== index + 1),
    -1,
  );
  assert.equal(listed.length, count);

  // What the command still had, the broker takes back when its connection has ended.
  await waitFor(async () => (await channel.checkQueue(queue)).messageCount === count, {
    what: 'all of them back in the queue',
    timeoutMs: 30_000,
  });
  let place = 0;
  let displaced = 0;
  const draining = await connection.createChannel();
  const next = (message: ConsumeMessage | null) => {
    if (message !== null && JSON.parse(message.content.toString()).sequence !== ++place) displaced++;
  };
  await draining.consume(queue, next, { noAck: true });
  await waitFor(() => place === count, { what: 'all of them drained', timeoutMs: 60_000 });
  assert.equal(displaced, 0);
});

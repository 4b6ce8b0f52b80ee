/**
 * The consistent-hash ring is not a promise: it may come up differently after a cold restart, and it changes
 * when a shard is added. Then one entity's events sit in two queues with two owners, and the versions in the
 * store have to absorb it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import amqp from 'amqplib';
import { runCommand } from '../support/command-process.ts';
import { uniqueStream, useRabbitNode, useServices } from '../support/services.ts';
import { interleaved, publishTrace, shuffled, untilApplied } from '../support/trace.ts';
import { WorkerProcess } from '../support/worker-process.ts';

const entities = 60;
const length = 20;

/** Reads what lies in each queue without taking it: the entities, by queue. */
async function entitiesByQueue(amqpUrl: string, queues: readonly string[]): Promise<Map<string, Set<string>>> {
  const connection = await amqp.connect(amqpUrl);
  const found = new Map<string, Set<string>>();
  for (const queue of queues) {
    const channel = await connection.createChannel();
    const { messageCount } = await channel.checkQueue(queue);
    const seen = new Set<string>();
    let count = 0;
    await new Promise<void>((resolve, reject) => {
      if (messageCount === 0) resolve();
      else {
        const onMessage = (message: amqp.ConsumeMessage | null) => {
          if (message === null) return;
          seen.add(message.fields.routingKey);
          if (++count === messageCount) resolve();
        };
        channel.consume(queue, onMessage).catch(reject);
      }
    });
    await channel.close();
    found.set(queue, seen);
  }
  await connection.close();
  return found;
}

test('an entity whose events sit in two queues with two owners is applied in order', async (t) => {
  const { redisUrl } = await useServices(t);
  const node = await useRabbitNode(t);
  const stream = uniqueStream('ring');
  const queue = (shard: number) => `${stream}.shard.${String(shard).padStart(3, '0')}`;
  const variables = { AMQP_URL: node.amqpUrl, REDIS_URL: redisUrl, STREAM: stream, PROCESSOR: 'history', GAP_TIMEOUT_MS: '120000' };

  // The topology with four shards, then the first half of the events, which nobody consumes yet.
  const first = await WorkerProcess.ready(t, { ...variables, SHARDS: '4' });
  first.signal('SIGTERM');
  assert.deepEqual(await first.exited, { code: 0, signal: null });
  const events = interleaved(entities, length);
  const half = events.length / 2;
  await publishTrace(node.amqpUrl, stream, shuffled(events.slice(0, half), 100));
  const before = await entitiesByQueue(node.amqpUrl, [0, 1, 2, 3].map(queue));

  // Bind again in another order, add a shard at the end, and restart the broker cold.
  const connection = await amqp.connect(node.amqpUrl);
  const channel = await connection.createChannel();
  for (const shard of [0, 1, 2, 3]) await channel.unbindQueue(queue(shard), stream, '1');
  await connection.close();
  const { code, stderr } = await runCommand(['topology', 'apply'], { ...variables, SHARDS: '5' });
  assert.deepEqual([code, stderr], [0, '']);
  await node.restart();

  await publishTrace(node.amqpUrl, stream, shuffled(events.slice(half), 100));
  const after = await entitiesByQueue(node.amqpUrl, [0, 1, 2, 3, 4].map(queue));
  const homes = new Map<string, Set<string>>();
  for (const found of [before, after]) {
    for (const [name, members] of found) {
      for (const entity of members) homes.set(entity, (homes.get(entity) ?? new Set()).add(name));
    }
  }
  const split = [...homes.values()].filter((queues) => queues.size > 1).length;
  assert.ok(split > 0, 'the ring has changed for at least one entity');
  t.diagnostic(`${split} of ${entities} entities sit in two queues`);

  const owners = await Promise.all(
    ['0-1', '2-4'].map((shards) => WorkerProcess.ready(t, { ...variables, SHARDS: '5', WORKER_SHARDS: shards })),
  );
  await untilApplied(redisUrl, stream, entities, length);
  let applied = 0;
  for (const owner of owners) applied += await owner.metric('inorder_events_total', { outcome: 'applied' });
  assert.equal(applied, events.length);
});

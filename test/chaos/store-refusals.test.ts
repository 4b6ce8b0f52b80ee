/**
 * Redis answers and refuses, sleeps, holds what is not ours, or comes back with an old copy: the shards pause or stop
 * and say why, nothing is dead-lettered, and what can drain drains.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { redisCommand } from '../../deploy/local/redis-node.ts';
import { Keys } from '../../src/stores/redis/keys.ts';
import { useRedisNode, useServices, waitFor } from '../support/services.ts';
import { StreamRun, untilConsuming, untilPaused } from '../support/stream-run.ts';
import { interleaved, readTraces, shuffled } from '../support/trace.ts';

const entities = 50;
const length = 20;
const total = entities * length;
const events = (prefix?: string) => shuffled(interleaved(entities, length, prefix), 100);

async function setUp(t: TestContext, name: string, configLines: readonly string[] = []) {
  const { amqpUrl } = await useServices(t);
  const redis = await useRedisNode(t, { configLines });
  const run = new StreamRun(t, name, { amqpUrl, redisUrl: redis.redisUrl });
  return { redis, run, command: (text: string) => redisCommand(redis.port, text) };
}

const refusals = [
  { what: 'whose memory is full', from: 'CONFIG SET maxmemory 1', until: 'CONFIG SET maxmemory 0', says: /maxmemory/ },
  { what: 'that has become a replica', from: 'REPLICAOF 127.0.0.1 1', until: 'REPLICAOF NO ONE', says: /replica/ },
  {
    what: 'that has taken a right away',
    from: 'ACL SETUSER default -evalsha',
    until: 'ACL SETUSER default +evalsha',
    says: /may not do this/,
  },
];

for (const { what, from, until, says } of refusals) {
  test(`a store ${what} pauses the shards, which drain when it serves again`, async (t) => {
    const { run, command } = await setUp(t, 'refusing');
    const worker = await run.worker();
    await run.publish(events('before'));
    await run.untilApplied(total);
    await command(from);
    await run.publish(events('during'));
    await untilPaused(worker);
    assert.match(worker.output, says);
    assert.equal(await run.applied(), total);
    await command(until);
    await untilConsuming(worker);
    await run.assertBalanced(2 * entities, length);
  });
}

test('a worker with nothing to do is not ready while the store only reads, and is again', async (t) => {
  const { run, command } = await setUp(t, 'idle');
  const worker = await run.worker();
  for (const { what, from, until, says } of refusals.slice(0, 2)) {
    await command(from);
    const readiness = await waitFor(
      async () => {
        const { status, body } = await worker.get('/readyz');
        return status === 503 ? body : null;
      },
      { what: `a worker that is not ready for a store ${what}` },
    );
    assert.match(readiness, /the store takes no writes: /);
    assert.match(readiness, says);
    assert.equal((await worker.get('/healthz')).status, 200);
    await command(until);
    await worker.untilReady();
  }
});

test('a store that sleeps for longer than a command may take is waited for', async (t) => {
  const { run, command } = await setUp(t, 'sleeping', ['enable-debug-command local']);
  const worker = await run.worker();
  await run.publish(events('before'));
  await run.untilApplied(total);
  const asleep = command('DEBUG SLEEP 7').catch(() => undefined);
  await run.publish(events('during'));
  await untilPaused(worker);
  await asleep;
  await run.assertBalanced(2 * entities, length);
});

test('an entity whose key holds something else waits alone, and is applied in order once the key is free', async (t) => {
  const { run, command } = await setUp(t, 'wrong-type');
  const key = new Keys(run.stream).entity({ entityType: 'trace', entityId: 'entity-3' });
  await command(`SET ${key} something`);
  const worker = await run.worker();
  const all = interleaved(entities, length);
  const half = total / 2;
  await run.publish(shuffled(all.slice(0, half), 100));
  await run.untilApplied(half - length / 2);
  await waitFor(() => worker.output.includes(`${key}: WRONGTYPE`), { what: 'the worker naming the key' });
  // The others go on meanwhile, in the same shard as well.
  await run.publish(shuffled(all.slice(half), 100));
  await run.untilApplied(total - length);
  assert.equal((await readTraces(run.redisUrl, run.stream)).get('entity-3'), undefined);
  assert.equal(await worker.metric('inorder_events_total', { outcome: 'dead-lettered' }), 0);
  await command(`DEL ${key}`);
  await run.assertBalanced(entities, length);
});

test('a store that comes back with an older copy stops the shards before anything is applied to it', async (t) => {
  const { redis, run, command } = await setUp(t, 'old-copy');
  const worker = await run.worker();
  const all = interleaved(entities, 3 * length);
  await run.publish(all.slice(0, total));
  await run.untilApplied(total);
  // The shards have their epochs already: only the entities show that the copy is old.
  await command('SAVE');
  await run.publish(all.slice(total, 2 * total));
  await run.untilApplied(2 * total);
  await redis.kill();
  await redis.restart();
  await run.publish(all.slice(2 * total));
  await waitFor(() => worker.output.includes('the store went backwards'), { what: 'the shards stopping', timeoutMs: 30_000 });
  const readiness = await worker.get('/readyz');
  assert.equal(readiness.status, 503);
  assert.match(readiness.body, /went backwards/);
  await waitFor(async () => (await worker.status()).shards.every(({ state }: { state: string }) => state === 'halted'), {
    what: 'both shards halted',
  });
  await run.end(worker);
  // Nothing was applied to the old copy, and nothing that was published is lost.
  assert.equal(await run.applied(), total);
  assert.equal((await run.ready(run.queue(0))) + (await run.ready(run.queue(1))), total);
  assert.equal(await run.ready(run.deadLetters), 0);
});

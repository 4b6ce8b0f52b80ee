/**
 * A store that freezes, restarts, forgets its scripts or everything: an unavailable store dead-letters
 * nothing, an unknown outcome is asked again, and a store that went backwards stops the shards.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { redisCommand } from '../../deploy/local/redis-node.ts';
import { uniqueStream, useRedisNode, useServices, waitFor } from '../support/services.ts';
import { interleaved, publishTrace, readTraces, readyCount, shuffled, untilApplied } from '../support/trace.ts';
import { WorkerProcess } from '../support/worker-process.ts';

const entities = 100;
const length = 20;

async function setUp(t: TestContext, name: string) {
  const { amqpUrl } = await useServices(t);
  const redis = await useRedisNode(t, { appendonly: true });
  const stream = uniqueStream(name);
  const variables = {
    AMQP_URL: amqpUrl,
    REDIS_URL: redis.redisUrl,
    STREAM: stream,
    SHARDS: '2',
    PROCESSOR: 'history',
    GAP_TIMEOUT_MS: '120000',
  };
  const port = Number(new URL(redis.redisUrl).port);
  return { amqpUrl, redis, stream, variables, command: (text: string) => redisCommand(port, text) };
}

test('a store that freezes in mid-stream pauses the shards; nothing is dead-lettered', async (t) => {
  const { amqpUrl, redis, stream, variables, command } = await setUp(t, 'frozen-store');
  const worker = await WorkerProcess.ready(t, variables);
  await command('CLIENT PAUSE 10000 ALL');
  await publishTrace(amqpUrl, stream, shuffled(interleaved(entities, length), 200));
  await waitFor(async () => (await worker.metric('inorder_store_unavailable_total')) > 0, {
    what: 'a call without an answer',
    timeoutMs: 30_000,
  });
  await untilApplied(redis.redisUrl, stream, entities, length);
  assert.equal(await readyCount(amqpUrl, `${stream}.dead-letters`), 0);
});

test('a store that is killed and restarted is asked again, and every event is applied once', async (t) => {
  const { amqpUrl, redis, stream, variables, command } = await setUp(t, 'killed-store');
  await command('CONFIG SET appendfsync always');
  await WorkerProcess.ready(t, variables);
  await publishTrace(amqpUrl, stream, shuffled(interleaved(entities, length, 'a'), 200));
  await waitFor(async () => (await readTraces(redis.redisUrl, stream)).size > 0, { what: 'the first events applied' });
  await redis.kill();
  await publishTrace(amqpUrl, stream, shuffled(interleaved(entities, length, 'b'), 200));
  await redis.restart();
  await untilApplied(redis.redisUrl, stream, 2 * entities, length);
  assert.equal(await readyCount(amqpUrl, `${stream}.dead-letters`), 0);
});

test('a store that forgets its scripts and drops its clients is no trouble', async (t) => {
  const { amqpUrl, redis, stream, variables, command } = await setUp(t, 'scripts');
  await WorkerProcess.ready(t, variables);
  const publishing = publishTrace(amqpUrl, stream, shuffled(interleaved(entities, length), 200));
  for (let round = 0; round < 3; round++) {
    await command('SCRIPT FLUSH');
    await command('CLIENT KILL TYPE normal SKIPME yes');
  }
  await publishing;
  await untilApplied(redis.redisUrl, stream, entities, length);
});

test('a store that is emptied stops the shards, which say so and apply nothing more', async (t) => {
  const { amqpUrl, redis, stream, variables, command } = await setUp(t, 'emptied');
  const worker = await WorkerProcess.ready(t, variables);
  await publishTrace(amqpUrl, stream, interleaved(20, 5));
  await untilApplied(redis.redisUrl, stream, 20, 5);
  await command('FLUSHALL');
  await waitFor(() => worker.output.includes('the store went backwards'), { what: 'the shards stopping', timeoutMs: 30_000 });
  const readiness = await worker.get('/readyz');
  assert.equal(readiness.status, 503);
  assert.match(readiness.body, /went backwards/);
  assert.equal((await worker.get('/healthz')).status, 200, 'the process itself is well');
  await publishTrace(amqpUrl, stream, interleaved(20, 5, 'new'));
  assert.equal((await readTraces(redis.redisUrl, stream)).size, 0);
});

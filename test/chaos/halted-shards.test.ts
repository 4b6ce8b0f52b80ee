/**
 * A store that was emptied, is an old copy or another one: the shards are halted for every worker and every restart, nothing is applied
 * to it and nothing dead-lettered, and whoever looks is told, until an operator says that the store is right.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import amqp from 'amqplib';
import pg from 'pg';
import { PostgresNode } from '../../deploy/local/postgres-node.ts';
import { redisCommand } from '../../deploy/local/redis-node.ts';
import { Keys } from '../../src/stores/redis/keys.ts';
import { keptIo, runHere } from '../support/command-io.ts';
import { needsPostgresBinaries } from '../support/postgres.ts';
import { useRabbitNode, useRedisNode, useServices, waitFor } from '../support/services.ts';
import { shardStates, StreamRun } from '../support/stream-run.ts';
import { interleaved } from '../support/trace.ts';
import { WorkerProcess } from '../support/worker-process.ts';

const entities = 20;
const length = 5;
const total = entities * length;
const first = interleaved(entities, length);
/** The next events of the same entities. */
const more = interleaved(entities, 2 * length).slice(total);

interface StoreUnderTest {
  readonly variables: Readonly<Record<string, string>>;
  readonly url: string;
  readonly redisUrl: string;
  empty(): Promise<unknown>;
}

async function redisStore(t: TestContext): Promise<StoreUnderTest> {
  const { redisUrl, port } = await useRedisNode(t);
  return { variables: { REDIS_URL: redisUrl }, url: redisUrl, redisUrl, empty: () => redisCommand(port, 'FLUSHALL') };
}

async function postgresStore(t: TestContext): Promise<StoreUnderTest> {
  const node = await PostgresNode.start();
  t.after(() => node.stop());
  const empty = async () => {
    const client = new pg.Client({ connectionString: node.url });
    await client.connect();
    await client.query('TRUNCATE inorder.streams, inorder.entities, inorder.applied, inorder.applied_ids').finally(() => client.end());
  };
  return { variables: { STATE_STORE: 'postgres', DATABASE_URL: node.url }, url: node.url, redisUrl: '', empty };
}

async function setUp(t: TestContext, name: string, store: StoreUnderTest, extra: Record<string, string> = {}) {
  const { amqpUrl } = await useServices(t);
  const variables = { ...store.variables, ...extra };
  const run = new StreamRun(t, name, { amqpUrl, redisUrl: store.redisUrl, storeUrl: store.url, variables });
  const environment = { AMQP_URL: amqpUrl, STREAM: run.stream, SHARDS: '2', PROCESSOR: 'history', ...variables };
  const inorder = async (...words: readonly string[]) => {
    const { io, out } = keptIo({ env: { ...environment, HTTP_PORT: '0' } });
    return { code: await runHere(words, io), ...out };
  };
  const halted = async (override: Record<string, string> = {}) => {
    const worker = await WorkerProcess.start(t, { ...environment, GAP_TIMEOUT_MS: '120000', ...override });
    await untilHalted(worker);
    return worker;
  };
  return { run, inorder, halted, amqpUrl };
}

async function untilHalted(worker: WorkerProcess): Promise<void> {
  const isHalted = async () => (await shardStates(worker).catch(() => ({}) as Record<string, number>))['halted'] === 2;
  await waitFor(isHalted, { what: () => `both shards halted\n${worker.output}`, timeoutMs: 60_000 });
  const { status, body } = await worker.get('/readyz');
  assert.deepEqual([status, /the store went backwards/.test(body)], [503, true], body);
  assert.equal(await worker.metric('inorder_shard_state', { state: 'halted' }), 2);
}

for (const [kind, useStore, FIRST_SEQUENCE] of [
  ['Redis', redisStore, '1'],
  ['Redis', redisStore, 'any'],
  ['PostgreSQL', postgresStore, '1'],
] as const) {
  const options = kind === 'PostgreSQL' ? needsPostgresBinaries : {};
  test(
    `a plain restart on an emptied store is refused until an operator says so (${kind}, FIRST_SEQUENCE=${FIRST_SEQUENCE})`,
    options,
    async (t) => {
      const store = await useStore(t);
      const { run, inorder, halted } = await setUp(t, 'emptied-restart', store, { FIRST_SEQUENCE });
      const before = await run.worker();
      await run.publish(first);
      await run.untilApplied(total);
      await run.end(before);
      await store.empty();
      await run.publish(more);
      const [one, other] = [await halted(), await halted()];
      assert.deepEqual(
        [(await run.ready(run.queue(0))) + (await run.ready(run.queue(1))), await run.ready(run.deadLetters), await run.applied()],
        [total, 0, 0],
      );
      const status = await inorder('status');
      assert.equal(status.code, 1);
      assert.match(status.stdout, /^problem: every shard is halted, .*this one knows nothing of it$/m);

      const resumed = await inorder('shards', 'resume', '--why=moved on purpose', '--yes');
      assert.equal(resumed.code, 0, resumed.stderr);
      for (const worker of [one, other]) await worker.untilReady();
      if (FIRST_SEQUENCE === 'any') await run.untilApplied(entities * 2 * length, 60_000);
      await waitFor(async () => (await inorder('status')).code === 0, { what: 'a stream that works', timeoutMs: 60_000 });
    },
  );
}

test('a shard that halts is halted for its standby as well, and for whoever is started later', async (t) => {
  const redis = await useRedisNode(t);
  const { run, inorder, halted } = await setUp(t, 'halted-standby', {
    variables: { REDIS_URL: redis.redisUrl },
    url: redis.redisUrl,
    redisUrl: redis.redisUrl,
    empty: async () => {},
  });
  const active = await run.worker();
  const standby = await run.worker();
  await run.publish(first);
  await run.untilApplied(total);
  // Both have their epochs already: only the entities show that the copy is old, and only to the one that has seen them.
  await redisCommand(redis.port, 'SAVE');
  await run.publish(more);
  await run.untilApplied(2 * total);
  await redis.kill();
  await redis.restart();
  await run.publish(interleaved(entities, 3 * length).slice(2 * total));
  for (const worker of [active, standby]) await untilHalted(worker);
  await run.end(active);
  await run.end(standby);
  const later = await halted();
  assert.deepEqual([await run.applied(), await run.ready(run.deadLetters)], [total, 0]);
  assert.equal((await run.ready(run.queue(0))) + (await run.ready(run.queue(1))), total);
  assert.equal((await inorder('doctor')).code, 1);
  await later.kill();
});

test('an older copy that is restored while nobody looks is refused at the start', async (t) => {
  const redis = await useRedisNode(t);
  const { run, inorder, halted } = await setUp(t, 'old-dump', {
    variables: { REDIS_URL: redis.redisUrl },
    url: redis.redisUrl,
    redisUrl: redis.redisUrl,
    empty: async () => {},
  });
  const before = await run.worker();
  await run.publish(first);
  await run.untilApplied(total);
  await redisCommand(redis.port, 'SAVE');
  await run.end(before);
  const after = await run.worker();
  await run.publish(more);
  await run.untilApplied(2 * total);
  await run.end(after);
  await redis.kill();
  await redis.restart();
  await halted();
  assert.match((await inorder('status')).stdout, /it is an older copy$/m);
  assert.deepEqual([await run.applied(), await run.ready(run.deadLetters)], [total, 0]);
});

test('a worker with the URL of another store is halted alone; the stream goes on', async (t) => {
  const [right, wrong] = [await redisStore(t), await redisStore(t)];
  const { run, inorder, halted } = await setUp(t, 'wrong-url', right);
  const worker = await run.worker();
  await run.publish(first);
  await run.untilApplied(total);
  await halted({ REDIS_URL: wrong.redisUrl });
  await run.publish(more);
  await run.untilApplied(2 * total);
  await waitFor(async () => (await inorder('status')).code === 0, { what: 'a stream that works' });
  await run.end(worker);
});

test('a stream of a version without records is taken over with its store, and refused with an empty one', async (t) => {
  const store = await redisStore(t);
  const { run, inorder, halted, amqpUrl } = await setUp(t, 'upgrade', store);
  const before = await run.worker();
  await run.publish(first);
  await run.untilApplied(total);
  await run.end(before);
  const forget = async () => {
    const connection = await amqp.connect(amqpUrl);
    const channel = await connection.createChannel();
    await channel.deleteQueue(`${run.stream}.store`);
    await channel.deleteExchange(`${run.stream}.store`);
    await connection.close();
  };
  await forget();
  await redisCommand(Number(new URL(store.redisUrl).port), `DEL ${new Keys(run.stream).streamState}`);
  const after = await run.worker();
  await run.publish(more);
  await run.untilApplied(2 * total);
  await run.end(after);
  await forget();
  await store.empty();
  await halted();
  assert.match((await inorder('status')).stdout, /knows nothing of this stream, which was there before$/m);
});

test('a worker that starts under a memory alarm of the broker works and empties the queues, and notes its epochs when the alarm is over', async (t) => {
  const [node, redis] = [await useRabbitNode(t), await useRedisNode(t)];
  const run = new StreamRun(t, 'alarm', { amqpUrl: node.amqpUrl, redisUrl: redis.redisUrl });
  const before = await run.worker();
  await run.publish(first);
  await run.untilApplied(total);
  await run.end(before);
  await run.publish(more);
  await node.ctl('set_vm_memory_high_watermark', 'absolute', '1');
  const worker = await run.worker();
  await run.untilApplied(2 * total);
  const kept = async () => (await node.ctl('-q', 'list_queues', '--no-table-headers', 'name', 'messages')).match(/\.shard\.\d+\s+[1-9]/);
  await waitFor(async () => (await kept()) === null, { what: 'all acknowledged during the alarm' });
  await node.ctl('set_vm_memory_high_watermark', '0.6');
  await run.publish(interleaved(entities, 3 * length).slice(2 * total));
  await run.untilApplied(3 * total);
  await run.end(worker);
  await run.end(await run.worker());
});

/** The connection to Redis is lost, late or cut: nothing that is unknown is taken for done, and asking again is safe. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Redis } from 'ioredis';
import { UnavailableError } from '../../src/errors.ts';
import { createRedisStore, type RedisStoreOptions } from '../../src/stores/redis/redis-store.ts';
import type { Store } from '../../src/stores/store.ts';
import { commitOne, commitTo, order, orderNamed, snapshotOf } from '../conformance/builders.ts';
import { useRedisNode, waitFor } from '../support/services.ts';
import { useTcpProxy } from '../support/tcp-proxy.ts';

const commandTimeoutMs = 300;

function openStore(t: TestContext, url: string, options: Partial<RedisStoreOptions> = {}): Store {
  const store = createRedisStore({ url, stream: 'losses', idempotencyTtlSeconds: 3600, commandTimeoutMs: commandTimeoutMs, ...options });
  t.after(() => store.close());
  return store;
}

function outside(t: TestContext, url: string): Redis {
  const client = new Redis(url);
  client.on('error', () => undefined);
  t.after(() => client.disconnect());
  return client;
}

async function answersAgain(store: Store): Promise<void> {
  await waitFor(
    () =>
      store.ping().then(
        () => true,
        () => false,
      ),
    { what: 'the store to answer again', timeoutMs: 30_000 },
  );
}

test('a commit whose reply is lost is unknown, and sent again it is a duplicate', async (t) => {
  const node = await useRedisNode(t);
  const proxy = await useTcpProxy(t, node.redisUrl);
  const store = openStore(t, proxy.through(node.redisUrl));
  await commitOne(store, commitTo(order, 0, 1));

  const commit = commitTo(order, 1, 2);
  proxy.drop('toClient', true);
  await assert.rejects(commitOne(store, commit), UnavailableError);
  const direct = openStore(t, node.redisUrl);
  assert.equal((await snapshotOf(direct, order)).version, 2, 'Redis had executed it');

  await proxy.heal();
  proxy.cut();
  await answersAgain(store);
  assert.deepEqual(await commitOne(store, commit), { status: 'duplicate', parked: null });
  assert.equal((await commitOne(store, commitTo(order, 2, 3))).status, 'ok');
});

test('a commit that reaches Redis after another owner has gone on is stale and changes nothing', async (t) => {
  const node = await useRedisNode(t);
  const proxy = await useTcpProxy(t, node.redisUrl);
  const [slow, successor] = [openStore(t, proxy.through(node.redisUrl)), openStore(t, node.redisUrl)];
  await commitOne(slow, commitTo(order, 0, 1));

  const late = commitTo(order, 1, 2, { state: 'of the slow owner' });
  proxy.hold('toServer', true);
  await assert.rejects(commitOne(slow, late), UnavailableError);
  await commitOne(successor, commitTo(order, 1, 2, { state: 'of the successor' }));
  const sentBefore = proxy.forwardedBytes('toServer');
  await proxy.heal();
  await waitFor(() => proxy.forwardedBytes('toServer') > sentBefore, { what: 'the late commit to reach Redis' });

  await answersAgain(slow);
  assert.equal((await commitOne(slow, late)).status, 'stale');
  assert.deepEqual([(await snapshotOf(successor, order)).state, (await snapshotOf(successor, order)).version], ['of the successor', 2]);
});

test('connections killed in the middle of a load lose and repeat nothing', async (t) => {
  const node = await useRedisNode(t);
  const client = outside(t, node.redisUrl);
  let reconnects = 0;
  const store = openStore(t, node.redisUrl, { commandTimeoutMs: 2_000, onReconnect: () => (reconnects += 1) });
  const entities = Array.from({ length: 100 }, (_, index) => orderNamed(`o-${index}`));
  const rounds = 30;
  for (let version = 0; version < rounds; version += 1) {
    const commits = entities.map((entity) => commitTo(entity, version, version + 1));
    for (let attempt = 0; ; attempt += 1) {
      const answer = store.commit(commits).catch((error: unknown) => error);
      if (attempt === 0 && version % 3 === 0) await client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
      const results = await answer;
      if (Array.isArray(results)) {
        for (const { status } of results) assert.ok(status === 'ok' || status === 'duplicate', status);
        break;
      }
      assert.ok(results instanceof UnavailableError, String(results));
      await answersAgain(store);
    }
  }
  for (const entity of entities) assert.equal((await snapshotOf(store, entity)).version, rounds);
  assert.ok(reconnects > 0);
});

test('a server that pauses for longer than a command may take: unknown, then a duplicate', async (t) => {
  const node = await useRedisNode(t);
  const store = openStore(t, node.redisUrl);
  await commitOne(store, commitTo(order, 0, 1));
  await outside(t, node.redisUrl).client('PAUSE', 3 * commandTimeoutMs, 'ALL');
  const commit = commitTo(order, 1, 2);
  await assert.rejects(commitOne(store, commit), /did not answer in time/);
  await answersAgain(store);
  // The commit waited in the server, or the client resent it: either way it was executed once.
  await waitFor(async () => (await snapshotOf(store, order)).version === 2, { what: 'the paused commit to be executed' });
  assert.equal((await commitOne(store, commit)).status, 'duplicate');
});

test('a connection that carries nothing any more is noticed and replaced', async (t) => {
  const node = await useRedisNode(t);
  const proxy = await useTcpProxy(t, node.redisUrl);
  const store = openStore(t, proxy.through(node.redisUrl));
  await store.ping();
  const before = proxy.acceptedConnections;
  proxy.blackHole(true);
  await assert.rejects(store.load([order]), UnavailableError);
  await waitFor(() => proxy.acceptedConnections > before, { what: 'a new connection' });
  await proxy.heal();
  await answersAgain(store);
});

test('without a connection every call fails at once and names the cause', async (t) => {
  const node = await useRedisNode(t, { appendonly: true });
  let reconnects = 0;
  const store = openStore(t, node.redisUrl, { onReconnect: () => (reconnects += 1) });
  await commitOne(store, commitTo(order, 0, 1));
  await outside(t, node.redisUrl).config('SET', 'appendfsync', 'always');
  await commitOne(store, commitTo(order, 1, 2, { state: 'on disk' }));

  await node.kill();
  await waitFor(
    () =>
      store.ping().then(
        () => false,
        () => true,
      ),
    { what: 'the loss to be noticed' },
  );
  const failing = [
    store.load([order]),
    store.commit([commitTo(order, 2, 3)]),
    store.nextEpoch(0),
    store.inspect(),
    store.ping(),
    store.listEntities({})[Symbol.asyncIterator]().next(),
  ];
  for (const call of failing)
    await assert.rejects(call, (error) => error instanceof UnavailableError && error.message.includes(String(node.port)));

  await node.restart();
  await answersAgain(store);
  assert.deepEqual([(await snapshotOf(store, order)).version, (await snapshotOf(store, order)).state], [2, 'on disk']);
  assert.equal((await commitOne(store, commitTo(order, 2, 3))).status, 'ok');
  assert.equal(reconnects, 1);
});

test('a server that is not there at the start is reported at once, and used as soon as it is there', async (t) => {
  const node = await useRedisNode(t, { configLines: ['user somebody on >s3cret ~* +@all'] });
  const proxy = await useTcpProxy(t, node.redisUrl);
  await proxy.refuse(true);
  const warnings: string[] = [];
  const log = { info: () => undefined, warn: (_fields: unknown, message: string) => void warnings.push(message) };
  const store = openStore(t, `redis://somebody:s3cret@127.0.0.1:${proxy.port}`, { log });
  await assert.rejects(store.ping(), (error) => error instanceof UnavailableError && error.message.includes(`127.0.0.1:${proxy.port}`));
  await waitFor(() => warnings.length > 0, { what: 'a warning' });
  assert.doesNotMatch(warnings.join(), /s3cret/);
  await proxy.refuse(false);
  await answersAgain(store);
  assert.equal((await commitOne(store, commitTo(order, 0, 1))).status, 'ok');
});

test('after it was closed a store fails every call, and closing it again is nothing', async (t) => {
  const node = await useRedisNode(t);
  const store = openStore(t, node.redisUrl);
  await store.ping();
  const underWay = store.load([order]);
  await store.close();
  await store.close();
  assert.equal((await underWay)[0]?.status, 'ok');
  await assert.rejects(store.ping(), UnavailableError);
});

/** Redis answers, but refuses: the call fails as unavailable, says why and what to do, and works again afterwards. */
import assert from 'node:assert/strict';
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { inspect } from 'node:util';
import { Redis } from 'ioredis';
import { redisCommand, type RedisNode } from '../../deploy/local/redis-node.ts';
import { UnavailableError } from '../../src/errors.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import type { Store } from '../../src/stores/store.ts';
import { commitOne, commitTo, deadLetterOf, order, orderNamed, parkOf, snapshotOf } from '../conformance/builders.ts';
import { useRedisNode, waitFor } from '../support/services.ts';
import { useTcpProxy } from '../support/tcp-proxy.ts';

const secret = 'a state that nobody may read in an error';

interface Access {
  readonly node: RedisNode;
  readonly store: Store;
  readonly client: Redis;
}

async function useStore(t: TestContext, configLines: readonly string[] = [], url?: (node: RedisNode) => string): Promise<Access> {
  const node = await useRedisNode(t, { configLines });
  return useStoreOn(t, node, url?.(node) ?? node.redisUrl);
}

function useStoreOn(t: TestContext, node: RedisNode, url: string): Access {
  const store = createRedisStore({ url, stream: 'refusals', idempotencyTtlSeconds: 3600, commandTimeoutMs: 2_000 });
  const client = new Redis(node.redisUrl);
  client.on('error', () => undefined);
  t.after(() => client.disconnect());
  t.after(() => store.close());
  return { node, store, client };
}

/** The commit is refused with this message, and so is a write that is only tried; once `mend` is done it goes through, and exactly once. */
async function refusedUntil(store: Store, message: RegExp, mend: () => Promise<unknown>): Promise<void> {
  const { version } = await snapshotOf(store, order);
  const commit = commitTo(order, version, version + 1, { state: secret });
  await assert.rejects(commitOne(store, commit), (error) => {
    assert.ok(error instanceof UnavailableError);
    assert.match(error.message, message);
    assert.ok(!inspect(error, { depth: 9, showHidden: true }).includes(secret), 'the error holds the arguments of the command');
    return true;
  });
  // A replica ends the connection with its refusal.
  const refused = () =>
    store.tryWrite().then(
      () => false,
      (error) => error instanceof UnavailableError && message.test(error.message),
    );
  await waitFor(refused, { what: 'the write that is tried being refused' });
  await mend();
  const retried = await waitFor(() => commitOne(store, commit).catch(() => null), { what: 'the commit to be accepted', timeoutMs: 30_000 });
  assert.equal(retried.status, 'ok');
  await store.tryWrite();
  assert.equal((await snapshotOf(store, order)).version, version + 1);
}

test('scripts that were flushed are loaded again, also in the middle of a load', async (t) => {
  const { store, client } = await useStore(t);
  const entities = Array.from({ length: 200 }, (_, index) => orderNamed(`o-${index}`));
  for (let version = 0; version < 20; version += 1) {
    const [results] = await Promise.all([
      store.commit(entities.map((entity) => commitTo(entity, version, version + 1))),
      client.script('FLUSH'),
    ]);
    assert.equal(results.filter((result) => result.status === 'ok').length, 200);
  }
  await client.script('FLUSH');
  assert.equal((await store.claim([{ ...order, shard: 0, epoch: 1, session: 'one' }]))[0]?.status, 'ok');
  await client.script('FLUSH');
  assert.equal((await store.park([parkOf(order, 20)]))[0]?.status, 'ok');
  await client.script('FLUSH');
  assert.equal((await store.lookUp([{ ...orderNamed('o-1'), sequence: 1, id: '' }]))[0]?.status, 'known');
  await client.script('FLUSH');
  await store.recordDeadLetters([deadLetterOf('body')]);
});

test('a server whose memory is full refuses, and takes the same commit once there is room', async (t) => {
  const { store, client } = await useStore(t);
  await commitOne(store, commitTo(order, 0, 1));
  await client.config('SET', 'maxmemory', '1');
  assert.equal((await snapshotOf(store, order)).version, 1, 'reading goes on');
  await assert.rejects(store.recordDeadLetters([deadLetterOf('body')]), UnavailableError);
  await refusedUntil(store, /maxmemory.*noeviction/, () => client.config('SET', 'maxmemory', '0'));
});

test('a replica refuses, and is used again once it is the master', async (t) => {
  const { store, client } = await useStore(t);
  await commitOne(store, commitTo(order, 0, 1));
  await client.replicaof('127.0.0.1', '1');
  await refusedUntil(store, /replica/, () => client.replicaof('NO', 'ONE'));
});

test('a replica makes the connection be made again, for the address may lead to the master by now', async (t) => {
  const node = await useRedisNode(t);
  const proxy = await useTcpProxy(t, node.redisUrl);
  const { store, client } = useStoreOn(t, node, proxy.through(node.redisUrl));
  await commitOne(store, commitTo(order, 0, 1));
  const before = proxy.acceptedConnections;
  await client.replicaof('127.0.0.1', '1');
  await assert.rejects(commitOne(store, commitTo(order, 1, 2)), UnavailableError);
  await waitFor(() => proxy.acceptedConnections > before, { what: 'a new connection' });
});

test('a server that a script keeps busy refuses until the script has ended', async (t) => {
  const { node, store, client } = await useStore(t, ['busy-reply-threshold 50']);
  await commitOne(store, commitTo(order, 0, 1));
  const endless = new Redis(node.redisUrl);
  t.after(() => endless.disconnect());
  const killed = endless.eval('while true do end', 0).catch((error: Error) => error.message);
  await waitFor(
    () =>
      client.ping().then(
        () => false,
        (error: Error) => error.message.startsWith('BUSY'),
      ),
    { what: 'the script to be too slow' },
  );
  await assert.rejects(commitOne(store, commitTo(order, 1, 2)), /a script has been running/);
  await client.script('KILL');
  assert.match(String(await killed), /killed/i);
  assert.equal((await commitOne(store, commitTo(order, 1, 2))).status, 'ok');
});

test('a server that cannot write its snapshots refuses', async (t) => {
  const { store, client } = await useStore(t);
  await commitOne(store, commitTo(order, 0, 1));
  const inTheWay = join(((await client.config('GET', 'dir')) as string[])[1]!, 'dump.rdb');
  mkdirSync(inTheWay);
  await client.config('SET', 'save', '3600 1');
  const snapshot = async (outcome: string) => {
    await client.bgsave();
    await waitFor(async () => (await client.info('persistence')).includes(`rdb_last_bgsave_status:${outcome}`), {
      what: `a snapshot: ${outcome}`,
    });
  };
  await snapshot('err');
  await refusedUntil(store, /snapshots/, () => {
    rmdirSync(inTheWay);
    return snapshot('ok');
  });
});

test('a server without enough replicas refuses', async (t) => {
  const { store, client } = await useStore(t);
  await commitOne(store, commitTo(order, 0, 1));
  await client.config('SET', 'min-replicas-to-write', '1');
  await refusedUntil(store, /min-replicas-to-write/, () => client.config('SET', 'min-replicas-to-write', '0'));
});

test('a user who may not write is told so, and the rights are used as soon as they are given', async (t) => {
  const { store, client } = await useStore(
    t,
    ['user worker on >p%40ss ~* +@all'],
    (node) => `redis://worker:p%2540ss@127.0.0.1:${node.port}`,
  );
  await commitOne(store, commitTo(order, 0, 1));
  await client.acl('SETUSER', 'worker', '-evalsha', '-hsetnx');
  const says = /its user may not do this .* ACL SETUSER \S+ \+(evalsha|hsetnx) /;
  await refusedUntil(store, says, () => client.acl('SETUSER', 'worker', '+evalsha', '+hsetnx'));
});

test('a wrong password is reported without the password', async (t) => {
  const { store } = await useStore(t, ['user worker on >right ~* +@all'], (node) => `redis://worker:wr0ng@127.0.0.1:${node.port}`);
  await assert.rejects(store.ping(), (error) => {
    assert.ok(error instanceof UnavailableError);
    assert.match(error.message, /user and password are not accepted/);
    assert.ok(!inspect(error, { depth: 9, showHidden: true }).includes('wr0ng'));
    return true;
  });
});

test('a server that is loading its data refuses until it has it', async (t) => {
  const keys = 200;
  const { node, store, client } = await useStore(t, ['key-load-delay 5000', 'loading-process-events-interval-bytes 1024']);
  await store.commit(Array.from({ length: keys }, (_, index) => commitTo(orderNamed(`o-${index}`), 0, 1)));
  await client.save();
  const restarted = node.restart();
  const isLoading = (): Promise<boolean> =>
    redisCommand(node.port, 'PING').then(
      () => false,
      (error: Error) => error.message.startsWith('LOADING'),
    );
  await waitFor(isLoading, { what: 'the server to be loading' });
  await assert.rejects(store.load([order]), UnavailableError);
  await restarted;
  await waitFor(
    () =>
      store.ping().then(
        () => true,
        () => false,
      ),
    { what: 'the store to answer again' },
  );
  assert.equal((await snapshotOf(store, orderNamed('o-7'))).version, 1);
});

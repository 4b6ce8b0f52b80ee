/** A cluster and sentinels: a lost node is an outage of its entities and no more, and ends with the fail-over. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import { Redis } from 'ioredis';
import { startRedisCluster, type RedisCluster } from '../../deploy/local/redis-cluster.ts';
import { UnavailableError } from '../../src/errors.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import type { Store } from '../../src/stores/store.ts';
import { commitOne, commitTo, order, orderNamed, snapshotOf } from '../conformance/builders.ts';
import { needsRedis, useSentinelPair } from '../support/sentinels.ts';
import { waitFor } from '../support/services.ts';
import { useTcpProxy } from '../support/tcp-proxy.ts';

function openStore(t: TestContext, url: string, commandTimeoutMs = 1_000): Store {
  const store = createRedisStore({ url, stream: 'topologies', idempotencyTtlSeconds: 3600, commandTimeoutMs });
  t.after(() => store.close());
  return store;
}

function clusterUrl(cluster: RedisCluster): string {
  return `redis+cluster://${cluster.redisUrls.map((url) => new URL(url).host).join(',')}`;
}

async function useCluster(t: TestContext): Promise<RedisCluster> {
  // Without it every node refuses when one is lost.
  const cluster = await startRedisCluster(3, { appendonly: true, configLines: ['cluster-require-full-coverage no'] });
  t.after(() => cluster.stop());
  return cluster;
}

test(
  'of a cluster that loses a node, the entities of the other nodes go on, and those of the lost one come back with it',
  needsRedis,
  async (t) => {
    const cluster = await useCluster(t);
    const store = openStore(t, clusterUrl(cluster));
    const entities = Array.from({ length: 60 }, (_, index) => orderNamed(`o-${index}`));
    await store.commit(entities.map((entity) => commitTo(entity, 0, 1)));
    const lost = cluster.nodes[2];
    assert.ok(lost !== undefined);
    await lost.shutdown();

    const answers = await Promise.all(
      entities.map((entity) =>
        store.load([entity]).then(
          () => true,
          (error: Error) => error,
        ),
      ),
    );
    for (const answer of answers) assert.ok(answer === true || answer instanceof UnavailableError, String(answer));
    const served = answers.filter((answer) => answer === true).length;
    assert.ok(served > 0 && served < entities.length, `${served} of ${entities.length} are served`);
    await assert.rejects(store.load(entities), UnavailableError);

    await lost.restart();
    const commits = entities.map((entity) => commitTo(entity, 1, 2));
    const results = await waitFor(() => store.commit(commits).catch(() => null), {
      what: 'the whole cluster to be served',
      timeoutMs: 30_000,
    });
    for (const { status } of results) assert.ok(status === 'ok' || status === 'duplicate', status);
    for (const entity of entities) assert.equal((await snapshotOf(store, entity)).version, 2);
  },
);

test('slots that move to another node while they are used are followed', needsRedis, async (t) => {
  const cluster = await useCluster(t);
  const store = openStore(t, clusterUrl(cluster));
  const entities = Array.from({ length: 60 }, (_, index) => orderNamed(`o-${index}`));
  await store.commit(entities.map((entity) => commitTo(entity, 0, 1)));
  const [from, to] = cluster.nodes;
  assert.ok(from !== undefined && to !== undefined);
  const [source, target] = [new Redis(from.redisUrl), new Redis(to.redisUrl)];
  t.after(() => [source, target].forEach((client) => client.disconnect()));
  const keys = await source.keys('*');
  assert.ok(keys.length > 0);
  const slots = new Set(await Promise.all(keys.map((key) => source.cluster('KEYSLOT', key))));
  const [sourceId, targetId] = [await source.cluster('MYID'), await target.cluster('MYID')];
  let version = 1;
  for (const slot of slots) {
    await target.cluster('SETSLOT', slot, 'IMPORTING', String(sourceId));
    await source.cluster('SETSLOT', slot, 'MIGRATING', String(targetId));
    const moving = await source.cluster('GETKEYSINSLOT', slot, 100);
    await source.call('MIGRATE', ['127.0.0.1', to.port, '', 0, 5_000, 'KEYS', ...moving]);
    for (const client of [target, source]) await client.cluster('SETSLOT', slot, 'NODE', String(targetId));
    if (version > 10) continue;
    const results = await store.commit(entities.map((entity) => commitTo(entity, version, version + 1)));
    assert.equal(results.filter((result) => result.status === 'ok').length, entities.length);
    version += 1;
  }
  for (const entity of entities) assert.equal((await snapshotOf(store, entity)).version, version);
});

test('a node of a cluster behind a plain URL is a failure of the set-up, and its refusals name the remedy', needsRedis, async (t) => {
  const cluster = await useCluster(t);
  const store = openStore(t, cluster.redisUrls[0] ?? '');
  const findings = await store.inspect();
  assert.ok(findings.some((finding) => finding.level === 'failure' && /redis\+cluster/.test(finding.remedy ?? '')));
  const entities = Array.from({ length: 60 }, (_, index) => orderNamed(`o-${index}`));
  await assert.rejects(store.load(entities), (error) => error instanceof UnavailableError && /redis\+cluster/.test(error.message));
});

test('a cluster says of every node, and of itself, how it is', needsRedis, async (t) => {
  const cluster = await useCluster(t);
  const findings = await openStore(t, clusterUrl(cluster)).inspect();
  assert.equal(findings.filter((finding) => finding.subject.includes('eviction')).length, 3);
  assert.equal(findings.filter((finding) => finding.subject === 'Redis cluster' && finding.level === 'ok').length, 1);
  assert.deepEqual(
    findings.filter((finding) => finding.level !== 'ok'),
    [],
  );
});

test('a cluster that is in order by its own account but serves not every slot is a failure', needsRedis, async (t) => {
  const cluster = await useCluster(t);
  const store = openStore(t, clusterUrl(cluster));
  for (const { redisUrl } of cluster.nodes) {
    const node = new Redis(redisUrl);
    t.after(() => node.disconnect());
    assert.equal(await node.cluster('DELSLOTS', 42), 'OK');
    assert.match(String(await node.cluster('INFO')), /cluster_state:ok/);
  }
  const failures = (await store.inspect()).filter((finding) => finding.level === 'failure');
  assert.deepEqual(
    failures.map(({ subject, detail }) => [subject, detail]),
    [['Redis cluster', 'Its state is ok, and 16383 of 16384 slots are served.']],
  );
});

test('a node of a cluster whose connection was just lost is asked like the others', needsRedis, async (t) => {
  const cluster = await useCluster(t);
  const store = openStore(t, clusterUrl(cluster));
  const entities = Array.from({ length: 60 }, (_, index) => orderNamed(`o-${index}`));
  await store.commit(entities.map((entity) => commitTo(entity, 0, 1)));
  const node = new Redis(cluster.redisUrls[0] ?? '');
  t.after(() => node.disconnect());
  const isConnected = async () => / name=inorder\/program@/.test(String(await node.client('LIST')));
  for (const ask of [
    async () => (await store.inspect()).filter(({ subject }) => subject.includes('eviction')).length,
    () => count(store.listEntities({})),
  ]) {
    const before = await ask();
    await waitFor(isConnected, { what: 'the connection to the node' });
    await node.call('CLIENT', 'KILL', 'TYPE', 'NORMAL', 'SKIPME', 'YES');
    assert.equal(await isConnected(), false);
    assert.equal(await ask(), before);
  }
});

async function count(elements: AsyncIterable<unknown>): Promise<number> {
  let total = 0;
  for await (const _ of elements) total++;
  return total;
}

test('when the master behind sentinels is lost, its successor is used', needsRedis, async (t) => {
  const { master, clients, url } = await useSentinelPair(t);
  const store = openStore(t, url);
  await commitOne(store, commitTo(order, 0, 1));
  await waitFor(async () => Number(await clients[0].wait(1, 1_000)) === 1, { what: 'the replica to have the commit', timeoutMs: 60_000 });
  await master.kill();
  const commit = commitTo(order, 1, 2);
  const result = await waitFor(() => commitOne(store, commit).catch(() => null), { what: 'the fail-over', timeoutMs: 60_000 });
  assert.ok(result.status === 'ok' || result.status === 'duplicate', result.status);
  assert.equal((await clients[1].role())[0], 'master');
  // The sentinels may announce the fail-over only now, and the client connects once more.
  const after = await waitFor(() => snapshotOf(store, order).catch(() => null), { what: 'the store to answer' });
  assert.equal(after.version, 2);
});

test('a fail-over that is announced while the sentinels are asked for the master leaves the store usable', needsRedis, async (t) => {
  const { master, clients, sentinel, url } = await useSentinelPair(t);
  const proxy = await useTcpProxy(t, url);
  const store = openStore(t, proxy.through(url), 60_000);
  await commitOne(store, commitTo(order, 0, 1));
  await waitFor(async () => Number(await clients[0].wait(1, 1_000)) === 1, { what: 'the replica to have the commit' });
  await waitFor(async () => / sub=1 /.test(String(await sentinel.client('LIST'))), { what: 'the store to listen for announcements' });
  await sentinel.subscribe('+switch-master');
  const announced = once(sentinel, 'message');
  proxy.blackHole(true);
  const accepted = proxy.acceptedConnections;
  await master.kill();
  await waitFor(() => proxy.acceptedConnections > accepted, { what: 'the store to ask for the master' });
  await announced;
  // What waited comes in the order of the connections: the announcement, then the answer.
  proxy.blackHole(false);
  const result = await waitFor(() => commitOne(store, commitTo(order, 1, 2)).catch(() => null), { what: 'a commit at the new master' });
  assert.ok(result.status === 'ok' || result.status === 'duplicate', result.status);
});

/** DURABILITY: what a replica or the append-only file does not have yet is not answered as done, whoever asks and however often. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Redis } from 'ioredis';
import { UnavailableError } from '../../src/errors.ts';
import type { Durability } from '../../src/config/config.ts';
import { createRedisEventStore } from '../../src/stores/redis/redis-event-store.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import type { Commit } from '../../src/ordering/entity.ts';
import type { Store } from '../../src/stores/store.ts';
import { claimOf, commitOne, commitTo, deadLetterOf, order, orderNamed, parkOf } from '../conformance/builders.ts';
import { needsRedis } from '../support/sentinels.ts';
import { useRedisNode, waitFor } from '../support/services.ts';
import { WorkerProcess } from '../support/worker-process.ts';

const oneReplica: Durability = { kind: 'replicas', count: 1 };

function openStore(t: TestContext, url: string, durability: Durability = oneReplica): Store {
  const store = createRedisStore({ url, stream: 'durability', idempotencyTtlSeconds: 3600, commandTimeoutMs: 1_000, durability });
  t.after(() => store.close());
  return store;
}

/** A master with a replica that has caught up. */
async function usePair(t: TestContext) {
  const [master, replica] = await Promise.all([useRedisNode(t), useRedisNode(t)]);
  const client = new Redis(master.redisUrl);
  client.on('error', () => undefined);
  t.after(() => client.disconnect());
  await attach(replica.redisUrl, master.port);
  const caughtUp = async () => (await client.set('probe', '1')) === 'OK' && (await client.wait(1, 500)) === 1;
  await waitFor(caughtUp, { what: 'the replica', timeoutMs: 60_000 });
  return { master, replica, caughtUp };
}

async function attach(replicaUrl: string, masterPort: number): Promise<void> {
  const client = new Redis(replicaUrl);
  await client.replicaof('127.0.0.1', masterPort);
  client.disconnect();
}

/** A busy machine may be late with what it confirms. */
async function untilCommitted(store: Store, commit: Commit, status = 'ok'): Promise<void> {
  const statuses = [status, 'duplicate'];
  const result = await waitFor(() => commitOne(store, commit).catch(() => null), { what: 'a commit that is kept', timeoutMs: 60_000 });
  assert.ok(statuses.includes(result.status), result.status);
}

const everything = (store: Store): readonly (() => Promise<unknown>)[] => [
  () => store.commit([commitTo(orderNamed('new'), 0, 1, { token: 'once' })]),
  () => store.claim([claimOf(order, 9)]),
  () => store.park([parkOf(order, 1, { epoch: 9 })]),
  () => store.lookUp([{ ...order, sequence: 1, id: 'event-1' }]),
  () => store.recordDeadLetters([deadLetterOf('body')]),
  () => store.nextEpoch(0),
  () => store.streamState({ durable: true }),
  () => store.operator.resume(0),
];

test('without its replica nothing is answered as done, and with it the same commit is a duplicate', needsRedis, async (t) => {
  const { master, replica, caughtUp } = await usePair(t);
  const store = openStore(t, master.redisUrl);
  await untilCommitted(store, commitTo(order, 0, 1));
  await replica.suspend();
  t.after(() => replica.resume());
  for (const ask of everything(store))
    await assert.rejects(ask(), (error) => error instanceof UnavailableError && /0 of 1 replicas/.test(error.message));
  assert.equal((await store.load([order]))[0]?.status, 'ok', 'what nothing is acknowledged by is read as ever');
  assert.equal((await store.streamState()).epoch, 1, 'and what is only shown');
  replica.resume();
  await waitFor(caughtUp, { what: 'the replica again', timeoutMs: 60_000 });
  await untilCommitted(store, commitTo(orderNamed('new'), 0, 1, { token: 'once' }), 'duplicate');
});

test('what another connection committed is no duplicate and not known as long as the replica does not have it', needsRedis, async (t) => {
  const { master, replica } = await usePair(t);
  await replica.suspend();
  t.after(() => replica.resume());
  const commit = commitTo(order, 0, 1);
  await assert.rejects(commitOne(openStore(t, master.redisUrl), commit), UnavailableError);
  // Its connections are new: they have written nothing themselves.
  const successor = openStore(t, master.redisUrl);
  await assert.rejects(commitOne(successor, commit), UnavailableError);
  await assert.rejects(successor.lookUp([{ ...order, sequence: 1, id: 'event-1' }]), UnavailableError);
});

test('an append to the event store waits as well', needsRedis, async (t) => {
  const { master, replica } = await usePair(t);
  const events = createRedisEventStore({ url: master.redisUrl, commandTimeoutMs: 1_000, durability: oneReplica });
  t.after(() => events.close());
  const append = (id: string) => events.append(order, [{ id, type: 'Opened' }], { expectedVersion: 'any' });
  await waitFor(() => append('a').catch(() => null), { what: 'an append that is kept', timeoutMs: 60_000 });
  await replica.suspend();
  t.after(() => replica.resume());
  await assert.rejects(append('b'), UnavailableError);
  await assert.rejects(append('a'), UnavailableError);
});

test('batches that wait at the same time share their WAIT', needsRedis, async (t) => {
  const { master } = await usePair(t);
  const store = openStore(t, master.redisUrl);
  await untilCommitted(store, commitTo(order, 0, 1));
  const client = new Redis(master.redisUrl);
  t.after(() => client.disconnect());
  const waits = async () => Number(/cmdstat_wait:calls=(\d+)/.exec(await client.info('commandstats'))?.[1] ?? 0);
  const before = await waits();
  const batches = Array.from({ length: 50 }, (_, index) =>
    store.commit([commitTo(orderNamed(`n-${index}`), 0, 1), commitTo(orderNamed(`p-${index}`), 0, 1)]),
  );
  await Promise.allSettled(batches);
  assert.ok((await waits()) - before < 50, `${(await waits()) - before} for 50 batches`);
});

test(
  'with DURABILITY=aof a commit is in the file before it is answered; a server that cannot say so is refused by name',
  needsRedis,
  async (t) => {
    const node = await useRedisNode(t, { appendonly: true });
    const store = openStore(t, node.redisUrl, { kind: 'aof' });
    const [finding] = (await store.inspect()).filter(({ subject }) => subject === 'Redis durability');
    if (finding?.level === 'failure') {
      assert.match(finding.detail, /WAITAOF, which Redis has from 7\.2 on/);
      const worker = await WorkerProcess.start(t, { REDIS_URL: node.redisUrl, DURABILITY: 'aof', AMQP_URL: 'amqp://127.0.0.1:1' });
      assert.deepEqual(await worker.exited, { code: 2, signal: null }, worker.output);
      assert.match(worker.output, /DURABILITY=aof needs WAITAOF/);
      await assert.rejects(commitOne(store, commitTo(order, 0, 1)), UnavailableError);
      t.diagnostic('this Redis has no WAITAOF: that a commit waits for the file is not tried');
      return;
    }
    await untilCommitted(store, commitTo(order, 0, 1));
    await node.kill();
    await node.restart();
    const kept = await waitFor(() => store.load([order]).catch(() => null), { what: 'the server again', timeoutMs: 60_000 });
    assert.equal(kept[0]?.status === 'ok' && kept[0].snapshot.version, 1);
  },
);

test('too few replicas are said at the start, and are no reason to refuse', needsRedis, async (t) => {
  const node = await useRedisNode(t, { appendonly: true });
  const findings = await openStore(t, node.redisUrl).inspect();
  assert.deepEqual(
    findings.filter(({ subject }) => subject === 'Redis durability').map(({ level, detail }) => [level, detail.slice(0, 31)]),
    [['warning', '0 of 1 replicas are connected: ']],
  );
});

/** What the store keeps in Redis, for how long, and what it says of the server it keeps it in. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Redis } from 'ioredis';
import { Keys } from '../../src/stores/redis/keys.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import { loadScript } from '../../src/stores/redis/script.ts';
import type { Store } from '../../src/stores/store.ts';
import type { Finding } from '../../src/finding.ts';
import { claimOf, commitOne, commitTo, deadLetterOf, eventAt, order, parkOf } from '../conformance/builders.ts';
import { uniqueStream, useRedisNode, useServices, waitFor } from '../support/services.ts';

const dayMs = 86_400_000;

interface Access {
  readonly store: Store;
  readonly client: Redis;
  readonly keys: Keys;
}

async function useStore(t: TestContext, idempotencyTtlSeconds: number, redisUrl?: string): Promise<Access> {
  const url = redisUrl ?? (await useServices(t)).redisUrl;
  const stream = uniqueStream();
  const store = createRedisStore({ url, stream, idempotencyTtlSeconds });
  const client = new Redis(url);
  t.after(() => store.close());
  t.after(() => client.disconnect());
  return { store, client, keys: new Keys(stream) };
}

test('the version never expires; ids expire after their time, reasons of dead letters after 30 days', async (t) => {
  const { store, client, keys } = await useStore(t, 3600);
  await store.claim([claimOf(order, 1)]);
  await commitOne(store, commitTo(order, 0, 1));
  await store.park([parkOf(order, 1)]);
  await store.recordDeadLetters([deadLetterOf('body')]);
  await store.nextEpoch(0);
  assert.equal(await client.pttl(keys.entity(order)), -1);
  assert.equal(await client.pttl(keys.epoch), -1);
  const idsTtlMs = await client.pttl(keys.ids(order));
  assert.ok(idsTtlMs > 3_590_000 && idsTtlMs <= 3_600_000, String(idsTtlMs));
  const deadTtlMs = await client.pttl(keys.deadLetters(deadLetterOf('body')));
  assert.ok(deadTtlMs > 30 * dayMs - 60_000 && deadTtlMs <= 30 * dayMs, String(deadTtlMs));
});

test('each commit puts off the expiry of what the one before it recorded', async (t) => {
  const { store, client, keys } = await useStore(t, 3600);
  await commitOne(store, commitTo(order, 0, 1));
  await client.pexpire(keys.ids(order), 5_000);
  await commitOne(store, commitTo(order, 1, 2));
  assert.ok((await client.pttl(keys.ids(order))) > 3_590_000);
});

/** An entity with expired records; null where a commit took longer than the time to live, which ends all of them together. */
async function useExpired(t: TestContext, idempotencyTtlSeconds: number, count: number) {
  const access = await useStore(t, idempotencyTtlSeconds);
  const { store, client, keys } = access;
  await commitOne(store, commitTo(order, 0, count));
  let version = count;
  const commitNext = async (more: number): Promise<number> => {
    assert.equal((await commitOne(store, commitTo(order, version, version + more))).status, 'ok');
    return (version += more);
  };
  const isExpired = async (): Promise<boolean> => (await store.lookUp([{ ...order, sequence: count, id: '' }]))[0]?.status === 'unknown';
  const goOn = () => commitNext(1).then(isExpired);
  await waitFor(goOn, { what: 'the first records to expire' });
  return (await client.hlen(keys.ids(order))) >= 2 * count
    ? { ...access, version, commitNext, ttlMs: idempotencyTtlSeconds * 1_000 }
    : null;
}

test('expired records of an entity that goes on are removed by and by, and what is valid stays', async (t) => {
  const first = 4_000;
  const expired = (await useExpired(t, 0.5, first)) ?? (await useExpired(t, 5, first)) ?? (await useExpired(t, 60, first));
  assert.ok(expired !== null, 'they are still there');
  const { store, client, keys, commitNext, ttlMs } = expired;
  let { version } = expired;

  const from = version;
  while ((await client.hlen(keys.ids(order))) > first) {
    assert.ok(version < from + first, 'as many more events were recorded, and the old ones are still there');
    const beganMs = performance.now();
    version = await commitNext(32);
    const [latest] = await store.lookUp([{ ...order, sequence: null, id: `event-${version}` }]);
    assert.equal(latest?.status, performance.now() < beganMs + ttlMs ? 'known' : latest?.status);
  }
});

test('a trim is a small part of one commit in many', async (t) => {
  const { store, client } = await useStore(t, 3600, (await useRedisNode(t)).redisUrl);
  await commitOne(store, commitTo(order, 0, 6_400));
  await client.config('RESETSTAT');
  for (let version = 6_400; version < 6_528; version += 1) await commitOne(store, commitTo(order, version, version + 1));
  const stats = await client.info('commandstats');
  assert.equal(/cmdstat_hscan:calls=(\d+)/.exec(stats)?.[1], '2');
  assert.equal(/cmdstat_hgetall/.test(stats), false);
});

test('records of short events stay in the compact encoding, with ids of any length', async (t) => {
  const { store, client, keys } = await useStore(t, 3600);
  const ids = ['short', 'x'.repeat(63), 'x'.repeat(64), 'x'.repeat(512), 'é'.repeat(40)];
  const events = ids.map((id, index) => eventAt(index + 1, { id, payloadHash: 'abcdefghijklmnop' }));
  await commitOne(store, commitTo(order, 0, events.length, { events }));
  assert.equal(await client.object('ENCODING', keys.ids(order)), 'listpack');
});

test('beyond the bound the oldest reason goes, and never the one just recorded, whatever the clock did', async (t) => {
  const { client, keys } = await useStore(t, 3600);
  const key = keys.deadLetters(deadLetterOf('body'));
  const { source } = loadScript('record-dead-letter-2');
  await client.hset(key, 'first', '1||{}', 'second', '2||{}', 'of the future', '9999999999999||{}');
  await client.eval(source, 2, key, key, 'new', '{}', dayMs, 3, '');
  assert.deepEqual((await client.hkeys(key)).sort(), ['new', 'of the future', 'second']);
  await client.del(key);
  await client.hset(key, 'of the future', '9999999999999||{}');
  await client.eval(source, 2, key, key, 'new', '{}', dayMs, 1, '');
  assert.deepEqual(await client.hkeys(key), ['new']);
});

test('an eviction policy that removes versions is a failure with its remedy', async (t) => {
  const node = await useRedisNode(t, { configLines: ['maxmemory 100mb', 'maxmemory-policy allkeys-lru'] });
  const { store } = await useStore(t, 60, node.redisUrl);
  const finding = await findingAbout(store, /eviction/);
  assert.equal(finding.level, 'failure');
  assert.match(finding.detail, /allkeys-lru/);
  assert.match(finding.remedy ?? '', /noeviction/);
});

test('missing persistence is a warning, an append-only file is not', async (t) => {
  const [volatile, durable] = await Promise.all([useRedisNode(t), useRedisNode(t, { appendonly: true })]);
  assert.equal((await findingAbout((await useStore(t, 60, volatile.redisUrl)).store, /persistence/)).level, 'warning');
  assert.equal((await findingAbout((await useStore(t, 60, durable.redisUrl)).store, /persistence/)).level, 'ok');
});

test('a replica is a failure, a master is not', async (t) => {
  const node = await useRedisNode(t);
  const { store, client } = await useStore(t, 60, node.redisUrl);
  assert.equal((await findingAbout(store, /role/)).level, 'ok');
  await client.replicaof('127.0.0.1', '1');
  assert.equal((await findingAbout(store, /role/)).level, 'failure');
});

test('memory that is nearly full is a warning', async (t) => {
  const node = await useRedisNode(t);
  const { store, client } = await useStore(t, 60, node.redisUrl);
  assert.equal((await findingAbout(store, /memory/)).level, 'ok');
  await client.config('SET', 'maxmemory', '1000mb');
  assert.equal((await findingAbout(store, /memory/)).level, 'ok');
  const usedBytes = Number(/^used_memory:(\d+)/m.exec(await client.info('memory'))![1]);
  await client.config('SET', 'maxmemory', Math.ceil(usedBytes * 1.02));
  assert.equal((await findingAbout(store, /memory/)).level, 'warning');
});

test('a server of a good version with nothing amiss is all ok', async (t) => {
  const node = await useRedisNode(t, { appendonly: true });
  const { store } = await useStore(t, 60, node.redisUrl);
  const findings = await store.inspect();
  // Of a busy machine it is right to warn that the store answers late.
  assert.deepEqual(
    findings.filter(({ level, subject }) => level !== 'ok' && subject !== 'Redis latency'),
    [],
  );
  assert.match((await findingAbout(store, /version/)).detail, /^\d+\.\d+\.\d+/);
});

async function findingAbout(store: Store, subject: RegExp): Promise<Finding> {
  const findings = (await store.inspect()).filter((finding) => subject.test(finding.subject));
  assert.equal(findings.length, 1);
  return findings[0] as Finding;
}

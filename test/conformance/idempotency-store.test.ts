/** What every idempotency store does, against the one in memory and the one in Redis. */
import assert from 'node:assert/strict';
import { after, describe, it, type TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { UnavailableError } from '../../src/errors.ts';
import { type IdempotencyStore, type IdempotencyStoreOptions, createMemoryIdempotencyStore } from '../../src/stores/idempotency-store.ts';
import { createRedisIdempotencyStore } from '../../src/stores/redis/idempotency-store.ts';
import { loadScript } from '../../src/stores/redis/script.ts';
import { ManualTime } from '../support/manual-time.ts';
import { uniqueStream, useServices } from '../support/services.ts';

interface Harness {
  readonly open: (t: TestContext, options?: IdempotencyStoreOptions) => Promise<IdempotencyStore>;
  /** Lets time pass until the condition holds. */
  readonly until: (condition: () => Promise<boolean>) => Promise<void>;
}

async function start(store: IdempotencyStore, id: string): Promise<string> {
  const begun = await store.begin(id);
  assert.equal(begun.status, 'started');
  return begun.status === 'started' ? begun.lease : '';
}

function describeIdempotencyStore(name: string, { open, until }: Harness): void {
  describe(name, () => {
    it('lets the first caller start and tells every other that it is in progress, for how long at most', async (t) => {
      const store = await open(t, { leaseMs: 60_000 });
      await start(store, 'm');
      const second = await store.begin('m');
      assert.equal(second.status, 'in-progress');
      assert.ok(second.status === 'in-progress' && second.leaseLeftMs > 0 && second.leaseLeftMs <= 60_000);
    });

    it('lets exactly one of many concurrent callers start', async (t) => {
      const store = await open(t);
      const begun = await Promise.all(Array.from({ length: 50 }, () => store.begin('m')));
      assert.equal(begun.filter(({ status }) => status === 'started').length, 1);
    });

    it('gives the result back byte for byte, and tells a result from none', async (t) => {
      const store = await open(t);
      for (const [id, result] of [
        ['text', '{"a":"ü\\u0000 \u2028 \u{1F600}","n":1.0}'],
        ['empty', ''],
        ['none', null],
      ] as const) {
        assert.equal(await store.complete(id, await start(store, id), result), true);
        assert.deepEqual(await store.begin(id), { status: 'done', result });
      }
    });

    it('keeps ids apart, whatever is in them', async (t) => {
      const store = await open(t);
      const ids = ['', 'a', 'A', '}x', '{}', '*', ':', 'a b', 'é', 'e\u0301', 'x'.repeat(2_000)];
      for (const id of ids) await store.complete(id, await start(store, id), id);
      for (const id of ids) assert.deepEqual(await store.begin(id), { status: 'done', result: id });
    });

    it('starts again after a release', async (t) => {
      const store = await open(t);
      await store.release('m', await start(store, 'm'));
      await start(store, 'm');
    });

    it('ends a lease with its lease, and the one who held it can neither release nor replace the next', async (t) => {
      const store = await open(t, { leaseMs: 3_000 });
      const late = await start(store, 'm');
      let next = '';
      await until(async () => {
        const begun = await store.begin('m');
        if (begun.status === 'started') next = begun.lease;
        return next !== '';
      });
      await store.release('m', late);
      assert.equal((await store.begin('m')).status, 'in-progress');
      assert.equal(await store.complete('m', late, '"late"'), false);
      assert.equal(await store.complete('m', next, '"next"'), true);
      assert.deepEqual(await store.begin('m'), { status: 'done', result: '"next"' });
    });

    it('remembers what was completed after the lease when nobody began meanwhile', async (t) => {
      const store = await open(t, { leaseMs: 1 });
      const lease = await start(store, 'm');
      await until(async () => {
        const begun = await store.begin('other');
        return begun.status === 'started' && store.complete('m', lease, '1');
      });
      assert.deepEqual(await store.begin('m'), { status: 'done', result: '1' });
    });

    it('never overwrites what was completed', async (t) => {
      const store = await open(t);
      const lease = await start(store, 'm');
      await store.complete('m', lease, '1');
      assert.equal(await store.complete('m', 'somebody else', '2'), false);
      await store.release('m', lease);
      assert.deepEqual(await store.begin('m'), { status: 'done', result: '1' });
    });

    it('answers the same when the same result is completed again, as after a lost reply', async (t) => {
      const store = await open(t);
      const lease = await start(store, 'm');
      assert.equal(await store.complete('m', lease, '1'), true);
      assert.equal(await store.complete('m', lease, '1'), true);
    });

    it('forgets after the time to live', async (t) => {
      const store = await open(t, { ttlSeconds: 0.05 });
      await store.complete('m', await start(store, 'm'), '1');
      await until(async () => (await store.begin('m')).status === 'started');
    });
  });
}

const time = new ManualTime(1_000);
describeIdempotencyStore('the idempotency store in memory', {
  open: async (_t, options) => createMemoryIdempotencyStore({ ...options, time }),
  until: async (condition) => {
    for (let moment = 0; moment < 1_000 && !(await condition()); moment++) time.atMs += 10;
  },
});

let outside: Redis | null = null;
after(() => outside?.disconnect());

async function openRedis(t: TestContext, options: IdempotencyStoreOptions = {}, prefix = `${uniqueStream('idempotency')}:`) {
  const { redisUrl } = await useServices(t);
  outside ??= new Redis(redisUrl);
  const store = createRedisIdempotencyStore({ url: redisUrl, prefix, ...options });
  t.after(() => store.close());
  return store;
}

describeIdempotencyStore('the idempotency store in Redis', {
  open: (t, options) => openRedis(t, options),
  until: async (condition) => {
    for (let moment = 0; moment < 1_000 && !(await condition()); moment++) await pause(10);
  },
});

describe('the idempotency store in Redis, beyond that', () => {
  it('is shared by processes that use one prefix, and by no others', async (t) => {
    const prefix = `${uniqueStream('idempotency')}:`;
    const [one, two, other] = await Promise.all([openRedis(t, {}, prefix), openRedis(t, {}, prefix), openRedis(t)]);
    await start(one, 'm');
    assert.equal((await two.begin('m')).status, 'in-progress');
    assert.equal((await other.begin('m')).status, 'started');
  });

  it('leaves nothing behind that does not expire', async (t) => {
    const prefix = `${uniqueStream('idempotency')}:`;
    const store = await openRedis(t, {}, prefix);
    await start(store, 'begun');
    await store.complete('done', await start(store, 'done'), '1');
    for (const id of ['begun', 'done']) assert.ok(((await outside?.pttl(prefix + id)) ?? -1) > 0);
  });

  it('lets a caller start whose question was sent again because the reply was lost', async (t) => {
    const { redisUrl } = await useServices(t);
    outside ??= new Redis(redisUrl);
    const key = uniqueStream('idempotency');
    const begin = (lease: string) => outside?.eval(loadScript('idempotency-begin-1').source, 1, key, lease, 60_000);
    assert.deepEqual(await begin('one'), ['started']);
    assert.deepEqual(await begin('one'), ['started']);
    assert.equal(((await begin('two')) as readonly unknown[])[0], 'in-progress');
  });

  it('goes on after SCRIPT FLUSH', async (t) => {
    const store = await openRedis(t);
    const lease = await start(store, 'm');
    await outside?.script('FLUSH');
    assert.equal(await store.complete('m', lease, '1'), true);
  });

  it('says that a foreign key is in the way', async (t) => {
    const prefix = `${uniqueStream('idempotency')}:`;
    const store = await openRedis(t, {}, prefix);
    await outside?.lpush(`${prefix}m`, 'x');
    await assert.rejects(store.begin('m'), /WRONGTYPE/);
  });

  it('is an UnavailableError when nobody is there', async (t) => {
    const store = createRedisIdempotencyStore({ url: 'redis://127.0.0.1:1', commandTimeoutMs: 200 });
    t.after(() => store.close());
    await assert.rejects(store.begin('m'), UnavailableError);
  });
});

/** Whoever waits for more events, for days where none come, leaves nothing behind with each look. */
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { Redis } from 'ioredis';
import { createPostgresEventStore } from '../../src/stores/postgres/postgres-event-store.ts';
import { createRedisEventStore } from '../../src/stores/redis/redis-event-store.ts';
import { needsPostgres, usePostgres } from '../support/postgres.ts';
import { uniqueStream, useRedisNode, waitFor } from '../support/services.ts';

const never = Number.MAX_SAFE_INTEGER;

test('Redis: an idle reading leaves no listener with the signal that would end it', async (t) => {
  const { redisUrl: url } = await useRedisNode(t);
  const store = createRedisEventStore({ url, stream: uniqueStream(), commandTimeoutMs: 600 });
  const client = new Redis(url);
  t.after(() => Promise.all([store.close(), client.quit()]));
  const end = new AbortController();
  const waiting = store.waitForMore(never, end.signal);
  const looks = async () => Number(/cmdstat_xread:calls=(\d+)/.exec(await client.info('commandstats'))?.[1] ?? 0);
  await waitFor(async () => (await looks()) >= 6, { what: 'six idle readings', timeoutMs: 90_000 });
  const left = getEventListeners(end.signal, 'abort').length;
  end.abort();
  await waiting;
  assert.deepEqual([left, getEventListeners(end.signal, 'abort').length], [1, 0]);
});

test('PostgreSQL: neither does one that is told of events, and looks, again and again', needsPostgres, async (t) => {
  const stream = uniqueStream();
  const store = createPostgresEventStore({ url: await usePostgres(), stream });
  t.after(() => store.close());
  const end = new AbortController();
  const waiting = store.waitForMore(never, end.signal);
  for (let event = 0; event < 50; event++)
    await store.append({ entityType: 'a', entityId: '1' }, [{ type: 'A' }], { expectedVersion: event });
  const left = getEventListeners(end.signal, 'abort').length;
  end.abort();
  await waiting;
  assert.deepEqual([left, getEventListeners(end.signal, 'abort').length], [1, 0]);
});

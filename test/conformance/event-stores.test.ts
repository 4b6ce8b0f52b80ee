import type { TestContext } from 'node:test';
import type { EventStore } from '../../src/stores/event-store.ts';
import { createMemoryEventStore } from '../../src/stores/memory/event-store.ts';
import { createPostgresEventStore } from '../../src/stores/postgres/postgres-event-store.ts';
import { createRedisEventStore } from '../../src/stores/redis/redis-event-store.ts';
import { usePooler } from '../support/pgbouncer-node.ts';
import { needsPgBouncer, needsPostgres, usePostgres } from '../support/postgres.ts';
import { uniqueStream, useServices } from '../support/services.ts';
import { describeEventStore } from './event-store-conformance.ts';

/** Closed after the test. */
function kept(t: TestContext, store: EventStore): EventStore {
  t.after(() => store.close());
  return store;
}

describeEventStore('the event store in memory', async () => {
  const stores = new Map<string, EventStore>();
  return {
    open: async (stream = uniqueStream()) => {
      const store = stores.get(stream) ?? createMemoryEventStore();
      stores.set(stream, store);
      return store;
    },
  };
});

describeEventStore(
  'the event store in PostgreSQL',
  async (t) => {
    const url = await usePostgres();
    return { open: async (stream = uniqueStream()) => kept(t, createPostgresEventStore({ url, stream })) };
  },
  needsPostgres,
);

describeEventStore(
  'the event store in PostgreSQL behind a pooler',
  async (t) => {
    const url = await usePooler(t);
    return { open: async (stream = uniqueStream()) => kept(t, createPostgresEventStore({ url, stream })) };
  },
  needsPgBouncer,
);

describeEventStore('the event store in Redis', async (t) => {
  const { redisUrl: url } = await useServices(t);
  return { open: async (stream = uniqueStream()) => kept(t, createRedisEventStore({ url, stream })) };
});

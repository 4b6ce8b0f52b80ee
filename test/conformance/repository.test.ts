import { describe, test, type TestContext } from 'node:test';
import type { EventStore } from '../../src/stores/event-store.ts';
import { createMemoryEventStore } from '../../src/stores/memory/event-store.ts';
import { createPostgresEventStore } from '../../src/stores/postgres/postgres-event-store.ts';
import { createRedisEventStore } from '../../src/stores/redis/redis-event-store.ts';
import { needsPostgres, usePostgres } from '../support/postgres.ts';
import { uniqueStream, useServices } from '../support/services.ts';
import { repositoryCases } from './repository-cases.ts';

function describeRepository(name: string, open: () => Promise<EventStore>, options: { readonly skip?: string | boolean } = {}): void {
  describe(name, options, () => {
    for (const [promise, run] of Object.entries(repositoryCases)) {
      test(promise, async (t: TestContext) => {
        const store = await open();
        t.after(() => store.close());
        await run(store);
      });
    }
  });
}

describeRepository('a repository on the event store in memory', async () => createMemoryEventStore());
describeRepository(
  'a repository on the event store in PostgreSQL',
  async () => createPostgresEventStore({ url: await usePostgres(), stream: uniqueStream() }),
  needsPostgres,
);
describeRepository('a repository on the event store in Redis', async () =>
  createRedisEventStore({ url: (await useServices()).redisUrl, stream: uniqueStream() }),
);

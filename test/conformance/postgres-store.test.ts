import type { TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { createPostgresStore } from '../../src/stores/postgres/postgres-store.ts';
import type { StoreOptions } from '../../src/stores/store.ts';
import { usePooler } from '../support/pgbouncer-node.ts';
import { needsPgBouncer, needsPostgres, usePostgres } from '../support/postgres.ts';
import { uniqueStream } from '../support/services.ts';
import { describeStore } from './store-conformance.ts';

const momentMs = 20;

const behind = (useUrl: (t: TestContext) => Promise<string>) => async (t: TestContext) => {
  const url = await useUrl(t);
  return {
    open: async ({ stream = uniqueStream(), idempotencyTtlSeconds = 3600, initialVersion }: Partial<StoreOptions> = {}) => {
      const store = createPostgresStore({
        url,
        stream,
        idempotencyTtlSeconds,
        ...(initialVersion === undefined ? {} : { initialVersion }),
      });
      t.after(() => store.close());
      return store;
    },
    passTime: () => pause(momentMs),
    nowMs: Date.now,
    spoil: null,
  };
};

describeStore('the PostgreSQL store', behind(usePostgres), needsPostgres);
describeStore('the PostgreSQL store behind a pooler', behind(usePooler), needsPgBouncer);

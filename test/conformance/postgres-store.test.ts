import { setTimeout as pause } from 'node:timers/promises';
import { createPostgresStore } from '../../src/stores/postgres/postgres-store.ts';
import { needsPostgres, usePostgres } from '../support/postgres.ts';
import { uniqueStream } from '../support/services.ts';
import { describeStore } from './store-conformance.ts';

const MOMENT_MS = 20;

describeStore('the PostgreSQL store', async (t) => {
  const url = await usePostgres();
  return {
    open: async ({ stream = uniqueStream(), idempotencyTtlSeconds = 3600 } = {}) => {
      const store = createPostgresStore({ url, stream, idempotencyTtlSeconds });
      t.after(() => store.close());
      return store;
    },
    passTime: () => pause(MOMENT_MS),
    nowMs: Date.now,
    spoil: null,
  };
}, needsPostgres);

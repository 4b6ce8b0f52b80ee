import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { createPostgresStore } from '../../src/stores/postgres/postgres-store.ts';
import type { StoreOptions } from '../../src/stores/store.ts';
import { usePooler } from '../support/pgbouncer-node.ts';
import { needsPgBouncer, needsPostgres, usePostgres } from '../support/postgres.ts';
import { uniqueStream, waitFor } from '../support/services.ts';
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
    plantLayout: async (stream: string, json: string) => {
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      await client.query('UPDATE inorder.streams SET layout = $2 WHERE stream = $1', [stream, json]);
      await client.end();
    },
    spoil: null,
  };
};

describeStore('the PostgreSQL store', behind(usePostgres), needsPostgres);
test('a note that is being written when the next session begins is left to it', needsPostgres, async (t) => {
  const url = await usePostgres();
  const stream = uniqueStream();
  const store = createPostgresStore({ url, stream, idempotencyTtlSeconds: 60 });
  const [writer, reader] = [new pg.Client({ connectionString: url }), new pg.Client({ connectionString: url })];
  t.after(() => Promise.all([store.close(), writer.end(), reader.end()]));
  await Promise.all([writer.connect(), reader.connect()]);
  await store.nextEpoch(0);
  await writer.query('BEGIN');
  await writer.query("UPDATE inorder.sessions SET note = 'the last' WHERE stream = $1", [stream]);
  const { pid } = (await writer.query('SELECT pg_backend_pid() AS pid')).rows[0];
  const next = store.nextEpoch(0);
  const waits = 'SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))';
  await waitFor(async () => (await reader.query(waits, [pid])).rowCount === 1, { what: 'the next session waiting' });
  await writer.query('COMMIT');
  assert.deepEqual(await next, { status: 'ok', epoch: 2, identity: null, unfinished: 'the last' });
});

describeStore('the PostgreSQL store behind a pooler', behind(usePooler), needsPgBouncer);

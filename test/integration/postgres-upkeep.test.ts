/** What PostgreSQL is rid of by and by: everything that has an expiry, as fast as it comes, while commits go on. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import pg from 'pg';
import { PostgresNode } from '../../deploy/local/postgres-node.ts';
import { beganMs } from '../../src/stores/postgres/database.ts';
import { createPostgresStore } from '../../src/stores/postgres/postgres-store.ts';
import type { Commit } from '../../src/ordering/entity.ts';
import type { Store } from '../../src/stores/store.ts';
import { needsPostgresBinaries } from '../support/postgres.ts';
import { waitFor } from '../support/services.ts';

const backlog = 100_000;

async function setUp(t: TestContext, ttlSeconds: number, processes: number) {
  const node = await PostgresNode.start({ settings: ['fsync=off'] });
  const client = new pg.Client({ connectionString: node.url });
  await client.connect();
  const stores = Array.from({ length: processes }, () =>
    createPostgresStore({ url: node.url, stream: 's', idempotencyTtlSeconds: ttlSeconds }),
  );
  t.after(async () => {
    await Promise.all([client.end(), ...stores.map((store) => store.close())]);
    await node.stop();
  });
  await stores[0]!.ping();
  const count = async (table: string, where = 'true') =>
    (await client.query(`SELECT count(*)::int AS rows FROM inorder.${table} WHERE ${where}`)).rows[0].rows as number;
  return { client, stores, count };
}

/** Commits events 1, 2, 3… of an entity of its own, `together` at a time. */
function committing(store: Store, entityId: string, together: number): () => Promise<void> {
  let version = 0;
  return async () => {
    const events = Array.from({ length: together }, (_, index) => {
      const sequence = version + index + 1;
      return { id: `${entityId}-${sequence}`, recordId: true, sequence, payloadHash: 'h', result: null, consumed: false };
    });
    const commit: Commit = {
      entityType: 'order',
      entityId,
      token: `${entityId}:${version}`,
      expectedVersion: version,
      expectedHoles: '',
      newVersion: version + together,
      newHoles: '',
      state: '{}',
      events,
    };
    const [result] = await store.commit([commit]);
    assert.equal(result?.status, 'ok');
    version += together;
  };
}

test(
  'a hundred thousand expired rows of each kind go while two processes commit; what is valid stays',
  needsPostgresBinaries,
  async (t) => {
    const { client, stores, count } = await setUp(t, 3_600, 2);
    await client.query(
      `INSERT INTO inorder.applied (entity, sequence, payload_hash, expires_at_ms) SELECT -1, n, 'h', n FROM generate_series(1, ${backlog}) AS n`,
    );
    await client.query(
      `INSERT INTO inorder.applied_ids (entity, id, sequence, payload_hash, expires_at_ms) SELECT -1, sha256(n::text::bytea), n, 'h', n FROM generate_series(1, ${backlog}) AS n`,
    );
    await client.query(
      `INSERT INTO inorder.dead_letter_owners (stream, owner, expires_at_ms) SELECT 's', sha256(n::text::bytea), n FROM generate_series(1, ${backlog / 100}) AS n`,
    );
    await client.query(
      `INSERT INTO inorder.dead_letters (stream, owner, fingerprint, recorded_at_ms) SELECT 's', sha256((n % ${backlog / 100} + 1)::text::bytea), n::text, 1 FROM generate_series(1, ${backlog}) AS n`,
    );
    const record = {
      fingerprint: 'f',
      id: null,
      entityType: 'order',
      entityId: 'dead',
      sequence: 1,
      type: null,
      reason: 'malformed',
      detail: '',
      shard: 0,
      deadLetteredAt: new Date().toISOString(),
    } as const;
    await stores[0]!.recordDeadLetters([record]);

    const commits = stores.map((store, index) => committing(store, `e-${index}`, 50));
    let batches = 0;
    await waitFor(
      async () => {
        await Promise.all(commits.map((commit) => commit()));
        batches++;
        return (
          (await count('applied', 'entity < 0')) +
            (await count('applied_ids', 'entity < 0')) +
            (await count('dead_letters', 'recorded_at_ms = 1')) ===
          0
        );
      },
      { what: 'an empty backlog', timeoutMs: 240_000 },
    );
    assert.deepEqual([await count('applied'), await count('applied_ids'), await count('dead_letters')], [100 * batches, 100 * batches, 1]);
    assert.equal(await count('dead_letter_owners'), 1);
    assert.equal((await stores[1]!.findDeadLetters([record]))[0]?.record?.reason, 'malformed');
  },
);

test('what expires at once does not gather, however much is committed', needsPostgresBinaries, async (t) => {
  const {
    stores: [store],
    count,
  } = await setUp(t, 0.001, 1);
  const commit = committing(store!, 'e', 1_000);
  const rows = 60_000;
  for (let written = 0; written < rows; written += 1_000) await commit();
  await waitFor(
    async () => {
      await commit();
      return (await count('applied')) < rows / 4;
    },
    { what: 'rows that go faster than they come', timeoutMs: 120_000 },
  );
});

test('an index finds what has expired, and nobody waits for a row that another one is writing', needsPostgresBinaries, async (t) => {
  const {
    client,
    stores: [store],
    count,
  } = await setUp(t, 3_600, 1);
  await client.query(
    `INSERT INTO inorder.applied (entity, sequence, payload_hash, expires_at_ms) SELECT -1, n, 'h', n FROM generate_series(1, 3000) AS n`,
  );
  await client.query(
    `INSERT INTO inorder.applied (entity, sequence, payload_hash, expires_at_ms) SELECT -2, n, 'h', 9e15 FROM generate_series(1, 30000) AS n`,
  );
  await client.query('ANALYZE inorder.applied');
  const { rows: plan } = await client.query(
    `EXPLAIN SELECT ctid FROM inorder.applied WHERE expires_at_ms <= ${beganMs} ORDER BY expires_at_ms LIMIT 1000 FOR UPDATE SKIP LOCKED`,
  );
  assert.match(JSON.stringify(plan), /Index Scan using applied_expiry/);
  await client.query('BEGIN; SELECT FROM inorder.applied WHERE entity = -1 AND sequence = 7 FOR UPDATE');
  const commit = committing(store!, 'e', 1_000);
  await waitFor(
    async () => {
      await commit();
      const { rows } = await client.query('SELECT count(*)::int AS rows FROM inorder.applied WHERE entity = -1');
      return rows[0].rows === 1;
    },
    { what: 'all but the locked row to go', timeoutMs: 90_000 },
  );
  await client.query('ROLLBACK');
  await waitFor(
    async () => {
      await commit();
      const { rows } = await client.query('SELECT count(*)::int AS rows FROM inorder.applied WHERE entity = -1');
      return rows[0].rows === 0;
    },
    { what: 'the row to go that was locked', timeoutMs: 90_000 },
  );
  assert.ok((await count('applied', 'entity = -2')) === 30_000);
});

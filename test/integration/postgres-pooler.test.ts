/** PostgreSQL behind a pooler in transaction mode, where no two transactions need have the same connection of the server. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import pg from 'pg';
import { PostgresNode } from '../../deploy/local/postgres-node.ts';
import { UnavailableError } from '../../src/errors.ts';
import { Database } from '../../src/stores/postgres/database.ts';
import { createPostgresEventStore } from '../../src/stores/postgres/postgres-event-store.ts';
import { createPostgresStore } from '../../src/stores/postgres/postgres-store.ts';
import { systemTime } from '../../src/time.ts';
import { keptIo, runHere } from '../support/command-io.ts';
import { runCommand, startCommand } from '../support/command-process.ts';
import { PgBouncerNode, usePooler } from '../support/pgbouncer-node.ts';
import { needsPgBouncer, needsPostgresBinaries, usePostgres } from '../support/postgres.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { readTraces, untilApplied, wrongTraces } from '../support/trace.ts';

async function connected(t: TestContext, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  t.after(() => client.end());
  return client;
}

test(
  'behind a pooler workers apply what relays publish; killed and suspended relays lose their place, and no event its order',
  needsPgBouncer,
  async (t) => {
    const services = await useServices(t);
    const url = await usePooler(t);
    const variables = { STATE_STORE: 'postgres', DATABASE_URL: url };
    const run = new StreamRun(t, 'pooled', { ...services, storeUrl: url, variables });
    const env = { AMQP_URL: run.amqpUrl, STREAM: run.stream, SHARDS: '2', PROCESSOR: 'history', ENTITY_TYPE: 'trace', ...variables };
    const [entities, length] = [30, 20];
    const line = (n: number) =>
      JSON.stringify({ entity_id: `e-${n % entities}`, id: `i-${n}`, type: `e${Math.floor(n / entities) + 1}`, data: { n } });
    const append = async (from: number, to: number) => {
      const { code, stderr } = await runCommand(
        ['events', 'append'],
        env,
        `${Array.from({ length: to - from }, (_, at) => line(from + at)).join('\n')}\n`,
      );
      assert.equal(code, 0, stderr);
    };
    const relay = async () => {
      const running = await startCommand(['relay'], { ...env, LOG_LEVEL: 'info' });
      t.after(() => running.process.kill('SIGKILL'));
      let output = '';
      for (const stream of [running.process.stdout, running.process.stderr]) stream.on('data', (text: string) => (output += text));
      return { ...running, says: (text: string) => output.includes(text) };
    };
    await run.worker();
    const dead = await relay();
    await waitFor(() => dead.says('relaying'), { what: 'the first relay', timeoutMs: 60_000 });
    await append(0, 300);
    const [second, third] = [await relay(), await relay()];
    await waitFor(async () => (await run.applied()) > 100, { what: 'some applied', timeoutMs: 60_000 });
    dead.process.kill('SIGKILL');
    const next = await waitFor(() => [second, third].find(({ says }) => says('relaying')), {
      what: 'one of the others',
      timeoutMs: 60_000,
    });
    const other = next === second ? third : second;
    assert.ok(!other.says('relaying'), 'one of them, not both');
    next.process.kill('SIGSTOP');
    await append(300, entities * length);
    await waitFor(() => other.says('relaying'), { what: 'the last one', timeoutMs: 60_000 });
    next.process.kill('SIGCONT');
    // What it was waiting for may have run into its time limit meanwhile: then it says that first, and waits for the lease all the same.
    await waitFor(() => next.says('standing by') || next.says('the relay pauses'), { what: 'the suspended one to learn it' });
    await untilApplied(run.storeUrl, run.stream, entities, length);
    assert.deepEqual(wrongTraces(await readTraces(run.storeUrl, run.stream)), []);
    await run.assertNothingLeft();
  },
);

test('a statement that waits too long is ended by the server, and nothing of that stays with the connection', needsPgBouncer, async (t) => {
  const stream = uniqueStream();
  const direct = await connected(t, await usePostgres());
  for (const url of [await usePostgres(), await usePooler(t)]) {
    const store = createPostgresStore({ url, stream, idempotencyTtlSeconds: 60, answerTimeoutMs: 1_000 });
    t.after(() => store.close());
    await store.nextEpoch(0);
    await direct.query(`BEGIN; SELECT FROM inorder.streams WHERE stream = '${stream}' FOR UPDATE`);
    await assert.rejects(
      store.nextEpoch(0),
      (error) =>
        error instanceof UnavailableError && /did not answer in time \(canceling statement due to statement timeout\)/.test(error.message),
    );
    await direct.query('ROLLBACK');
    await store.nextEpoch(0);
  }
  // Whoever comes next has the settings of the server.
  const others = await Promise.all(Array.from({ length: 4 }, async () => connected(t, await usePooler(t))));
  const shown = await Promise.all(
    others.map(
      async (client) =>
        ((await client.query('BEGIN; SELECT pg_sleep(0.2); SHOW statement_timeout; COMMIT')) as unknown as pg.QueryResult[])[2]?.rows[0]
          .statement_timeout,
    ),
  );
  assert.deepEqual(shown, ['0', '0', '0', '0']);
});

test('nobody listens on a connection that the pooler gives to others; what is appended is seen all the same', needsPgBouncer, async (t) => {
  const node = await PostgresNode.start();
  t.after(() => node.stop());
  const pooler = await PgBouncerNode.start(node.url, { settings: ['default_pool_size=1'] });
  t.after(() => pooler.stop());
  const stream = uniqueStream();
  const [store, writer] = [pooler, node].map(({ url }) => createPostgresEventStore({ url, stream }));
  t.after(() => Promise.all([store?.close(), writer?.close()]));
  const waiting = store!.waitForMore(0, new AbortController().signal);
  const client = await connected(t, pooler.url);
  assert.deepEqual((await client.query('SELECT pg_listening_channels()')).rows, []);
  await writer!.append({ entityType: 'a', entityId: '1' }, [{ type: 'A' }], { expectedVersion: 0 });
  await waiting;
  assert.deepEqual((await client.query('SELECT pg_listening_channels()')).rows, []);
});

test('a refusal that only an operator can end is told in one line and ends the command; one under way is waited for', {
  ...needsPostgresBinaries,
  ...needsPgBouncer,
}, async (t) => {
  const { amqpUrl } = await useServices(t);
  const node = await PostgresNode.start();
  t.after(() => node.stop());
  const pooler = await PgBouncerNode.start(node.url);
  t.after(() => pooler.stop());
  const server = await connected(t, node.url);
  await server.query('CREATE ROLE guest LOGIN');
  const changed = (url: string, change: (url: URL) => void) => {
    const other = new URL(url);
    change(other);
    return other.href;
  };
  const stream = uniqueStream();
  const refusals: readonly (readonly [url: string, said: RegExp])[] = [
    [
      changed(pooler.url, ({ searchParams }) => searchParams.set('statement_timeout', '5000')),
      /refuses: a parameter of the connection is not accepted \(unsupported startup parameter: statement_timeout\).*ignore_startup_parameters/,
    ],
    [
      changed(pooler.url, (url) => (url.pathname = '/nowhere')),
      /refuses: the pooler knows no such database or user \(bouncer config error\)/,
    ],
    [changed(node.url, (url) => (url.pathname = '/nowhere')), /refuses: there is no such database/],
    [changed(node.url, (url) => (url.username = 'nobody')), /refuses: user and password are not accepted \(role "nobody" does not exist\)/],
    [changed(node.url, (url) => (url.username = 'guest')), /refuses: the user may not do this \(permission denied for database postgres\)/],
    [changed(node.url, ({ searchParams }) => searchParams.set('sslmode', 'require')), /refuses: it has no TLS/],
  ];
  for (const [url, said] of refusals) {
    const { io, out } = keptIo({ env: { AMQP_URL: amqpUrl, STATE_STORE: 'postgres', DATABASE_URL: url, STREAM: stream, HTTP_PORT: '0' } });
    assert.equal(await runHere(['entity', 'list'], io), 2, out.stderr);
    assert.match(out.stderr, said);
    assert.equal(out.stderr.trimEnd().split('\n').length, 1, out.stderr);
  }
  const worker = await runCommand(['worker'], {
    AMQP_URL: amqpUrl,
    STATE_STORE: 'postgres',
    DATABASE_URL: refusals[0]![0],
    STREAM: stream,
    HTTP_PORT: '0',
  });
  assert.deepEqual([worker.code, refusals[0]![1].test(worker.stdout + worker.stderr)], [2, true], worker.stdout + worker.stderr);

  const store = createPostgresStore({ url: node.url.replace('inorder@', 'guest@'), stream, idempotencyTtlSeconds: 60 });
  t.after(() => store.close());
  await server.query('GRANT CREATE ON DATABASE postgres TO guest');
  await store.nextEpoch(0);
  await server.query('REVOKE ALL ON ALL TABLES IN SCHEMA inorder FROM guest');
  await assert.rejects(store.nextEpoch(0), (error) => error instanceof UnavailableError && /the user may not do this/.test(error.message));
  await server.query('GRANT ALL ON ALL TABLES IN SCHEMA inorder TO guest');
  assert.deepEqual(await store.nextEpoch(0), { status: 'ok', epoch: 2, identity: null, unfinished: '' });
});

test('whoever stops in the middle of a transaction keeps its rows from nobody for long', needsPgBouncer, async (t) => {
  const url = await usePooler(t);
  const stream = uniqueStream();
  const [stopped, other] = [
    new Database({ url, answerTimeoutMs: 1_000, time: systemTime }),
    createPostgresStore({ url, stream, idempotencyTtlSeconds: 60 }),
  ];
  t.after(() => Promise.all([stopped.close(), other.close()]));
  await other.nextEpoch(0);
  let goOn = () => {};
  const stop = new Promise<void>((resolve) => (goOn = resolve));
  let isLocked = false;
  const working = stopped.transaction(async (query) => {
    await query('SELECT FROM inorder.streams WHERE stream = $1 FOR UPDATE', [stream]);
    isLocked = true;
    await stop;
    await query('UPDATE inorder.streams SET epoch = 99 WHERE stream = $1', [stream]);
  });
  working.catch(() => undefined);
  await waitFor(() => isLocked, { what: 'the locked row' });
  assert.deepEqual(await other.nextEpoch(0), { status: 'ok', epoch: 2, identity: null, unfinished: '' });
  goOn();
  await assert.rejects(working, UnavailableError);
});

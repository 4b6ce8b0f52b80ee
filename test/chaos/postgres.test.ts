/** Workers with STATE_STORE=postgres, and a PostgreSQL that is killed, refuses, or forgets: the promises are those with Redis. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { test, type TestContext } from 'node:test';
import pg from 'pg';
import { PostgresNode } from '../../deploy/local/postgres-node.ts';
import { createPostgresEventStore } from '../../src/stores/postgres/postgres-event-store.ts';
import { createPostgresStore } from '../../src/stores/postgres/postgres-store.ts';
import { deadLetterQueueName } from '../../src/rabbitmq/topology-plan.ts';
import { keptIo, runHere } from '../support/command-io.ts';
import { needsPostgresBinaries } from '../support/postgres.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';
import { interleaved, publishTrace, readTraces, readyCount, shuffled, untilApplied } from '../support/trace.ts';
import { WorkerProcess } from '../support/worker-process.ts';

const entities = 60;
const length = 20;

async function setUp(t: TestContext, name: string) {
  const { amqpUrl } = await useServices(t);
  const node = await PostgresNode.start();
  t.after(() => node.stop());
  const stream = uniqueStream(name);
  const variables = {
    AMQP_URL: amqpUrl,
    STATE_STORE: 'postgres',
    DATABASE_URL: node.url,
    STREAM: stream,
    SHARDS: '2',
    PROCESSOR: 'history',
    GAP_TIMEOUT_MS: '120000',
  };
  const statement = async (text: string) => {
    const client = new pg.Client({ connectionString: node.url });
    await client.connect();
    try {
      return (await client.query(text)).rows;
    } finally {
      await client.end();
    }
  };
  const deadLetters = () => readyCount(amqpUrl, deadLetterQueueName(stream));
  return { amqpUrl, node, stream, variables, statement, deadLetters };
}

test('shuffled and repeated events come out right, also when a worker is killed', needsPostgresBinaries, async (t) => {
  const { amqpUrl, node, stream, variables, deadLetters, statement } = await setUp(t, 'pg-killed-worker');
  const first = await WorkerProcess.ready(t, variables);
  await WorkerProcess.ready(t, variables);
  const events = interleaved(entities, length);
  await publishTrace(amqpUrl, stream, shuffled([...events, ...events.slice(0, 300)], 200));
  await waitFor(async () => (await first.metric('inorder_events_total', { outcome: 'applied' })) > 100, { what: 'some events applied' });
  await first.kill();
  await untilApplied(node.url, stream, entities, length);
  assert.equal(await deadLetters(), 0);
  const [{ events: remembered }] = await statement('SELECT count(*)::int AS events FROM inorder.applied');
  assert.equal(remembered, entities * length, 'each is remembered once');
});

test('a server that is killed and restarted is asked again, and every event is applied once', needsPostgresBinaries, async (t) => {
  const { amqpUrl, node, stream, variables, deadLetters } = await setUp(t, 'pg-killed');
  const worker = await WorkerProcess.ready(t, variables);
  await publishTrace(amqpUrl, stream, shuffled(interleaved(entities, length, 'a'), 200));
  await waitFor(async () => (await readTraces(node.url, stream)).size > 0, { what: 'the first events applied' });
  await node.kill();
  await publishTrace(amqpUrl, stream, shuffled(interleaved(entities, length, 'b'), 200));
  await waitFor(async () => (await worker.metric('inorder_store_unavailable_total')) > 0, {
    what: 'a call without an answer',
    timeoutMs: 30_000,
  });
  await node.restart();
  await untilApplied(node.url, stream, 2 * entities, length);
  assert.equal(await deadLetters(), 0);
});

test('connections that are ended by the server and a commit that waits for a lock are no trouble', needsPostgresBinaries, async (t) => {
  const { amqpUrl, node, stream, variables, statement, deadLetters } = await setUp(t, 'pg-cut');
  await WorkerProcess.ready(t, variables);
  const publishing = publishTrace(amqpUrl, stream, shuffled(interleaved(entities, length), 200));
  for (let round = 0; round < 5; round++) {
    await statement(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'inorder/worker@%'`);
    await statement('BEGIN; LOCK TABLE inorder.entities IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(0.1); COMMIT');
  }
  await publishing;
  await untilApplied(node.url, stream, entities, length);
  assert.equal(await deadLetters(), 0);
});

test('commits whose answers are lost are asked again: each event is applied and counted once', needsPostgresBinaries, async (t) => {
  const { amqpUrl, node, stream, variables, deadLetters } = await setUp(t, 'pg-lost-answers');
  const wire = await loseCommitAnswers(t, node.url);
  const worker = await WorkerProcess.ready(t, { ...variables, DATABASE_URL: wire.url });
  for (let round = 1; round <= 5; round++) {
    const lost = wire.loseNext();
    await publishTrace(amqpUrl, stream, shuffled(interleaved(20, 10, `round-${round}`), 50));
    await lost;
    await waitFor(async () => (await worker.metric('inorder_events_total', { outcome: 'applied' })) === round * 200, {
      what: 'each event counted as applied',
      timeoutMs: 30_000,
    });
  }
  assert.equal(await worker.metric('inorder_events_total', { outcome: 'duplicate' }), 0);
  await untilApplied(node.url, stream, 100, 10);
  assert.equal(await deadLetters(), 0);
});

test('whoever comes first makes the tables, and the others use them', needsPostgresBinaries, async (t) => {
  const node = await PostgresNode.start();
  t.after(() => node.stop());
  const stores = Array.from({ length: 12 }, (_, n) =>
    createPostgresStore({ url: node.url, stream: `s${n % 3}`, idempotencyTtlSeconds: 60 }),
  );
  const events = createPostgresEventStore({ url: node.url, stream: 's0' });
  t.after(() => Promise.all([...stores, events].map((store) => store.close())));
  const [appended] = await Promise.all([
    events.append({ entityType: 'a', entityId: '1' }, [{ type: 'A' }], { expectedVersion: 0 }),
    ...stores.map((store) => store.ping()),
  ]);
  assert.equal(appended.version, 1);
  const client = new pg.Client({ connectionString: node.url });
  await client.connect();
  const { rows } = await client.query('SELECT step, count(*)::int AS times FROM inorder.migrations GROUP BY step ORDER BY step');
  await client.end();
  assert.deepEqual(
    rows.map(({ times }) => times),
    rows.map(() => 1),
  );
  assert.deepEqual(
    rows.map(({ step }) => step),
    rows.map((_, index) => index + 1),
  );
});

test('a store that is emptied stops the shards, which say so and apply nothing more', needsPostgresBinaries, async (t) => {
  const { amqpUrl, node, stream, variables, statement } = await setUp(t, 'pg-emptied');
  const worker = await WorkerProcess.ready(t, variables);
  await publishTrace(amqpUrl, stream, interleaved(20, 5));
  await untilApplied(node.url, stream, 20, 5);
  await statement('TRUNCATE inorder.streams, inorder.entities, inorder.applied, inorder.applied_ids');
  await waitFor(() => worker.output.includes('the store went backwards'), { what: 'the shards stopping', timeoutMs: 30_000 });
  assert.match((await worker.get('/readyz')).body, /went backwards/);
  await publishTrace(amqpUrl, stream, interleaved(20, 5, 'new'));
  assert.equal((await readTraces(node.url, stream)).size, 0);
});

test('a worker with nothing to do is not ready while the database only reads, and is again', needsPostgresBinaries, async (t) => {
  const { variables, statement } = await setUp(t, 'pg-read-only');
  const worker = await WorkerProcess.ready(t, variables);
  const set = async (change: string) => {
    await statement(`ALTER SYSTEM ${change}`);
    await statement('SELECT pg_reload_conf()');
  };
  await set('SET default_transaction_read_only = on');
  const readiness = () => worker.get('/readyz');
  await waitFor(async () => (await readiness()).status === 503, { what: 'a worker that is not ready' });
  assert.match((await readiness()).body, /the store takes no writes: .*read-only/);
  await set('RESET default_transaction_read_only');
  await worker.untilReady();
});

test('a standby, and a database that cannot be relied on, are refused at the start', needsPostgresBinaries, async (t) => {
  const { node, variables } = await setUp(t, 'pg-refused');
  const client = new pg.Client({ connectionString: node.url });
  await client.connect();
  await client.query(`CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`);
  await client.end();
  const worker = await WorkerProcess.start(t, { ...variables, DATABASE_URL: node.url.replace('/postgres', '/latin') });
  assert.deepEqual(await worker.exited, { code: 2, signal: null }, worker.output);
  assert.match(worker.output, /PostgreSQL encoding: The database is in LATIN1/);
});

test('dead letters are inspected, replayed and audited as with Redis', needsPostgresBinaries, async (t) => {
  const { amqpUrl, node, stream, variables, deadLetters } = await setUp(t, 'pg-replay');
  await WorkerProcess.ready(t, { ...variables, GAP_TIMEOUT_MS: '300' });
  const at = (...sequences: number[]) => sequences.map((sequence) => ({ entityId: 'a', sequence }));
  await publishTrace(amqpUrl, stream, at(1, 2, 4, 5));
  await waitFor(async () => (await deadLetters()) === 2, { what: 'two dead letters', timeoutMs: 30_000 });
  const command = async (...words: string[]) => {
    const { io, out } = keptIo({ env: variables });
    return { code: await runHere(words, io), ...out };
  };
  const listed = await command('dead-letters', 'list', '--json');
  assert.deepEqual(
    listed.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
      .map(({ sequence, reason }) => [sequence, reason]),
    [
      [4, 'gap_timeout'],
      [5, 'gap_timeout'],
    ],
  );
  await publishTrace(amqpUrl, stream, at(3));
  await waitFor(async () => (await readTraces(node.url, stream)).get('a')?.version === 3, { what: 'the missing event' });
  const replayed = await command('dead-letters', 'replay', '--ready', '--yes');
  assert.deepEqual([replayed.code, replayed.stdout.split('\n').at(-2)], [0, '2 replayed; 1 of 1 entities recovered']);
  assert.deepEqual((await readTraces(node.url, stream)).get('a'), { version: 5, types: ['e1', 'e2', 'e3', 'e4', 'e5'], parked: false });
  assert.match((await command('audit')).stdout, /replay trace a: replays 2 dead letters/);
});

/** A wire to the server on which the answer to a COMMIT gets lost, together with the connection, when that is asked for. */
async function loseCommitAnswers(t: TestContext, url: string): Promise<{ readonly url: string; loseNext(): Promise<void> }> {
  const { hostname, port } = new URL(url);
  let lose: (() => void) | null = null;
  const listener = createServer((client) => {
    const server = connect(Number(port), hostname);
    let [isLost, writes] = [false, false];
    client.on('data', (bytes) => {
      // Every statement ends in one; it is that of events that is to be lost.
      writes ||= bytes.includes('INSERT INTO inorder.applied ');
      if (lose !== null && writes && bytes.includes('COMMIT')) {
        isLost = true;
        lose();
        lose = null;
      }
      server.write(bytes);
    });
    // The answer says that the server has done it.
    server.on('data', (bytes) => (isLost ? client.destroy() : client.write(bytes)));
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const) {
      one.on('error', () => undefined);
      one.on('close', () => other.destroy());
    }
  }).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  t.after(() => listener.close());
  const through = new URL(url);
  through.hostname = '127.0.0.1';
  through.port = String((listener.address() as AddressInfo).port);
  return { url: through.href, loseNext: () => new Promise((resolve) => (lose = resolve)) };
}

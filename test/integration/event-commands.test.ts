/** The event store from the command line: append, list, verify, rebuild, relay, and a worker that repairs its gaps from it. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { createEventStore } from '../../src/index.ts';
import { keptIo, runHere } from '../support/command-io.ts';
import { startCommand } from '../support/command-process.ts';
import { needsPostgres, usePostgres } from '../support/postgres.ts';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { readTraces, untilApplied, wrongTraces } from '../support/trace.ts';

const kinds = ['postgres', 'redis'] as const;

async function useStream(t: TestContext, kind: (typeof kinds)[number], states: (typeof kinds)[number] = 'redis') {
  const services = await useServices(t);
  const url = kind === 'postgres' ? await usePostgres() : services.redisUrl;
  const events = { EVENT_STORE: kind, STATE_STORE: states, ...(kind === 'postgres' ? { DATABASE_URL: url } : {}), ENTITY_TYPE: 'trace' };
  const run = new StreamRun(t, `events-${kind}`, { ...services, variables: events });
  const store = createEventStore(kind === 'postgres' ? { postgres: { url, stream: run.stream } } : { redis: { url, stream: run.stream } });
  t.after(() => store.close());
  const directory = mkdtempSync(join(tmpdir(), 'events-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const env = { AMQP_URL: run.amqpUrl, REDIS_URL: run.redisUrl, STREAM: run.stream, SHARDS: '2', PROCESSOR: 'history', ...events };
  const commandWith =
    (variables: Readonly<Record<string, string>>) =>
    async (...words: string[]) => {
      const { io, out } = keptIo({ env: { ...env, ...variables } });
      return { code: await runHere(words, io), ...out };
    };
  const command = Object.assign(commandWith({}), { with: commandWith });
  const file = (lines: readonly object[]) => {
    const path = join(directory, 'events.ndjson');
    writeFileSync(path, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    return path;
  };
  const relay = async (variables: Readonly<Record<string, string>> = {}) => {
    const running = await startCommand(['relay'], { ...env, ...variables });
    t.after(() => running.process.kill('SIGKILL'));
    return running;
  };
  return { run, store, command, file, relay };
}

const lines = (entities: number, length: number) =>
  Array.from({ length: entities * length }, (_, index) => {
    const [entity, sequence] = [index % entities, Math.floor(index / entities) + 1];
    return { id: `e-${entity}/${sequence}`, entity_id: `e-${entity}`, type: `e${sequence}`, data: { n: sequence } };
  });

for (const kind of kinds) {
  const needs = kind === 'postgres' ? needsPostgres : {};
  test(`${kind}: what is appended is listed, relayed in order, applied, and verified; again, it changes nothing`, needs, async (t) => {
    const { run, command, file, relay } = await useStream(t, kind);
    const path = file(lines(10, 8));
    assert.deepEqual((await command('events', 'append', path)).stdout, '80 appended, 0 known, 0 refused\n');
    assert.deepEqual((await command('events', 'append', path)).stdout, '0 appended, 80 known, 0 refused\n');
    const listed = await command('events', 'list', 'e-3', '--json');
    const first = JSON.parse(listed.stdout.split('\n')[0] ?? '');
    assert.deepEqual([first.id, first.sequence, first.position, first.data], ['e-3/1', 1, 4, { n: 1 }]);
    assert.match((await command('events', 'list', 'e-3')).stdout, /^ {5}1 {2}\S+Z {2}e1 {2}e-3\/1\n/);
    assert.deepEqual((await command('events', 'list', 'nobody')).code, 1);

    await run.worker();
    const relaying = await relay();
    await untilApplied(run.redisUrl, run.stream, 10, 8);
    assert.deepEqual((await command('events', 'verify')).stdout, '10 verified, 0 wrong, 0 not applied to their end yet\n');
    relaying.process.kill('SIGTERM');
    assert.equal((await relaying.ended).code, 0);
    await command('events', 'append', file([{ entity_id: 'e-0', type: 'e9' }]));
    assert.deepEqual((await command('events', 'verify', 'e-0')).stdout, '1 verified, 0 wrong, 1 not applied to their end yet\n');
  });

  test(
    `${kind}: a second relay stands by; killed again and again, relays publish every event, and each is applied once and in order`,
    needs,
    async (t) => {
      const { run, command, file, relay } = await useStream(t, kind);
      const [entities, length] = [40, 50];
      await command('events', 'append', file(lines(entities, length)));
      await run.worker();
      let active = await relay();
      for (const share of [0.2, 0.5, 0.8]) {
        const standby = await relay();
        await waitFor(async () => (await run.applied()) >= entities * length * share, { what: `${share} applied`, timeoutMs: 60_000 });
        active.process.kill('SIGKILL');
        await active.ended;
        active = standby;
      }
      await untilApplied(run.redisUrl, run.stream, entities, length);
      assert.deepEqual(wrongTraces(await readTraces(run.redisUrl, run.stream)), []);
      assert.equal((await command('events', 'verify')).code, 0);
      await run.assertNothingLeft();
    },
  );

  test(`${kind}: a worker fetches what was never published from the event store`, needs, async (t) => {
    const { run, command, file } = await useStream(t, kind);
    await command('events', 'append', file(lines(1, 6)));
    const worker = await run.worker({ GAP_REPAIR: 'event-store', GAP_REPAIR_AFTER_MS: '200' });
    await run.publish([1, 3, 6].map((sequence) => ({ entityId: 'e-0', sequence })));
    await run.untilApplied(6);
    assert.equal(await worker.metric('inorder_repaired_events_total'), 3);
    // What was fetched says the same as what is published late.
    await run.publish([{ entityId: 'e-0', sequence: 2 }]);
    await waitFor(async () => (await worker.metric('inorder_events_total', { outcome: 'duplicate' })) === 1, { what: 'the duplicate' });
    await run.assertNothingLeft();
  });

  test(`${kind}: a state that is wrong is found, and rebuilt from the events`, needs, async (t) => {
    const { run, command, file, relay } = await useStream(t, kind);
    await command('events', 'append', file(lines(3, 4)));
    await run.worker();
    await relay();
    await untilApplied(run.redisUrl, run.stream, 3, 4);
    const path = file([{ count: 99 }]);
    assert.equal((await command('entity', 'resync', 'e-1', '--version=4', `--state=${path}`, '--reason=broken', '--yes')).code, 0);
    const wrong = await command('events', 'verify');
    assert.deepEqual(
      [wrong.code, wrong.stdout],
      [1, 'trace "e-1": its state at version 4 is not what its events make of it\n3 verified, 1 wrong, 0 not applied to their end yet\n'],
    );
    const rebuilt = await command('rebuild', '--yes');
    assert.deepEqual([rebuilt.code, rebuilt.stdout], [0, '1 rebuilt, 2 unchanged, 0 failed\n']);
    assert.equal((await command('events', 'verify')).code, 0);
    assert.deepEqual(wrongTraces(await readTraces(run.redisUrl, run.stream)), []);
    assert.match((await command('audit')).stdout, /rebuild: rebuilds the states of all entities/);
  });
}

test('a file that has grown, lines that repeat, and what was read of another day, are told line by line', async (t) => {
  const { command, file } = await useStream(t, 'redis');
  const line = (n: number, id: string | undefined = `g${n}`, more: object = {}) => ({ id, entity_id: 'G', type: `t${n}`, ...more });
  const append = async (...given: object[]) => command('events', 'append', file(given));
  assert.equal((await append(line(1), line(2), line(3))).stdout, '3 appended, 0 known, 0 refused\n');
  const grown = await append(line(1), line(2), line(3), line(4), line(5));
  assert.deepEqual([grown.code, grown.stdout, grown.stderr], [0, '2 appended, 3 known, 0 refused\n', '']);
  const twice = await append(line(6), line(6), line(7));
  assert.deepEqual([twice.code, twice.stdout], [0, '2 appended, 1 known, 0 refused\n']);
  const conflicting = await append(line(5), { ...line(6), data: 1 }, line(8));
  assert.deepEqual([conflicting.code, conflicting.stdout], [1, '1 appended, 1 known, 1 refused\n']);
  assert.match(
    conflicting.stderr,
    /^inorder: \S+events\.ndjson, line 2: message_id_conflict: one of the ids is that of another event of the entity\n$/,
  );
  const another = { entity_id: 'H', type: 't' };
  assert.equal((await append(another, another)).stdout, '2 appended, 0 known, 0 refused\n');
  const again = await append(another, another, another);
  assert.deepEqual([again.code, again.stdout], [0, '1 appended, 2 known, 0 refused\n']);
  assert.match(
    again.stderr,
    /^inorder: \S+: 2 of the known lines have no id: they were taken for repetitions because .*; if they are new events, give them ids\n$/,
  );
  const bad = await append({ aggregateId: 'x', type: 't' });
  assert.deepEqual([bad.code, bad.stdout], [1, '0 appended, 0 known, 1 refused\n']);
  assert.match(
    bad.stderr,
    /line 1: invalid_entity: entity_id is missing; is entity_id "aggregateId"\? Then --map entity_id=aggregateId\n$/,
    'and nothing of an option that this command has not',
  );
});

test('verify and rebuild without the aggregate say so, once for each type, and call nothing wrong', async (t) => {
  const { command, file } = await useStream(t, 'redis');
  await command('events', 'append', file(lines(3, 2)));
  const others = { PROCESSOR: 'order', ENTITY_TYPE: 'order' };
  const said = /^inorder: "trace": PROCESSOR order has no aggregate for entities of this type; set PROCESSOR .*\n$/;
  const verified = await command.with(others)('events', 'verify');
  assert.deepEqual(
    [verified.code, verified.stdout],
    [1, '0 verified, 0 wrong, 0 not applied to their end yet, 3 without an aggregate: nothing is said of them\n'],
  );
  assert.match(verified.stderr, said);
  const rebuilt = await command.with(others)('rebuild', '--yes');
  assert.deepEqual(
    [rebuilt.code, rebuilt.stdout],
    [1, '0 rebuilt, 0 unchanged, 0 failed, 3 without an aggregate: nothing is said of them\n'],
  );
  assert.match(rebuilt.stderr, said);
});

test('events are appended, published and verified up to the limits that are set, and no further', async (t) => {
  const { run, command, file, relay } = await useStream(t, 'redis');
  const limits = { MAX_BODY_BYTES: '3000000', MAX_STATE_BYTES: '10000000' };
  const big = file([{ entity_id: 'e', type: 'e1', id: '1', data: 'x'.repeat(2_000_000) }]);
  assert.match((await command('events', 'append', big)).stderr, /too_large|the limit is 1048576/);
  assert.deepEqual((await command.with(limits)('events', 'append', big)).stdout, '1 appended, 0 known, 0 refused\n');
  await run.worker(limits);
  await relay(limits);
  await untilApplied(run.redisUrl, run.stream, 1, 1, 120_000);
  assert.equal((await command.with(limits)('events', 'verify')).code, 0);
});

for (const kind of kinds) {
  const needs = kind === 'postgres' ? needsPostgres : {};
  test(`${kind}: with EVENT_LOG workers keep what they apply, each event once and in order, whatever is killed`, needs, async (t) => {
    const { run, command } = await useStream(t, kind, kind);
    assert.match(
      (await command('events', 'list', 'a', '--applied')).stderr,
      /there are no events of trace "a"; workers keep what they apply where EVENT_LOG is true/,
    );
    const keeping = { EVENT_LOG: 'true' };
    const first = await run.worker(keeping);
    await run.worker(keeping);
    const at = (...sequences: number[]) => sequences.map((sequence) => ({ entityId: 'a', sequence }));
    await run.publish(at(1, 3, 2, 2, 5));
    const applied = async () =>
      (await command('events', 'list', 'a', '--applied', '--json')).stdout
        .trim()
        .split('\n')
        .filter((line) => line !== '');
    await waitFor(async () => (await applied()).length === 3, { what: 'three events kept', timeoutMs: 30_000 });
    await run.kill(first);
    await run.publish(at(4, 3, 1, 6));
    await waitFor(async () => (await applied()).length === 6, { what: 'six events kept', timeoutMs: 30_000 });
    const kept = (await applied()).map((line) => JSON.parse(line));
    assert.deepEqual(
      kept.map(({ sequence, type, id, data }) => [sequence, type, id, data.n]),
      [1, 2, 3, 4, 5, 6].map((n) => [n, `e${n}`, `a/${n}`, n]),
    );
    assert.match((await command('events', 'list', 'a', '--applied')).stdout, /^ +1  -  e1  a\/1$/m);
  });
}

test('what `events list --applied --json` prints is published again, also of events with an AMQP timestamp in milliseconds, or none', async (t) => {
  const { run, command, file } = await useStream(t, 'redis');
  const worker = await run.worker({ EVENT_LOG: 'true' });
  const channel = await run.channel();
  const atMs = Date.UTC(2026, 0, 5, 10);
  for (const [index, timestamp] of [atMs, 0, atMs / 1_000].entries()) {
    const body = JSON.stringify({ entity_id: 'p', sequence: index + 1, type: `e${index + 1}`, data: { n: 1.5, text: 'a\u2028b' } });
    channel.publish(run.stream, 'p', Buffer.from(body), { contentType: 'application/json', timestamp });
  }
  await run.untilApplied(3);
  const listed = (await command('events', 'list', 'p', '--applied', '--json')).stdout;
  assert.deepEqual(
    listed
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).timestamp),
    ['2026-01-05T10:00:00.000Z', null, '2026-01-05T10:00:00.000Z'],
  );
  const published = await command(
    'publish',
    file(
      listed
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ),
  );
  assert.equal(published.stdout, '3 events: 3 published, 3 confirmed, 0 returned, 0 failed\n', published.stderr);
  await waitFor(async () => (await worker.metric('inorder_events_total', { outcome: 'duplicate' })) === 3, {
    what: 'three duplicates',
    timeoutMs: 30_000,
  });
});

test('without an ID --type chooses the entities of that type, and nothing else is rebuilt', async (t) => {
  const { command, file } = await useStream(t, 'redis');
  const lines = (['trace', 'other'] as const).map((type) => ({
    id: type,
    entity_type: type,
    entity_id: 'a-$(id)',
    type: 'Happened',
    data: {},
  }));
  assert.equal((await command('events', 'append', file(lines))).code, 0);
  const listed = await command('events', 'list', '--type', 'other', '--json');
  assert.deepEqual(
    listed.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).entity_type),
    ['other'],
  );
  assert.match((await command('events', 'list', '--type', 'none')).stderr, /no events of all entities of type "none"/);
  assert.match((await command('rebuild', '--type', 'trace', '--yes')).stdout, /^1 rebuilt, 0 unchanged, 0 failed/);
  assert.match((await command('events', 'verify', '--type', 'trace')).stdout, /^1 verified, 0 wrong/);
  assert.match((await command('audit')).stdout, /rebuilds the states of all entities of type "trace"/);
  for (const [type, behind] of [
    ['trace', 0],
    ['other', 1],
    ['none', 0],
  ] as const) {
    assert.match((await command('recover', '--from', 'event-store', '--type', type)).stdout, new RegExp(`^${behind} behind`, 'm'), type);
  }
  assert.match(
    (await command('entity', 'show', 'b-$(id)')).stderr,
    /list --entity 'b-\$\(id\)'$/m,
    'a line that can be copied into a shell',
  );
});

test('what recover is to read is looked at first: a mark before it is taken off, and what is no JSON, or empty, is named', async (t) => {
  const { command, file } = await useStream(t, 'redis');
  const path = file([]);
  const recover = async (content: string | Buffer) => {
    writeFileSync(path, content);
    return command('recover', '--from', path);
  };
  const line = '{"entity_type":"trace","entity_id":"a","version":3,"state":{}}\n';
  const marked = await recover(`\uFEFF${line}`);
  assert.match(`${marked.stdout}${marked.stderr}`, /^trace "a" at 0, behind by 3, to 3$/m);
  for (const content of ['', '\n\n', Buffer.from(line, 'utf16le'), 'PK\x03\x04zip', 'entity_id,version\na,3\n']) {
    const { code, stdout, stderr } = await recover(content);
    assert.deepEqual([code, stdout], [2, ''], stderr);
  }
});

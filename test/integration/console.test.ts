import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { freePort } from '../../deploy/local/free-port.ts';
import { runCommand, startCommand } from '../support/command-process.ts';
import { adminToken, ConsoleClient } from '../support/console-client.ts';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { readTraces, type TraceEvent } from '../support/trace.ts';

const at = (entityId: string, ...sequences: number[]): TraceEvent[] => sequences.map((sequence) => ({ entityId, sequence }));
const hostile = '"><img src=x onerror=alert(1)>\u202E';

async function useStream(t: TestContext, name: string, more: Readonly<Record<string, string>> = {}) {
  const services = await useServices(t);
  const run = new StreamRun(t, name, { ...services, variables: { GAP_TIMEOUT_MS: '500', ADMIN_TOKEN: adminToken, ...more } });
  const worker = await run.worker();
  const trace = async (entityId: string) => (await readTraces(run.redisUrl, run.stream)).get(entityId);
  return { run, worker, client: new ConsoleClient(worker.httpUrl), trace };
}

/** Publishes bytes that are no event of the trace. */
async function publishRaw(run: StreamRun, routingKey: string, body: string, headers: Record<string, string> = {}): Promise<void> {
  const channel = await run.channel();
  channel.publish(run.stream, routingKey, Buffer.from(body), { contentType: 'application/json', persistent: true, headers });
  await channel.waitForConfirms();
}

const sumOf = (overview: any, total: string): number => overview.shards.reduce((sum: number, { totals }: any) => sum + totals[total], 0);

test('a worker shows its shards, an open gap with its countdown and the parked entity that it becomes', async (t) => {
  const { run, worker, client } = await useStream(t, 'console-look', { GAP_TIMEOUT_MS: '3000' });
  await run.publish([...at('a', 1, 2, 5, 6), ...at('b', 1)]);
  const overview = await waitFor(
    async () => {
      const seen = await client.api('overview');
      return seen.gaps.total === 1 && sumOf(seen, 'applied') === 3 ? seen : null;
    },
    { what: 'the gap' },
  );
  const [gap] = overview.gaps.rows;
  assert.deepEqual([gap.entity_id, gap.version, gap.missing_from, gap.missing_to, gap.held], ['a', 2, 3, 4, 2]);
  assert.ok(gap.ends_in_ms > 0 && gap.ends_in_ms <= 3_000, String(gap.ends_in_ms));
  assert.deepEqual(
    overview.shards.map(({ state, consumers }: any) => [state, consumers]),
    [
      ['consuming', 1],
      ['consuming', 1],
    ],
  );
  assert.equal(sumOf(overview, 'delivered'), 5);
  const held = await client.api('entity?type=trace&id=a');
  assert.deepEqual(
    held.runs.map(({ state, from, to }: any) => [state, from, to]),
    [
      ['applied', 1, 2],
      ['missing', 3, 4],
      ['held', 5, 6],
    ],
  );

  await client.letters(2);
  const entity = await client.api('entity?type=trace&id=a');
  assert.deepEqual(
    entity.runs.map(({ state, from, reason }: any) => [state, from, reason]),
    [
      ['applied', 1, undefined],
      ['missing', 3, undefined],
      ['dead-lettered', 5, 'gap_timeout'],
      ['dead-lettered', 6, 'gap_timeout'],
    ],
  );
  assert.equal(entity.parked.reason, 'gap_timeout');
  const parked = await client.api('parked');
  assert.deepEqual([parked.total, parked.scanned, parked.entities[0].entity_id], [1, 2, 'a']);
  await run.end(worker);
});

test('dead letters are replayed through the console in order, as it was planned, and it is on record who did it', async (t) => {
  const { run, client, trace } = await useStream(t, 'console-replay');
  await run.publish([...at('a', 1, 2, 5, 4, 6), ...at('b', 1, 3)]);
  await client.letters(4);
  const blocked = await client.plan({ action: 'replay', all: true });
  assert.deepEqual([blocked.plan.letters, blocked.plan.blocked], [0, 4]);
  await run.publish(at('a', 3));
  await waitFor(async () => (await trace('a'))?.version === 3, { what: 'the missing event' });

  const done = await client.carryOut({ action: 'replay', ready_only: true });
  assert.deepEqual([done.state, done.outcome.replayed, done.outcome.recovered, done.error], ['done', 3, 1, null]);
  assert.deepEqual(await trace('a'), { version: 6, types: ['e1', 'e2', 'e3', 'e4', 'e5', 'e6'], parked: false });
  const { entries } = await client.api('audit');
  assert.deepEqual([entries.length, entries[0].action, entries[0].who, entries[0].entity_id], [1, 'replay', 'console 127.0.0.1', 'a']);
  await client.letters(1);
  await run.assertNothingLeft({ deadLetters: 1 });
});

test('dead letters are discarded with a reason that is kept, and a skipped sequence lets the entity go on', async (t) => {
  const { run, client, trace } = await useStream(t, 'console-discard');
  await run.publish(at('a', 1));
  await publishRaw(run, 'x', '{"broken":');
  await publishRaw(run, 'x', '{"broken too":');
  const { letters } = await client.letters(2);
  const ask = (body: object) => client.ask('/console/api/changes', { body, admin: true });
  assert.equal((await ask({ action: 'discard', why: 'spam', message_id: 7 })).status, 400);
  assert.equal((await ask({ action: 'discard', message_id: letters[0].fingerprint })).status, 400);

  const done = await client.carryOut({ action: 'discard', message_id: letters[0].fingerprint, why: 'spam' });
  assert.deepEqual([done.state, done.outcome], ['done', { discarded: 1 }]);
  const rest = await client.letters(1);
  assert.equal(rest.letters[0].fingerprint, letters[1].fingerprint);
  const { entries } = await client.api('audit');
  assert.deepEqual([entries[0].action, entries[0].who, entries[0].reason], ['discard', 'console 127.0.0.1', 'spam']);

  await publishRaw(
    run,
    'a',
    JSON.stringify({ id: 'a/1', entity_type: 'trace', entity_id: 'a', sequence: 2, type: 'e2', data: { other: 1 } }),
  );
  const conflict = (await client.letters(2, '?entity_id=a')).letters[0];
  assert.equal(conflict.reason, 'message_id_conflict');
  const others = await client.plan({ action: 'discard', reason: 'message_id_conflict', why: 'only looking' });
  assert.deepEqual([others.plan.letters, others.plan.entities.length], [1, 1]);
  const skipped = await client.carryOut({ action: 'discard', entity_id: 'a', why: 'an id was used twice', skip_sequence: true });
  assert.equal(skipped.error, null);
  await run.publish(at('a', 3));
  await waitFor(async () => (await trace('a'))?.version === 3, { what: 'the entity going on' });
  assert.deepEqual(
    (await client.api('entity?type=trace&id=a')).runs.map(({ state, from, to }: any) => [state, from, to]),
    [
      ['applied', 1, 1],
      ['hole', 2, 2],
      ['applied', 3, 3],
    ],
  );
});

test('a sequence that is not the next one is refused in the plan of a discard that would skip it', async (t) => {
  const { run, client } = await useStream(t, 'console-skip');
  await run.publish(at('a', 1, 3));
  const { letters } = await client.letters(1);
  const { state, error } = await client.plan({ action: 'discard', message_id: letters[0].fingerprint, why: 'test', skip_sequence: true });
  assert.deepEqual([state, error], ['failed', 'trace "a" is at version 1: sequence 3 is not the next one, and cannot be skipped']);
  assert.equal(await run.ready(run.deadLetters), 1);
});

test('only what was planned goes, also when more was dead-lettered since', async (t) => {
  const { run, client } = await useStream(t, 'console-cutoff');
  await publishRaw(run, 'x', '1');
  await client.letters(1);
  const planned = await client.plan({ action: 'discard', all: true, why: 'test' });
  await publishRaw(run, 'x', '2');
  await waitFor(async () => (await run.ready(run.deadLetters)) === 2, { what: 'the second dead letter' });
  await client.api(`changes/${planned.id}/confirm`, { body: {}, admin: true });
  await waitFor(async () => (await run.ready(run.deadLetters)) === 1, { what: 'the discard' });
  assert.equal((await client.ask(`/console/api/changes/${planned.id}/confirm`, { body: {}, admin: true })).status, 409);
});

test('headers and body are shown with the token and asked for only; hostile ids and payloads come as text', async (t) => {
  const { run, client } = await useStream(t, 'console-payload');
  await publishRaw(run, 'x', `{"broken": "${hostile.replaceAll('"', '\\"')}`, { secret: hostile });
  await run.publish(at(hostile, 1, 3));
  const { letters, groups } = await client.letters(2);
  const open = JSON.stringify([letters, groups]);
  assert.ok(!open.includes('secret') && !open.includes('broken'));
  const [malformed, gap] = letters;
  assert.deepEqual([gap.entity_id, gap.reason], [hostile, 'gap_timeout']);
  assert.equal((await client.api(`letters?${new URLSearchParams({ entity_id: hostile })}`)).found, 1);

  const path = `letters/${malformed.fingerprint}`;
  assert.equal((await client.api(path)).payload, null);
  assert.equal((await client.api(path, { admin: true })).payload, null);
  assert.equal((await client.ask(`/console/api/${path}?payload=1`)).status, 401);
  const { status, headers, body } = await client.ask(`/console/api/${path}?payload=1`, { admin: true });
  assert.deepEqual([status, headers['content-type'], body.payload.body_kind], [200, 'application/json; charset=utf-8', 'text']);
  assert.ok(body.payload.body.includes(hostile.replaceAll('"', '\\"')));
  assert.ok(body.payload.headers.some(([name, value]: [string, string]) => name === 'secret' && value === hostile));
  assert.match(body.remedy, /\w/);
  const detail = await client.api(`letters/${gap.fingerprint}`);
  assert.deepEqual([detail.missing, detail.entity_version, detail.status], [2, 1, 'waits for 2, which was never seen; here is 3']);
});

test('strangers, forgers and guessers are kept out, and nothing of it changes anything', async (t) => {
  const { run, client } = await useStream(t, 'console-gate');
  await publishRaw(run, 'x', '1');
  await client.letters(1);
  const change = { action: 'discard', all: true, why: 'test' };
  const post = async (headers: Record<string, string>, admin = true) =>
    (await client.ask('/console/api/changes', { body: change, admin, headers })).status;
  assert.equal(await post({}, false), 401);
  assert.equal(await post({ host: 'evil.example' }), 403);
  assert.equal(await post({ origin: 'http://evil.example' }), 403);
  assert.equal(await post({ 'sec-fetch-site': 'cross-site' }), 403);
  assert.equal(await post({ 'content-type': 'text/plain' }), 400);
  assert.equal((await client.ask('/console/api/overview', { headers: { host: 'evil.example:9464' } })).status, 403);
  assert.equal((await client.ask('/', { headers: { host: 'evil.example:9464' } })).status, 403);
  const guesses = Array.from({ length: 12 }, () => post({ authorization: 'Bearer guess' }, false));
  // Let in, while guesses from the same address still wait for their answers.
  assert.equal((await client.ask('/console/api/changes/none', { admin: true })).status, 404);
  assert.equal((await client.ask('/console/api/overview')).status, 200);
  for (const guess of guesses) assert.equal(await guess, 401);
  assert.equal(await run.ready(run.deadLetters), 1);
  assert.deepEqual((await client.api('audit')).entries, []);
});

test('the audit trail says which user it was, by token or by proxy, and a viewer changes nothing', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'inorder-tokens-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const line = (name: string, role: string) => `${name} ${role} ${createHash('sha256').update(`the-token-of-${name}`).digest('hex')}\n`;
  writeFileSync(join(folder, 'tokens'), line('alice', 'operator') + line('bob', 'viewer'));
  const { run, client } = await useStream(t, 'console-users', {
    ADMIN_TOKEN: '',
    TOKENS_FILE: join(folder, 'tokens'),
    TRUSTED_USER_HEADER: 'X-User',
    TRUSTED_PROXIES: '127.0.0.1',
    TRUSTED_OPERATORS: 'carol',
  });
  await publishRaw(run, 'x', '1');
  await publishRaw(run, 'x', '2');
  const { letters } = await client.letters(2);
  type Headers = Record<string, string>;
  const users: readonly Headers[] = [{ authorization: 'Bearer the-token-of-alice' }, { 'x-user': 'carol' }];
  const viewers: readonly Headers[] = [{ authorization: 'Bearer the-token-of-bob' }, { 'x-user': 'dan' }];
  for (const [index, headers] of users.entries()) {
    const body = { action: 'discard', message_id: letters[index].fingerprint, why: 'test' };
    for (const viewer of viewers) assert.equal((await client.ask('/console/api/changes', { body, headers: viewer })).status, 403);
    const { id } = await client.api('changes', { body, headers });
    const planned = async () => (await client.api(`changes/${id}`, { headers })).state === 'planned';
    await waitFor(planned, { what: 'the plan' });
    await client.api(`changes/${id}/confirm`, { body: {}, headers });
    await waitFor(async () => (await run.ready(run.deadLetters)) === 1 - index, { what: 'the discard' });
  }
  const who = async () => (await client.api('audit')).entries.map(({ who: name }: any) => name);
  await waitFor(async () => (await who()).length === 2, { what: 'both on record' });
  assert.deepEqual(await who(), ['console carol@127.0.0.1', 'console alice@127.0.0.1']);
});

test('a reading leaves the queue as it was, and is not made for those who do not look at letters', async (t) => {
  const { run, client } = await useStream(t, 'console-quiet');
  const channel = await run.channel();
  // Past the shards: what a shard rejects is marked as redelivered from the beginning by RabbitMQ 4.
  for (let index = 0; index < 5; index++) channel.publish(`${run.stream}.dlx`, 'x', Buffer.from(String(index)), { persistent: true });
  await channel.waitForConfirms();
  for (let asked = 0; asked < 3; asked++) await client.api('overview');
  const first = await channel.get(run.deadLetters);
  assert.ok(first !== false && !first.fields.redelivered, 'nobody has read it');
  channel.nack(first);
  const before = (await client.letters(5)).letters.map(({ fingerprint }: any) => fingerprint);
  await waitFor(async () => (await run.ready(run.deadLetters)) === 5, { what: 'all given back' });
  await client.api('letters/read', { body: {} });
  const again = await waitFor(
    async () => {
      await client.api('overview?watch=letters');
      const letters = await client.api('letters');
      return letters.revision === 2 ? letters : null;
    },
    { what: 'another reading' },
  );
  assert.deepEqual(
    again.letters.map(({ fingerprint }: any) => fingerprint),
    before,
  );
});

test('a worker that others can reach without a token goes on without the console, and says so', async (t) => {
  const { run, worker, client } = await useStream(t, 'console-off', { HTTP_HOST: '0.0.0.0', ADMIN_TOKEN: '' });
  assert.match(worker.output, /"the console is off"/);
  assert.equal((await client.ask('/')).status, 404);
  assert.equal((await client.ask('/console/api/overview')).status, 404);
  assert.equal((await client.ask('/metrics')).status, 200);
  await run.end(worker);
});

test('inorder console does not start where others can reach it without a token', async () => {
  const { code, stderr } = await runCommand(['console'], { HTTP_HOST: '0.0.0.0', HTTP_PORT: '0' });
  assert.equal(code, 2);
  assert.match(stderr, /^inorder: HTTP_HOST is 0\.0\.0\.0, .*ADMIN_TOKEN.*\n$/);
});

test('inorder console shows workers that it is told of, beyond loopback only with the token', async (t) => {
  const beyond = { HTTP_HOST: '0.0.0.0', READ_TOKEN: 'a-token-to-read-with' };
  const { run, worker, client: stranger } = await useStream(t, 'console-alone', { ...beyond, GAP_TIMEOUT_MS: '600000' });
  await run.publish(at('a', 1, 3));
  const port = await freePort();
  const variables = {
    AMQP_URL: run.amqpUrl,
    REDIS_URL: run.redisUrl,
    STREAM: run.stream,
    SHARDS: '2',
    ADMIN_TOKEN: adminToken,
    ...beyond,
    HTTP_PORT: String(port),
  };
  const command = await startCommand(['console', '--workers', `${worker.httpUrl},http://127.0.0.1:1`], variables);
  t.after(() => command.process.kill('SIGKILL'));
  const client = new ConsoleClient(`http://127.0.0.1:${port}`);
  await waitFor(async () => (await client.ask('/').catch(() => null))?.status === 200, { what: 'the console', timeoutMs: 30_000 });
  assert.equal((await client.ask('/console/api/overview')).status, 401);
  const overview = await waitFor(
    async () => {
      const seen = await client.api('overview', { admin: true });
      return seen.gaps.rows.length === 1 ? seen : null;
    },
    { what: 'the gap, of which the worker tells nobody else' },
  );
  const { shards, withheld } = (await stranger.ask('/status')).body;
  assert.deepEqual(shards.map(({ gaps, open_gaps }: any) => [gaps, open_gaps.length]).toSorted(), [
    [0, 0],
    [1, 0],
  ]);
  assert.match(withheld, /READ_TOKEN/);
  assert.deepEqual(
    overview.workers.map(({ state }: any) => state),
    ['running', null],
  );
  assert.deepEqual(
    overview.shards.map(({ worker: name }: any) => `http://${name}`),
    [worker.httpUrl, worker.httpUrl],
  );
  assert.equal((await client.ask('/metrics', { admin: true })).status, 404);
  command.process.kill('SIGTERM');
  const { code, stderr } = await command.ended;
  assert.deepEqual([code, stderr], [0, '']);
});

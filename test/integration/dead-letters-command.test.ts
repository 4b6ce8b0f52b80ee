import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import amqp from 'amqplib';
import { keptIo, runHere } from '../support/command-io.ts';
import { useTopology } from '../support/published.ts';
import { waitFor } from '../support/services.ts';
import { WorkerProcess } from '../support/worker-process.ts';

interface Sent {
  readonly body: string | Buffer;
  readonly entityId: string;
  readonly messageId?: string;
}

/** A stream whose worker has dead-lettered something; `run` is a command of its operator. */
async function useDeadLetters(t: TestContext, sent: readonly Sent[], expected: number) {
  const { amqpUrl, stream, variables } = await useTopology(t, 'dlq');
  const env = { ...variables, SHARDS: '2', PROCESSOR: 'history', GAP_TIMEOUT_MS: '300' };
  const connection = await amqp.connect(amqpUrl);
  t.after(() => connection.close());
  const channel = await connection.createConfirmChannel();
  const ready = async () => (await channel.checkQueue(`${stream}.dead-letters`)).messageCount;
  const worker = await WorkerProcess.ready(t, env);
  for (const { body, entityId, messageId } of sent) {
    channel.publish(stream, entityId, Buffer.from(body), { persistent: true, contentType: 'application/json', messageId });
  }
  await channel.waitForConfirms();
  await waitFor(async () => (await ready()) === expected, { what: `${expected} dead letters`, timeoutMs: 30_000 });
  await worker.kill();
  async function run(words: readonly string[], changed: Record<string, string> = {}) {
    const { io, out } = keptIo({ env: { ...variables, ...changed } });
    return { code: await runHere(words, io), ...out };
  }
  const listed = async (...options: string[]) => {
    const { stdout } = await run(['dead-letters', 'list', '--json', ...options]);
    return stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  };
  return { stream, channel, ready, run, listed, shardQueue: `${stream}.shard.000` };
}

const event = (entityId: string, sequence: number, more: object = {}): Sent => ({
  entityId,
  body: JSON.stringify({
    id: `${entityId}-${sequence}`,
    entity_type: 'trace',
    entity_id: entityId,
    sequence,
    type: 'Happened',
    data: { n: 1.5 },
    ...more,
  }),
});

const truncated = '{"id":"cut","entity_id":"c","sequ';
const bytes = Buffer.from([0x7b, 0xff, 0xfe, 0x1b, 0x00]);

test('list names every dead letter with its reason, oldest first, and leaves the queue as it was', async (t) => {
  const gap = [event('a', 1), event('a', 3), event('a', 4)];
  const sent = [...gap, { entityId: 'c', body: truncated, messageId: 'sent-as' }, { entityId: 'd', body: bytes }];
  const { listed, ready, run } = await useDeadLetters(t, sent, 4);
  const letters = await listed();
  const byId = new Map(letters.map((letter) => [letter.message_id, letter]));
  const third = byId.get('a-3');
  assert.deepEqual(
    { ...third, dead_lettered_at: null, shard: null, detail: null },
    {
      message_id: 'a-3',
      entity_type: 'trace',
      entity_id: 'a',
      sequence: 3,
      type: 'Happened',
      reason: 'gap_timeout',
      detail: null,
      shard: null,
      dead_lettered_at: null,
      replays: 0,
    },
  );
  assert.match(third.detail, /2/, 'says what is missing');
  assert.ok([0, 1].includes(third.shard));
  assert.ok(Math.abs(Date.parse(third.dead_lettered_at) - Date.now()) < 60_000);
  const order = letters.map(({ message_id }) => message_id);
  assert.ok(order.indexOf('a-3') < order.indexOf('a-4'));
  assert.equal(byId.get('sent-as').reason, 'malformed');
  const nameless = letters.find(({ message_id }) => !['a-3', 'a-4', 'sent-as'].includes(message_id));
  assert.match(nameless.message_id, /^[0-9a-f]{32}$/);

  assert.equal(await ready(), 4);
  assert.deepEqual(await listed(), letters);
  assert.deepEqual(await listed('--limit', '2'), letters.slice(0, 2));
  assert.deepEqual(await listed(), letters);
  const table = (await run(['dlq', 'list'])).stdout.trimEnd().split('\n');
  assert.equal(table.length, 5);
  assert.match(table[0] ?? '', /^MESSAGE +ENTITY +SEQ +TYPE +REASON +SHARD +SINCE$/);
  assert.match(table[1 + order.indexOf('a-3')] ?? '', /^a-3 +trace a +3 +Happened +gap_timeout +[01] +2/);
});

test('show tells reason, remedy, headers and body, by id and by fingerprint, and never prints raw control characters', async (t) => {
  const { run, listed } = await useDeadLetters(t, [event('a', 1), event('a', 3), { entityId: 'd', body: bytes }], 2);
  const { code, stdout } = await run(['dead-letters', 'show', 'a-3']);
  assert.equal(code, 0);
  assert.match(stdout, /^reason +gap_timeout$/m);
  assert.match(stdout, /^remedy +Find the missing event, publish it, then replay the entity\.$/m);
  assert.match(stdout, /^header +x-death: \[/m);
  assert.match(stdout, /^ {2}"data": \{\n {4}"n": 1\.5\n {2}\}\n\}$/m);
  const nameless = (await listed()).find(({ message_id }) => message_id !== 'a-3');
  const shown = await run(['dead-letters', 'show', nameless.message_id]);
  assert.match(shown.stdout, /000000 {2}7b ff fe 1b 00 +\{\.{4}$/m);
  assert.doesNotMatch(shown.stdout, /\u001b/);
  const json = JSON.parse((await run(['dead-letters', 'show', nameless.message_id, '--json'])).stdout);
  assert.equal(json.body_base64, bytes.toString('base64'));
  assert.equal(json.fingerprint, nameless.message_id);
});

test('every copy of a message is shown', async (t) => {
  const { run } = await useDeadLetters(t, [event('a', 1), event('a', 3), event('a', 3)], 2);
  const { stdout } = await run(['dead-letters', 'show', 'a-3', '--json']);
  assert.equal(stdout.trimEnd().split('\n').length, 2);
});

test('without a record the reason is the word of the broker', async (t) => {
  const { listed, channel, stream, ready, run } = await useDeadLetters(t, [], 0);
  const expiring = `${stream}.expiring`;
  await channel.assertQueue(expiring, { exclusive: true, arguments: { 'x-message-ttl': 1, 'x-dead-letter-exchange': `${stream}.dlx` } });
  channel.sendToQueue(expiring, Buffer.from(event('a', 1).body));
  channel.publish(`${stream}.dlx`, '', Buffer.from('put here by hand'));
  await waitFor(async () => (await ready()) === 2, { what: 'both' });
  const reasons = (await listed()).map(({ reason, shard, replays }) => ({ reason, shard, replays }));
  assert.deepEqual(
    reasons.sort((a, b) => a.reason.localeCompare(b.reason)),
    [
      { reason: 'expired', shard: null, replays: 0 },
      { reason: 'unknown', shard: null, replays: 0 },
    ],
  );
  assert.match((await run(['dead-letters', 'show', 'a-1'])).stdout, /^remedy +Publish without an expiration/m);
});

test('what is not there is one readable line and exit code 1, and bad usage 2', async (t) => {
  const { run, stream } = await useDeadLetters(t, [], 0);
  const empty = await run(['dead-letters', 'list']);
  assert.deepEqual([empty.code, empty.stdout, empty.stderr], [0, '', `${stream}.dead-letters is empty\n`]);
  const unknown = await run(['dead-letters', 'show', 'no\u001bone']);
  assert.deepEqual([unknown.code, unknown.stdout], [1, '']);
  assert.match(unknown.stderr, /^inorder: there is no dead letter "no\\u001bone" in .*\.dead-letters\n$/);
  const elsewhere = await run(['dead-letters', 'list'], { STREAM: 'nobody-made-this' });
  assert.equal(elsewhere.code, 1);
  assert.match(elsewhere.stderr, /^inorder: there is no queue nobody-made-this\.dead-letters: [^\n]+\n$/);
  const away = await run(['dead-letters', 'list'], { AMQP_URL: 'amqp://guest:hush@127.0.0.1:1' });
  assert.equal(away.code, 1);
  assert.match(away.stderr, /^inorder: the broker at [^\n]+\n$/);
  assert.doesNotMatch(away.stderr, /hush/);
  for (const limit of ['0', '-1', '1.5', 'x']) assert.equal((await run(['dead-letters', 'list', `--limit=${limit}`])).code, 2);
});

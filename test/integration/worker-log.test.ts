/** What a worker writes while things go wrong: each line is JSON with the fields of its kind, and no payload is in it. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'node:test';
import { moduleUrl } from '../support/checkout.ts';
import { runCommand } from '../support/command-process.ts';
import { adminToken, ConsoleClient } from '../support/console-client.ts';
import { leaks, secret } from '../support/leaking-processor.ts';
import { useServices, waitFor } from '../support/services.ts';
import { readSpans } from '../support/span-file.ts';
import { StreamRun } from '../support/stream-run.ts';

const marker = 'f0rbidden';

test('no payload, state or header is in the log, at its most talkative, whatever goes wrong', async (t) => {
  const run = new StreamRun(t, 'talkative', {
    ...(await useServices(t)),
    variables: { LOG_LEVEL: 'debug', GAP_TIMEOUT_MS: '500', PROCESSOR: 'order' },
  });
  const worker = await run.worker();
  const channel = await run.channel();
  const headers = { 'x-note': marker, traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' };
  const send = (entityId: string, body: string) =>
    channel.publish(run.stream, entityId, Buffer.from(body), { headers, contentType: 'application/json' });
  const event = (entityId: string, sequence: number, type: string, more: object = {}) =>
    send(
      entityId,
      JSON.stringify({
        id: `${entityId}/${sequence}`,
        entity_type: 'order',
        entity_id: entityId,
        sequence,
        type,
        data: { items: [], note: marker },
        metadata: { note: marker },
        ...more,
      }),
    );
  event('fine', 1, 'OrderCreated');
  event('fine', 1, 'OrderCreated', { data: { items: [], note: `${marker} again` } });
  event('early', 3, 'OrderCompleted');
  event('refused', 1, 'OrderCompleted');
  event('invalid', 1, 'OrderCreated', { data: { items: marker } });
  send('malformed', `{"id": "malformed/1", "data": ${marker}`);
  await channel.waitForConfirms();
  await waitFor(async () => (await run.ready(run.deadLetters)) === 5, { what: 'five dead letters', timeoutMs: 30_000 });
  const { output } = worker;
  const lines = output
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const dead = lines.filter(({ message }) => message === 'dead-lettered');
  assert.deepEqual(dead.map(({ reason }) => reason).sort(), [
    'gap_timeout',
    'invalid_data',
    'malformed',
    'not_created',
    'sequence_conflict',
  ]);
  for (const { level, shard, count, detail, trace_id } of dead) {
    assert.deepEqual(
      [level, typeof shard, typeof count, typeof detail, trace_id],
      ['warn', 'number', 'number', 'string', '0af7651916cd43dd8448eb211c80319c'],
    );
  }
  const early = dead.find(({ reason }) => reason === 'gap_timeout');
  assert.deepEqual([early.entity_type, early.entity_id, early.sequence, early.message_id], ['order', 'early', 3, 'early/3']);
  assert.ok(lines.some(({ level, message }) => level === 'debug' && message === 'an event came before its predecessor'));
  assert.ok(
    !output.includes(marker),
    output.split('\n').find((line) => line.includes(marker)),
  );
});

test('no secret in what a processor throws is in the log, the letters, the console or the spans, and all of it is bounded', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'inorder-spans-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const spanFile = join(folder, 'spans');
  const registration = moduleUrl('test/support/span-file.ts');
  const loaders = registration.pathname.endsWith('.ts') ? ['--import tsx'] : [];
  const run = new StreamRun(t, 'leaking', {
    ...(await useServices(t)),
    variables: {
      NODE_OPTIONS: [...loaders, `--import ${registration}`].join(' '),
      SPAN_FILE: spanFile,
      LOG_LEVEL: 'debug',
      ADMIN_TOKEN: adminToken,
      RETRY_MAX_ATTEMPTS: '2',
      RETRY_INITIAL_MS: '1',
      PROCESSOR: fileURLToPath(moduleUrl('test/support/leaking-processor.ts')),
    },
  });
  const worker = await run.worker();
  await run.publish(leaks.map((entityId) => ({ entityId, sequence: 1 })));
  const client = new ConsoleClient(worker.httpUrl);
  const { letters } = await client.letters(leaks.length);
  const shown = await Promise.all(letters.map(({ fingerprint }: any) => client.api(`letters/${fingerprint}`)));
  const said: Record<string, string> = Object.fromEntries(letters.map(({ entity_id, detail }: any) => [entity_id, detail]));
  assert.match(
    said['message']!,
    /^Error: POST https:\/\/\*\*\*@shop\.example\/x\?api_key=\*\*\* password=\*\*\* Authorization: \*\*\* x+…/,
  );
  const variables = { AMQP_URL: run.amqpUrl, REDIS_URL: run.redisUrl, STREAM: run.stream, SHARDS: '2', PROCESSOR: 'order' };
  const commands = [
    ['dead-letters', 'list', '--json'],
    ['dead-letters', 'show', letters[0].fingerprint],
    ['entity', 'list', '--json'],
  ];
  const printed = await Promise.all(commands.map(async (words) => (await runCommand(words, variables)).stdout));
  const parked = await client.api('parked');
  await waitFor(() => readSpans(spanFile).filter(({ error }) => error !== undefined).length === leaks.length, { what: 'every span' });
  const spans = readFileSync(spanFile, 'utf8');
  const everywhere = { log: worker.output, letters: JSON.stringify(shown), printed: printed.join(), parked: JSON.stringify(parked), spans };
  for (const [where, text] of Object.entries(everywhere)) {
    assert.ok(text.includes('shop.example'), where);
    assert.ok(!text.includes(secret), `${where}: ${text.slice(Math.max(0, text.indexOf(secret) - 100), text.indexOf(secret) + 20)}`);
  }
  for (const { entity_id, detail, stack } of shown) assert.ok(detail.length < 900 && (stack ?? '').length < 20_000, entity_id);
  for (const line of [...worker.output.split('\n'), ...spans.split('\n')]) assert.ok(line.length < 10_000, line.slice(0, 200));
});

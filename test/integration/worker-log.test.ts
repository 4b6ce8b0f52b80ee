/** What a worker writes while things go wrong: each line is JSON with the fields of its kind, and no payload is in it. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { useServices, waitFor } from '../support/services.ts';
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

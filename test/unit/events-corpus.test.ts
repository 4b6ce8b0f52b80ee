import assert from 'node:assert/strict';
import test from 'node:test';
import { decodeMessage } from '../../src/events/decode.ts';
import { type Decoded, defaultEventLimits, type RawMessage } from '../../src/events/event.ts';
import { messageFingerprint } from '../../src/events/identity.ts';
import { badForTheSequencer, badLines, type CorpusMessage, goodLines } from '../support/corpus.ts';

function raw({ body, routingKey, contentType, contentEncoding, messageId, headers }: CorpusMessage): RawMessage {
  return {
    body,
    routingKey,
    contentType,
    contentEncoding,
    messageId,
    type: undefined,
    timestamp: undefined,
    replyTo: undefined,
    correlationId: undefined,
    headers: headers ?? {},
  };
}

function decode(message: CorpusMessage): Decoded {
  return decodeMessage(raw(message), { limits: defaultEventLimits, defaultEntityType: 'order', unsequenced: 'reject' });
}

for (const { name, reason, message } of badLines) {
  test(`${name} is refused as ${reason}`, () => {
    const before = Buffer.from(message.body);
    const decoded = decode(message);
    assert.equal(decoded.ok ? 'accepted' : decoded.refusal.reason, reason);
    assert.ok(!decoded.ok && decoded.refusal.detail.length > 10 && decoded.refusal.detail.length < 200);
    assert.deepEqual(message.body, before);
  });
}

for (const { name, message } of badForTheSequencer) {
  test(`${name} is left to the sequencer`, () => {
    assert.ok(decode(message).ok);
  });
}

for (const { name, entityId, sequence, dataJson, message } of goodLines) {
  test(`${name} is accepted as it is`, () => {
    const decoded = decode(message);
    assert.ok(decoded.ok, decoded.ok ? '' : decoded.refusal.detail);
    assert.equal(decoded.event.entityId, entityId);
    assert.equal(decoded.event.sequence, sequence);
    assert.equal(decoded.event.dataJson, dataJson);
  });
}

test('the corpus has each of its lines once, and each good line an entity of its own', () => {
  const names = [...badLines, ...badForTheSequencer, ...goodLines].map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  assert.equal(new Set(goodLines.map(({ entityId }) => entityId)).size, goodLines.length);
});

test('every message has a fingerprint, and what decides how it is read is in it', () => {
  for (const { message } of [...badLines, ...badForTheSequencer, ...goodLines])
    assert.match(messageFingerprint(raw(message)), /^[0-9a-f]{32}$/);
  const withTime = (value: unknown) => messageFingerprint(raw({ ...goodLines[0]!.message, headers: { 'cloudEvents:time': value } }));
  const times = ['2026-01-01T00:00:00Z', { '!': 'timestamp', value: 1 }, { '!': 'timestamp', value: 2 }, 1, Buffer.from([1]), [[]]];
  assert.equal(new Set(times.map(withTime)).size, times.length);
});

test('decoding hostile keys changes no prototype', () => {
  for (const { message } of [...badLines, ...goodLines]) decode(message);
  assert.equal(({} as Record<string, unknown>).polluted, undefined);
  assert.equal(({} as Record<string, unknown>).sequence, undefined);
});

import assert from 'node:assert/strict';
import test from 'node:test';
import { type DeadLetter, readBrokerDeath } from '../../src/dead-letters/dead-letter.ts';
import type { FoundLetter } from '../../src/dead-letters/inspect.ts';
import { layOutJson, printable, printableJson, printableLines } from '../../src/printable.ts';
import { asJson, asListJson, asPage, asTableLine, tableHeader } from '../../src/cli/letter-text.ts';
import type { RawMessage } from '../../src/events/event.ts';
import { rawMessage } from '../support/raw-message.ts';

const escapeCharacter = '\u001b';
const bidiOverride = '\u202e';

function letterWith(changes: Partial<DeadLetter>, message: Partial<RawMessage> = {}): DeadLetter {
  return {
    messageId: 'm-1',
    fingerprint: 'f'.repeat(32),
    entityType: 'order',
    entityId: 'o-1',
    sequence: 4,
    type: 'ItemAdded',
    reason: 'gap_timeout',
    detail: 'sequence 3 did not arrive',
    stack: null,
    shard: 2,
    deadLetteredAt: '2026-01-05T10:00:00.123Z',
    replayedAt: [],
    ...changes,
    message: rawMessage({ body: Buffer.from('{"n":1}'), routingKey: 'o-1', contentType: 'application/json', messageId: 'm-1', ...message }),
  };
}

test('JSON is laid out on lines and every token stays as the producer wrote it', () => {
  const body = '{"big":12345678901234567890,"one":1.0,"a":1,"a":2,"list":[1,{"x":"a, \\"b\\": {c}"}],"none":[ ],"empty":{}}';
  assert.equal(
    layOutJson(body),
    [
      '{',
      '  "big": 12345678901234567890,',
      '  "one": 1.0,',
      '  "a": 1,',
      '  "a": 2,',
      '  "list": [',
      '    1,',
      '    {',
      '      "x": "a, \\"b\\": {c}"',
      '    }',
      '  ],',
      '  "none": [],',
      '  "empty": {}',
      '}',
    ].join('\n'),
  );
  assert.equal(layOutJson('{"truncated":'), null);
});

test('deep nesting does not make lines grow without end', () => {
  const depth = 5_000;
  const text = layOutJson('['.repeat(depth) + '1' + ']'.repeat(depth)) ?? '';
  assert.ok(text.length < depth * 2 * 100, `${text.length} characters`);
});

test('what could steer a terminal is printed as an escape, and what is visible as it is', () => {
  assert.equal(printable(`a${escapeCharacter}[2J\u009b1mb\nc\t${bidiOverride}d`), 'a\\x1b[2J\\x9b1mb\\nc\\t\\u{202e}d');
  assert.equal(printable('Zażółć 注文 😀 {}x'), 'Zażółć 注文 😀 {}x');
  assert.equal(printableLines(`a\nb${escapeCharacter}\r\n`), 'a\nb\\x1b\\r\n');
  const json = printableJson(JSON.stringify({ a: `\u009b${bidiOverride}\u{e0001}` }));
  assert.match(json, /^[\x20-\x7e]+$/);
  assert.deepEqual(JSON.parse(json), { a: `\u009b${bidiOverride}\u{e0001}` });
});

const found = (letter: DeadLetter): FoundLetter => ({ letter, status: null });

test('a hostile dead letter steers no terminal in a table, on a page or as JSON', () => {
  const hostile = `x${escapeCharacter}]0;owned\u0007${bidiOverride}\u009b`;
  const letter = letterWith(
    { messageId: hostile, entityId: hostile, entityType: hostile, type: hostile, detail: hostile },
    { routingKey: hostile, headers: { [hostile]: hostile }, contentType: hostile, body: Buffer.from(`{"a":"${bidiOverride}"} ${hostile}`) },
  );
  for (const text of [asTableLine(letter), asPage(found(letter)), asListJson(letter), asJson(found(letter))]) {
    assert.doesNotMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
  }
});

test('the columns of the table stand below their titles, and an id is never cut', () => {
  const longId = 'i'.repeat(50);
  const line = asTableLine(letterWith({ entityId: 'e'.repeat(100) }));
  assert.equal(line.indexOf('gap_timeout'), tableHeader.indexOf('REASON'));
  assert.equal(line.indexOf('2026-01-05T10:00:00Z'), tableHeader.indexOf('SINCE'));
  assert.ok(line.includes('…'));
  assert.ok(asTableLine(letterWith({ messageId: longId })).includes(longId));
});

test('no character is cut in two', () => {
  for (const before of ['', 'e']) assert.doesNotMatch(asTableLine(letterWith({ entityId: before + '😀'.repeat(50) })), /\p{Cs}/u);
});

test('the list has exactly the fields that are documented', () => {
  assert.deepEqual(JSON.parse(asListJson(letterWith({}))), {
    message_id: 'm-1',
    entity_type: 'order',
    entity_id: 'o-1',
    sequence: 4,
    type: 'ItemAdded',
    reason: 'gap_timeout',
    detail: 'sequence 3 did not arrive',
    shard: 2,
    dead_lettered_at: '2026-01-05T10:00:00.123Z',
    replays: 0,
  });
});

test('a page says what to do, and shows a body of any bytes', () => {
  assert.match(asPage(found(letterWith({}))), /^remedy +Find the missing event, publish it, then replay the entity\.$/m);
  assert.match(asPage(found(letterWith({}))), /body +7 bytes\n\{\n  "n": 1\n\}\n$/);
  const bytes = Buffer.from([0xff, 0x00, 0x41, 0x1b]);
  assert.match(asPage(found(letterWith({}, { body: bytes }))), /000000  ff 00 41 1b +\.\.A\.\n$/);
  assert.equal(JSON.parse(asJson(found(letterWith({}, { body: bytes })))).body_base64, bytes.toString('base64'));
  assert.equal(JSON.parse(asJson(found(letterWith({}, { body: Buffer.from('{"n":1.0}') })))).body, '{"n":1.0}');
  assert.match(asPage(found(letterWith({}, { body: Buffer.alloc(70_000, 'a') }))), /… 4464 more bytes/);
});

test('the last death counts, and headers that a publisher forged are harmless', () => {
  const death = { reason: 'delivery_limit', queue: 'events.shard.003', time: { '!': 'timestamp', value: 1_767_607_200 }, count: 1 };
  assert.deepEqual(readBrokerDeath({ 'x-death': [death, { reason: 'expired', queue: 'other' }] }), {
    reason: 'delivery_limit',
    queue: 'events.shard.003',
    at: '2026-01-05T10:00:00.000Z',
  });
  assert.equal(readBrokerDeath({ 'x-death': [{ reason: 'rejected', queue: 'q' }] }).reason, 'unknown');
  for (const forged of [{}, { 'x-death': 'x' }, { 'x-death': [] }, { 'x-death': [null] }, { 'x-death': [{ time: { value: 1e300 } }] }]) {
    assert.deepEqual(readBrokerDeath(forged), { reason: 'unknown', queue: null, at: null });
  }
});

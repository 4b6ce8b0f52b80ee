import assert from 'node:assert/strict';
import test from 'node:test';
import { asEventLine, type DeadLetter } from '../../src/dead-letters/dead-letter.ts';
import { decodeMessage } from '../../src/events/decode.ts';
import { defaultEventLimits, type RawMessage } from '../../src/events/event.ts';

function lineOf(body: string, more: Partial<RawMessage> = {}): string | null {
  const message = { body: Buffer.from(body), routingKey: 'a', contentType: 'application/json', headers: {}, ...more } as RawMessage;
  return asEventLine(
    { message } as DeadLetter,
    decodeMessage(message, { limits: defaultEventLimits, defaultEntityType: 'order', unsequenced: 'reject' }),
  );
}

test('an envelope is exported as it was written, on one line', () => {
  const body = '{ "entity_id": "a",\n "sequence": 1, "type": "T", "data": {"n": 12345678901234567890, "one": 1.0, "s": "a  b"} }';
  assert.equal(lineOf(body), '{"entity_id":"a","sequence":1,"type":"T","data":{"n":12345678901234567890,"one":1.0,"s":"a  b"}}\n');
});

test('what is no event but a JSON object is exported as it is, and anything else not at all', () => {
  assert.equal(lineOf('{"sequence": "x"}'), '{"sequence":"x"}\n');
  for (const body of ['[1]', '1', 'null', '{"cut', '']) assert.equal(lineOf(body), null);
});

test('a CloudEvent is exported as an envelope that says the same', () => {
  const structured = {
    specversion: '1.0',
    id: 'i',
    source: '/s',
    type: 'T',
    subject: 'a',
    sequence: '7',
    time: '2026-01-05T10:00:00Z',
    data: { n: 1 },
  };
  const line = JSON.parse(lineOf(JSON.stringify(structured), { contentType: 'application/cloudevents+json' }) ?? '');
  assert.deepEqual(
    [line.id, line.entity_type, line.entity_id, line.sequence, line.type, line.timestamp, line.data],
    ['i', 'order', 'a', 7, 'T', '2026-01-05T10:00:00Z', { n: 1 }],
  );
});

test('a CloudEvent that came as plain JSON or under the prefix of another binding is exported as an envelope', () => {
  const attributes = { specversion: '1.0', id: 'i', source: '/s', type: 'T', subject: 'a', sequence: '7' };
  const expected = { id: 'i', entity_type: 'order', entity_id: 'a', sequence: 7, type: 'T', metadata: { source: '/s' }, data: { n: 1 } };
  assert.deepEqual(JSON.parse(lineOf(JSON.stringify({ ...attributes, data: { n: 1 } })) ?? ''), expected);
  const headers = Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`ce-${name}`, value]));
  assert.deepEqual(JSON.parse(lineOf('{"n":1}', { headers }) ?? ''), expected);
});

test('of a binary CloudEvent that is refused what could be read is exported with its data, not the data alone', () => {
  const headers = {
    'cloudEvents:specversion': '0.3',
    'cloudEvents:id': 'i',
    'cloudEvents:type': 'T',
    'cloudEvents:subject': 'a',
    'cloudEvents:sequence': '7',
  };
  assert.equal(
    lineOf('{"n":1.0}', { headers }),
    '{"id":"i","entity_type":"order","entity_id":"a","sequence":7,"type":"T","data":{"n":1.0}}\n',
  );
  assert.equal(lineOf('{"n":', { headers }), null);
});

test('a structured CloudEvent that is refused is exported as an envelope too, with everything as it was written', () => {
  const structured =
    '{"specversion":"1.0","id":"i","source":"/s","type":"T","subject":"a","sequence":"7","time":"yesterday","data":{"n":1.0}}';
  for (const contentType of ['application/cloudevents+json', 'application/json']) {
    assert.equal(
      lineOf(structured, { contentType }),
      '{"id":"i","entity_id":"a","sequence":7,"type":"T","timestamp":"yesterday","metadata":{"source":"/s"},"data":{"n":1.0}}\n',
    );
  }
  const binary = structured.replace('"data":{"n":1.0}', '"data_base64":"AAAA"');
  assert.equal(lineOf(binary, { contentType: 'application/cloudevents+json' }), `${binary}\n`, 'nothing is left out');
});

test('a byte-order mark is not exported', () => {
  assert.equal(lineOf('\ufeff{"type":"T"}'), '{"type":"T"}\n');
});

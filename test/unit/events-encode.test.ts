import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { EventError } from '../../src/errors.ts';
import { decodeMessage } from '../../src/events/decode.ts';
import { encodeCloudEvent, type EncodedEvent, encodeEvent, type NewEvent } from '../../src/events/encode.ts';
import { type Event, defaultEventLimits } from '../../src/events/event.ts';

const options = { limits: defaultEventLimits, defaultEntityType: 'order', unsequenced: 'process' as const };

/** Reads the message as a worker reads it from the broker, properties and all. */
function received({ body, properties, routingKey }: EncodedEvent): Event {
  const { contentType, messageId, type, timestamp, headers } = properties;
  const message = { body, routingKey, contentType, contentEncoding: undefined, messageId, type, timestamp, headers };
  const decoded = decodeMessage({ ...message, replyTo: undefined, correlationId: undefined }, options);
  assert.ok(decoded.ok, decoded.ok ? '' : decoded.refusal.detail);
  return decoded.event;
}

const order: NewEvent = {
  id: 'e-1',
  entityType: 'order',
  entityId: 'o-1',
  sequence: 2,
  type: 'ItemAdded',
  timestamp: new Date(Date.UTC(2024, 4, 1, 12)),
  data: { sku: 'a' },
  metadata: { by: 'shop' },
};

test('an event is written as the envelope, with properties that repeat it', () => {
  const { body, properties, routingKey } = encodeEvent(order);
  assert.equal(
    body.toString(),
    '{"id":"e-1","entity_type":"order","entity_id":"o-1","sequence":2,"type":"ItemAdded","timestamp":"2024-05-01T12:00:00.000Z","data":{"sku":"a"},"metadata":{"by":"shop"}}',
  );
  assert.equal(routingKey, 'o-1');
  assert.deepEqual(properties, {
    contentType: 'application/json',
    persistent: true,
    messageId: 'e-1',
    type: 'ItemAdded',
    timestamp: 1_714_564_800,
    headers: {},
  });
});

const name = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 40 })
  .filter((text) => !/\p{Cc}/u.test(text) && Buffer.byteLength(text) <= 255);
const newEvent: fc.Arbitrary<NewEvent> = fc.record(
  {
    id: name,
    entityType: name,
    entityId: name,
    sequence: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    type: name,
    timestamp: fc.date({ min: new Date(1_000), max: new Date('9999-01-01'), noInvalidDate: true }),
    data: fc.jsonValue({ maxDepth: 5 }).filter((data) => !JSON.stringify(data).includes('__proto__')),
    metadata: fc.dictionary(fc.stringMatching(/^x[a-z0-9]{1,8}$/), fc.oneof(name, fc.boolean(), fc.integer())),
  },
  { requiredKeys: ['type', 'entityId'] },
);

const processing = { unsequenced: 'process' } as const;

const forms: Readonly<Record<string, (event: NewEvent) => EncodedEvent>> = {
  'the JSON envelope': (event) => encodeEvent(event, processing),
  'a structured CloudEvent': (event) => encodeCloudEvent(event, 'structured', processing),
  'a binary CloudEvent': (event) => encodeCloudEvent(event, 'binary', processing),
};

for (const [form, encode] of Object.entries(forms)) {
  test(`what is encoded as ${form} comes back as it was`, () => {
    fc.assert(
      fc.property(newEvent, (event) => {
        const encoded = encode(event);
        const back = received(encoded);
        assert.equal(back.id, event.id ?? encoded.event.id);
        assert.equal(back.entityType, event.entityType ?? 'order');
        assert.equal(back.entityId, event.entityId);
        assert.equal(back.sequence, event.sequence ?? null);
        assert.equal(back.type, event.type);
        assert.equal(back.timestampMs, event.timestamp instanceof Date ? event.timestamp.getTime() : null);
        assert.deepEqual(back.data, JSON.parse(JSON.stringify(event.data ?? null)));
        const { source: _, ...metadata } = back.metadata;
        assert.deepEqual(metadata, { ...event.metadata });
        assert.equal(back.payloadHash, encoded.event.payloadHash);
      }),
      { numRuns: 500 },
    );
  });
}

test('an event without id is sent without, and its message id is the one that will be derived', () => {
  const encoded = encodeEvent({ ...order, id: undefined });
  assert.ok(!encoded.body.includes('"id"'));
  assert.equal(encoded.properties.messageId, received(encoded).id);
});

test('a CloudEvent without id gets the same one in both modes', () => {
  const [structured, binary] = (['structured', 'binary'] as const).map((mode) => encodeCloudEvent({ ...order, id: undefined }, mode));
  assert.match(structured?.event.id ?? '', /^[0-9a-f]{32}$/);
  assert.equal(structured?.event.id, binary?.event.id);
});

test('data given as JSON text is sent as it is written', () => {
  const dataJson = '{"big":12345678901234567890,"one":1.0}';
  for (const encode of Object.values(forms)) assert.equal(received(encode({ ...order, data: undefined, dataJson })).dataJson, dataJson);
});

test('what workers with UNSEQUENCED=reject are sure to dead-letter is refused, and what others take is not', () => {
  for (const encode of [
    encodeEvent,
    (event: NewEvent, options = {}) => encodeCloudEvent(event, 'structured', options),
    (event: NewEvent, options = {}) => encodeCloudEvent(event, 'binary', options),
  ]) {
    const refused = (event: NewEvent) =>
      assert.throws(
        () => encode(event),
        (error: unknown) => error instanceof EventError && /^invalid_(sequence|entity)$/.test(error.reason),
      );
    refused({ entityId: 'a', type: 't' });
    refused({ type: 't', id: 'x' });
    assert.equal(encode({ entityId: 'a', type: 't' }, processing).event.sequence, null);
    assert.equal(encode({ entityId: 'a', type: 't', sequence: 1 }).event.sequence, 1);
  }
});

test('an event of no entity is routed by its own id', () => {
  const encoded = encodeEvent({ type: 'Seen', data: 1 }, processing);
  assert.equal(encoded.routingKey, encoded.event.id);
  assert.equal(received(encoded).entityId, encoded.event.id);
});

const circular: Record<string, unknown> = {};
circular.self = circular;

const mistakes: readonly (readonly [name: string, reason: string, event: Partial<Record<keyof NewEvent, unknown>>, text: RegExp])[] = [
  ['no type', 'malformed', { type: undefined }, /type is missing/],
  ['a sequence of 0', 'invalid_sequence', { sequence: 0 }, /sequence/],
  ['a sequence that is text', 'invalid_sequence', { sequence: '1' }, /sequence/],
  ['a sequence without an entity', 'invalid_entity', { entityId: undefined }, /entity_id is missing/],
  ['an entity id with a line break', 'invalid_entity', { entityId: 'a\nb' }, /control character/],
  ['an entity id that no routing key can carry', 'invalid_entity', { entityId: 'x'.repeat(256) }, /255 bytes/],
  ['an entity id that is a number', 'invalid_entity', { entityId: 7 }, /a number, not a string/],
  ['a lone surrogate', 'malformed', { data: '\ud800' }, /lone surrogate/],
  ['an own key __proto__', 'malformed', { data: JSON.parse('{"__proto__":1}') as unknown }, /__proto__/],
  ['NaN in the data', 'malformed', { data: { price: Number.NaN } }, /NaN is no JSON number/],
  ['a BigInt in the data', 'malformed', { data: 1n }, /BigInt/],
  ['data that contains itself', 'malformed', { data: circular }, /circular/],
  ['data and dataJson', 'malformed', { dataJson: '1' }, /not both/],
  ['dataJson that is no JSON', 'malformed', { data: undefined, dataJson: '{"a":1},"id":"other"' }, /not JSON/],
  ['an invalid date', 'malformed', { timestamp: new Date(Number.NaN) }, /invalid date/],
  ['a body over the limit', 'too_large', { data: 'x'.repeat(1_100_000) }, /1048576/],
];

for (const [mistake, reason, change, text] of mistakes) {
  test(`${mistake} is an EventError before anything is sent`, () => {
    assert.throws(
      () => encodeEvent({ ...order, ...change } as NewEvent),
      (error) => error instanceof EventError && error.reason === reason && text.test(error.message),
    );
  });
}

test('metadata that no CloudEvents attribute can carry is refused, not trimmed', () => {
  for (const metadata of [{ userId: 'x' }, { id: 'x' }, { big: 2 ** 40 }, { nested: {} }]) {
    assert.throws(() => encodeCloudEvent({ ...order, metadata }, 'binary'), { name: 'EventError', message: /CloudEvents attribute/ });
  }
});

test('ids and types that AMQP properties cannot hold are left out of them and kept in the event', () => {
  const long = 'x'.repeat(300);
  const encoded = encodeEvent({ ...order, id: long, type: long });
  assert.equal('messageId' in encoded.properties || 'type' in encoded.properties, false);
  assert.deepEqual([received(encoded).id, received(encoded).type], [long, long]);
});

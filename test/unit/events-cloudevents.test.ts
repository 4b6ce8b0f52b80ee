import assert from 'node:assert/strict';
import test from 'node:test';
import { CloudEvent, Kafka, type Message } from 'cloudevents';
import { decodeMessage } from '../../src/events/decode.ts';
import { encodeCloudEvent } from '../../src/events/encode.ts';
import { defaultEventLimits, type RawMessage } from '../../src/events/event.ts';
import { rawMessage } from '../support/raw-message.ts';

// The reference implementation as witness: what it writes is read here, what is written here it reads.

const attributes = {
  id: 'c-1',
  source: '/shop',
  type: 'ItemAdded',
  subject: 'o-1',
  sequence: '2',
  entitytype: 'order',
  time: '2024-05-01T12:00:00.000Z',
};
const data = { sku: 'a', quantity: 2 };

function raw(body: Buffer, contentType: string, headers: Readonly<Record<string, unknown>>): RawMessage {
  return rawMessage({ body, routingKey: 'o-1', contentType, headers });
}

function assertRead(message: RawMessage): void {
  const decoded = decodeMessage(message, { limits: defaultEventLimits, defaultEntityType: '?', unsequenced: 'reject' });
  assert.ok(decoded.ok, decoded.ok ? '' : decoded.refusal.detail);
  const { id, type, entityId, entityType, sequence, timestamp, metadata } = decoded.event;
  assert.deepEqual([id, type, entityId, entityType, sequence, timestamp], ['c-1', 'ItemAdded', 'o-1', 'order', 2, attributes.time]);
  assert.deepEqual(decoded.event.data, data);
  assert.equal(metadata.source, '/shop');
}

test('a structured CloudEvent of the reference implementation is read', () => {
  const event = new CloudEvent({ ...attributes, data });
  assertRead(raw(Buffer.from(JSON.stringify(event)), 'application/cloudevents+json; charset=utf-8', {}));
});

test('a binary CloudEvent of the reference implementation is read under either prefix', () => {
  // Its Kafka binding prefixes as AMQP does, but for the prefix itself.
  const { headers } = Kafka.binary(new CloudEvent({ ...attributes, data, datacontenttype: 'application/json' })) as Message;
  for (const prefix of ['cloudEvents:', 'cloudEvents_']) {
    const renamed = Object.entries(headers).flatMap(([name, value]) =>
      name.startsWith('ce_') ? [[prefix + name.slice(3), value] as const] : [],
    );
    assertRead(raw(Buffer.from(JSON.stringify(data)), 'application/json', Object.fromEntries(renamed)));
  }
});

test('the reference implementation accepts what is written here', () => {
  const event = { id: 'c-1', entityType: 'order', entityId: 'o-1', sequence: 2, type: 'ItemAdded', timestamp: attributes.time, data };
  const structured = JSON.parse(encodeCloudEvent(event, 'structured', { source: '/shop' }).body.toString()) as object;
  const { headers } = encodeCloudEvent(event, 'binary', { source: '/shop' }).properties;
  const binary = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.replace('cloudEvents:', ''), value]));
  for (const written of [structured, { ...binary, data }]) {
    const read = new CloudEvent(written);
    assert.ok(read.validate());
    assert.deepEqual({ ...attributes, data }, Object.fromEntries([...Object.keys(attributes), 'data'].map((name) => [name, read[name]])));
  }
});

const headersOf = (prefix: string, more: Readonly<Record<string, unknown>> = {}) =>
  Object.fromEntries(Object.entries({ specversion: '1.0', ...attributes, ...more }).map(([name, value]) => [prefix + name, value]));
const json = JSON.stringify(data);

function detailOf(body: unknown, contentType: string, headers: Readonly<Record<string, unknown>> = {}): string {
  const message = raw(Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)), contentType, headers);
  const decoded = decodeMessage(message, { limits: defaultEventLimits, defaultEntityType: '?', unsequenced: 'reject' });
  assert.ok(!decoded.ok, 'it was accepted');
  return decoded.refusal.detail;
}

test('a binary CloudEvent is read under the prefixes of other bindings, in any case', () => {
  for (const prefix of ['ce-', 'ce_', 'cloudevents:', 'cloudevents_', 'CE-', 'CloudEvents:'])
    assertRead(raw(Buffer.from(json), 'application/json', headersOf(prefix)));
  const asGoWrites = Object.fromEntries(
    Object.entries(headersOf('ce-')).map(([name, value]) => [name.replaceAll(/(^|-)[a-z]/g, (letter) => letter.toUpperCase()), value]),
  );
  assert.ok('Ce-Specversion' in asGoWrites);
  assertRead(raw(Buffer.from(json), 'application/json', asGoWrites));
});

test('where the headers of AMQP are there, those of another binding beside them say nothing; nor do two others mix', () => {
  assertRead(
    raw(Buffer.from(json), 'application/json', { ...headersOf('ce-', { id: 'other', subject: 'other' }), ...headersOf('cloudEvents:') }),
  );
  assertRead(raw(Buffer.from(json), 'application/json', { ...headersOf('ce_'), 'ce-id': 'other', 'ce-tenant': 'other' }));
});

test('what another binding may have encoded is not guessed: the detail names the header', () => {
  assert.match(
    detailOf(json, 'application/json', headersOf('ce-', { subject: 'caf%C3%A9' })),
    /"ce-subject" of another binding .* send attributes as cloudEvents:/,
  );
});

test('a % is doubtful only in what names the event, its entity or its rule', () => {
  assertRead(raw(Buffer.from(json), 'application/json', headersOf('ce-', { source: '/shop', dataschema: 'https://a/b%20c' })));
});

test('a header that only ends in specversion makes no CloudEvent of an envelope', () => {
  const envelope = JSON.stringify({
    id: 'c-1',
    entity_type: 'order',
    entity_id: 'o-1',
    sequence: 2,
    type: 'ItemAdded',
    timestamp: attributes.time,
    metadata: { source: '/shop' },
    data,
  });
  for (const header of ['ce_x_specversion', 'ce-old-specversion', 'cloudEvents-specversion'])
    assertRead(raw(Buffer.from(envelope), 'application/json', { [header]: '1.0' }));
});

test('attributes that headers only inherit, as from one named __proto__, make no CloudEvent of an envelope', () => {
  const inherited = {
    'cloudEvents:specversion': '1.0',
    ...Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`ce-${name}`, value])),
  };
  const envelope = { id: 'e-1', entity_id: 'o-1', entity_type: 'order', sequence: 2, type: 'ItemAdded' };
  const message = raw(Buffer.from(JSON.stringify(envelope)), 'application/json', Object.create(inherited));
  const decoded = decodeMessage(message, { limits: defaultEventLimits, defaultEntityType: '?', unsequenced: 'reject' });
  assert.equal(decoded.ok && decoded.event.id, 'e-1', JSON.stringify(decoded));
});

test('of a CloudEvent under a prefix that is not read the refusal names the header', () => {
  for (const prefix of ['cloudEvents-', 'cloudEvents.'])
    assert.match(
      detailOf(json, 'application/json', headersOf(prefix)),
      /; the prefix of "cloudEvents[-.]specversion" is not read: send attributes as cloudEvents:$/,
    );
});

test('a structured CloudEvent is read also where it comes as plain JSON', () => {
  const event = { specversion: '1.0', ...attributes, data };
  for (const contentType of ['application/json', 'application/json; charset=utf-8', ''])
    assertRead(raw(Buffer.from(JSON.stringify(event)), contentType, {}));
  assert.match(detailOf({ ...event, sequence: '0x10' }, 'application/json'), /^sequence is not/);
  assert.match(detailOf({ ...event, subject: undefined }, 'application/json'), /^subject is missing/);
});

test('what is not read is named: the media type, or the batch', () => {
  const event = { specversion: '1.0', ...attributes, data };
  assert.match(detailOf(event, 'text/plain'), /content type is "text\/plain": .* application\/cloudevents\+json for a CloudEvent/);
  assert.match(detailOf([event], 'application/cloudevents-batch+json'), /batch of CloudEvents: publish one message for each event/);
  for (const contentType of ['application/json', 'application/cloudevents+json'])
    assert.match(detailOf([event], contentType), /array, not an object: a batch has to be published as one message for each event/);
  assert.match(detailOf('<a/>', 'application/xml', headersOf('ce-')), /content type of the CloudEvent's data is "application\/xml"/);
});

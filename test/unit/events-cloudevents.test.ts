import assert from 'node:assert/strict';
import test from 'node:test';
import { CloudEvent, Kafka, type Message } from 'cloudevents';
import { decodeMessage } from '../../src/events/decode.ts';
import { encodeCloudEvent } from '../../src/events/encode-cloudevent.ts';
import { defaultEventLimits, type RawMessage } from '../../src/events/event.ts';

// The reference implementation as witness: what it writes is read here, what is written here it reads.

const attributes = { id: 'c-1', source: '/shop', type: 'ItemAdded', subject: 'o-1', sequence: '2', entitytype: 'order', time: '2024-05-01T12:00:00.000Z' };
const data = { sku: 'a', quantity: 2 };

function raw(body: Buffer, contentType: string, headers: Readonly<Record<string, unknown>>): RawMessage {
  const nothing = { contentEncoding: undefined, messageId: undefined, type: undefined, timestamp: undefined, replyTo: undefined, correlationId: undefined };
  return { body, routingKey: 'o-1', contentType, headers, ...nothing };
}

function assertRead(message: RawMessage): void {
  const decoded = decodeMessage(message, { limits: defaultEventLimits, defaultEntityType: '?', allowMissingEntityId: false });
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
    const renamed = Object.entries(headers).flatMap(([name, value]) => (name.startsWith('ce_') ? [[prefix + name.slice(3), value] as const] : []));
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

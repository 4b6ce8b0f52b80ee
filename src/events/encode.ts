/**
 * From an event to the message that carries it. What is encoded has been decoded again as a worker does it: a
 * message that a worker would refuse is never sent, and the id that a worker will derive is known here.
 */
import { EventError } from '../errors.ts';
import { decodeMessage } from './decode.ts';
import { defaultEventLimits, type Event, type EventLimits, type RawMessage } from './event.ts';
import { envelopeText, type NewEvent } from './new-event.ts';

/** AMQP properties, as the client takes them. */
export interface MessageProperties {
  readonly contentType: string;
  readonly persistent: true;
  readonly messageId?: string;
  readonly type?: string;
  /** In seconds since 1970. */
  readonly timestamp?: number;
  readonly headers: Readonly<Record<string, unknown>>;
}

export interface EncodedEvent {
  readonly body: Buffer;
  readonly properties: MessageProperties;
  /** The entity id; for an event that has none its own id, which spreads such events over the shards. */
  readonly routingKey: string;
  /** The event as a worker will see it; `entityType` is empty where the worker's default applies. */
  readonly event: Event;
}

export interface EncodeOptions {
  /** What the workers accept. Default: the defaults. */
  readonly limits?: EventLimits;
  /** UNSEQUENCED of the workers: whether they take events without a sequence, and those of no entity. Default `reject`. */
  readonly unsequenced?: 'reject' | 'process';
}

/** AMQP: a routing key, a message id and a type are short strings. */
const maxShortStringBytes = 255;

/** Encodes as JSON envelope. Throws `EventError` with the reason for which a worker would refuse it. */
export function encodeEvent(event: NewEvent, options: EncodeOptions = {}): EncodedEvent {
  return encodedAs(
    { body: Buffer.from(envelopeText(event)), contentType: 'application/json', headers: {}, entityId: event.entityId },
    options,
  );
}

/** What carries an event, whatever a worker will say to it; null where AMQP cannot: a routing key takes no more bytes. */
export function encodeUnchecked(event: NewEvent & { readonly entityId: string }): Omit<EncodedEvent, 'event'> | null {
  const { id = '', type, entityId } = event;
  if (!isShort(entityId)) return null;
  const contentType = 'application/json';
  const properties = propertiesOf({ id, type, timestampMs: null }, contentType, {});
  return { body: Buffer.from(envelopeText(event)), properties, routingKey: entityId };
}

/** A message in one of the formats, not yet checked. */
export interface Draft {
  readonly body: Buffer;
  readonly contentType: string;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly entityId: string | undefined;
}

/** For the formats: properties and routing key, from what a worker makes of the draft. */
export function encodedAs(
  { body, contentType, headers, entityId }: Draft,
  { limits = defaultEventLimits, unsequenced = 'reject' }: EncodeOptions,
): EncodedEvent {
  const message = asDelivered({ body, routingKey: entityId ?? '', properties: { contentType, persistent: true, headers } });
  const decoded = decodeMessage(message, { limits, defaultEntityType: '', allowMissingEntityId: unsequenced === 'process' });
  if (!decoded.ok) throw new EventError(decoded.refusal.reason, decoded.refusal.detail);
  const { event } = decoded;
  // The sequencer's rule, and the only one of its own that depends on the event alone.
  if (event.sequence === null && unsequenced === 'reject')
    throw new EventError('invalid_sequence', 'the event has no sequence, and UNSEQUENCED is reject');
  if (!isShort(event.entityId)) {
    throw new EventError(
      'invalid_entity',
      `the entity id has more than ${maxShortStringBytes} bytes, which is all that a routing key takes`,
    );
  }
  return { body, properties: propertiesOf(event, contentType, headers), routingKey: event.entityId, event };
}

/** What a consumer is given of it. */
export function asDelivered({ body, routingKey, properties }: Omit<EncodedEvent, 'event'>): RawMessage {
  const { contentType, messageId, type, timestamp, headers } = properties;
  const absent = { contentEncoding: undefined, replyTo: undefined, correlationId: undefined };
  return { body, routingKey, contentType, messageId, type, timestamp, headers, ...absent };
}

/** The properties only repeat what the message says: one that AMQP has no room for is left out. */
function propertiesOf(
  { id, type, timestampMs }: Pick<Event, 'id' | 'type' | 'timestampMs'>,
  contentType: string,
  headers: Readonly<Record<string, unknown>>,
): MessageProperties {
  return {
    contentType,
    persistent: true,
    ...(isShort(id) ? { messageId: id } : {}),
    ...(isShort(type) ? { type } : {}),
    ...(timestampMs !== null && timestampMs >= 1_000 ? { timestamp: Math.floor(timestampMs / 1_000) } : {}),
    headers,
  };
}

function isShort(text: string): boolean {
  return Buffer.byteLength(text) <= maxShortStringBytes;
}

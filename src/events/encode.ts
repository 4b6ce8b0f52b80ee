/**
 * Encodes an event as a message. Each message is decoded again as a worker does it: one that a
 * worker would refuse is never sent, and the id that a worker will derive is known here.
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
  /** The entity id; for an event without one its own id, which spreads such events over the shards. */
  readonly routingKey: string;
  /** The event as a worker will see it; `entityType` is empty if the worker's default applies. */
  readonly event: Event;
}

export interface EncodeOptions {
  /** The limits of the workers. Default: the defaults. */
  readonly limits?: EventLimits;
  /** UNSEQUENCED of the workers: whether they accept events without a sequence or an entity. Default `reject`. */
  readonly unsequenced?: 'reject' | 'process';
}

/** AMQP's short strings: routing key, message id and type. */
const maxShortStringBytes = 255;

/** Encodes as JSON envelope. Throws `EventError` with the reason that a worker would give. */
export function encodeEvent(event: NewEvent, options: EncodeOptions = {}): EncodedEvent {
  return encodedAs(
    { body: Buffer.from(envelopeText(event)), contentType: 'application/json', headers: {}, entityId: event.entityId },
    options,
  );
}

/** The message of an event, even if a worker will refuse it; null if its entity id is too long for a routing key. */
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

/** For all formats: adds properties and routing key, by decoding the draft as a worker does. */
export function encodedAs(
  { body, contentType, headers, entityId }: Draft,
  { limits = defaultEventLimits, unsequenced = 'reject' }: EncodeOptions,
): EncodedEvent {
  const message = asDelivered({ body, routingKey: entityId ?? '', properties: { contentType, persistent: true, headers } });
  const decoded = decodeMessage(message, { limits, defaultEntityType: '', unsequenced });
  if (!decoded.ok) throw new EventError(decoded.refusal.reason, decoded.refusal.detail);
  const { event } = decoded;
  // The only rule of the sequencer that depends on the event alone.
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

/** The message as a consumer gets it. */
export function asDelivered({ body, routingKey, properties }: Omit<EncodedEvent, 'event'>): RawMessage {
  const { contentType, messageId, type, timestamp, headers } = properties;
  const absent = { contentEncoding: undefined, replyTo: undefined, correlationId: undefined };
  return { body, routingKey, contentType, messageId, type, timestamp, headers, ...absent };
}

/** The properties only repeat fields of the message: a value that is too long for AMQP is left out. */
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

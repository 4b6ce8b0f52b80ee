/**
 * An event to publish, and its encoding as a message: the JSON envelope, or a CloudEvent 1.0. Each message is decoded again as a
 * worker does it: one that a worker would refuse is an `EventError` with the worker's reason and is never sent, and the id that a
 * worker will derive is known here.
 */
import { EventError } from '../errors.ts';
import { attributeName, placedAttributes } from './cloudevents.ts';
import { decodeMessage } from './decode.ts';
import { defaultEventLimits, type Event, type EventLimits, type RawMessage } from './event.ts';

export interface NewEvent {
  /** Unique per event. Default: derived from the whole content by its readers. */
  readonly id?: string;
  /** Default: the worker's ENTITY_TYPE. */
  readonly entityType?: string;
  /** Absent, together with the sequence: the event is unsequenced and belongs to no entity. */
  readonly entityId?: string;
  /** 1, 2, 3… within its entity. */
  readonly sequence?: number;
  readonly type: string;
  /** When it happened: a date, or ISO 8601. */
  readonly timestamp?: string | Date;
  readonly data?: unknown;
  /** `data` as JSON text, instead of `data`: large integers and `1.0` are kept as written. */
  readonly dataJson?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
}

/** The JSON envelope, without checks. */
export function envelopeText(event: NewEvent): string {
  const head = jsonText('the event', {
    id: event.id,
    entity_type: event.entityType,
    entity_id: event.entityId,
    sequence: event.sequence,
    type: event.type,
    timestamp: timestampText(event.timestamp),
  });
  const data = dataText(event);
  const metadata = jsonText('metadata', event.metadata);
  const rest = `${data === undefined ? '' : `,"data":${data}`}${metadata === undefined ? '' : `,"metadata":${metadata}`}`;
  return head === undefined || head === '{}' ? `{${rest.slice(1)}}` : `${head.slice(0, -1)}${rest}}`;
}

/** Undefined when the event has no data. */
function dataText({ data, dataJson }: NewEvent): string | undefined {
  if (dataJson === undefined) return jsonText('data', data);
  if (data !== undefined) throw new EventError('malformed', 'an event has data or dataJson, not both');
  try {
    JSON.parse(dataJson);
  } catch {
    throw new EventError('malformed', 'dataJson is not JSON');
  }
  return dataJson;
}

export function timestampText(timestamp: string | Date | undefined): string | undefined {
  if (!(timestamp instanceof Date)) return timestamp;
  if (Number.isNaN(timestamp.getTime())) throw new EventError('malformed', 'timestamp is an invalid date');
  return timestamp.toISOString();
}

function jsonText(what: string, value: unknown): string | undefined {
  try {
    return JSON.stringify(value, refuseNonFinite);
  } catch (error) {
    throw new EventError('malformed', `${what} cannot be written as JSON: ${(error as Error).message}`, { cause: error });
  }
}

/** JSON.stringify would silently turn NaN and Infinity into null. */
function refuseNonFinite(_key: string, value: unknown): unknown {
  if (typeof value === 'number' && !Number.isFinite(value)) throw new TypeError(`${value} is no JSON number`);
  return value;
}

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
interface Draft {
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

export type CloudEventMode = 'structured' | 'binary';

export interface CloudEventOptions extends EncodeOptions {
  /** `source` of events whose metadata names none: a URI reference. Default `/inorder`. */
  readonly source?: string;
}

type Attributes = Readonly<Record<string, string | number | boolean>>;

/** Throws `EventError` with the reason that a worker would give. An event without an id gets the one derived from its envelope. */
export function encodeCloudEvent(event: NewEvent, mode: CloudEventMode, options: CloudEventOptions = {}): EncodedEvent {
  const { source = '/inorder' } = options;
  const attributes = attributesOf({ ...event, id: event.id ?? encodeEvent(event, options).event.id }, source);
  const draft = mode === 'structured' ? structured(attributes, dataText(event)) : binary(attributes, dataText(event));
  return encodedAs({ ...draft, entityId: event.entityId }, options);
}

function structured(attributes: Attributes, data: string | undefined): Omit<Draft, 'entityId'> {
  const head = JSON.stringify(attributes).slice(0, -1);
  const text = data === undefined ? `${head}}` : `${head},"datacontenttype":"application/json","data":${data}}`;
  return { body: Buffer.from(text), contentType: 'application/cloudevents+json', headers: {} };
}

function binary(attributes: Attributes, data: string | undefined): Omit<Draft, 'entityId'> {
  const headers = Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`cloudEvents:${name}`, value]));
  return { body: Buffer.from(data ?? ''), contentType: 'application/json', headers };
}

function attributesOf(event: NewEvent & { readonly id: string }, source: string): Attributes {
  const timestamp = timestampText(event.timestamp);
  return {
    specversion: '1.0',
    id: event.id,
    source,
    type: event.type,
    ...(event.entityId === undefined ? {} : { subject: event.entityId }),
    ...(timestamp === undefined ? {} : { time: timestamp }),
    // The sequence extension is text, because integers of CloudEvents have only 32 bits.
    ...(event.sequence === undefined ? {} : { sequence: String(event.sequence) }),
    ...(event.entityType === undefined ? {} : { entitytype: event.entityType }),
    ...extensionsOf(event.metadata ?? {}),
  };
}

function extensionsOf(metadata: Readonly<Record<string, unknown>>): Attributes {
  const extensions: Record<string, string | number | boolean> = {};
  for (const [name, value] of Object.entries(metadata)) {
    if (value === undefined || value === null) continue;
    if (!attributeName.test(name) || placedAttributes.has(name)) {
      throw new EventError(
        'malformed',
        `metadata ${JSON.stringify(name)} cannot be a CloudEvents attribute: use other lower-case letters and digits`,
      );
    }
    if (!isAttributeValue(value)) {
      throw new EventError('malformed', `metadata ${name} cannot be a CloudEvents attribute: it is no text, boolean or integer of 32 bits`);
    }
    extensions[name] = value;
  }
  return extensions;
}

function isAttributeValue(value: unknown): value is string | number | boolean {
  return typeof value === 'string' || typeof value === 'boolean' || (typeof value === 'number' && (value | 0) === value);
}

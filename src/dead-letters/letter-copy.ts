/**
 * A dead letter outside of its queue: as a message to publish again, and as a line of NDJSON. The message is the one that was
 * dead-lettered, with the id of its entity as routing key if that is known: it may have come with another routing key, or may have
 * been moved here by hand. The headers that the broker added are removed: with them a broker before 4.0 may take the message
 * for a cycle and drop it, and copies to other queues (`CC`, `BCC`) were made the first time. A line is either everything that
 * is known of the letter, or its event as an envelope that can be corrected and published: an envelope is printed as it is, valid
 * or not; a CloudEvent is converted, with its data as the producer wrote them. Pure.
 */
import type { ConsumeMessage } from 'amqplib';
import { hasAttributes } from '../events/cloudevents-headers.ts';
import { attributeNames, isStructured, placedAttributes } from '../events/cloudevents.ts';
import { decodeMessage, type DecodeOptions } from '../events/decode.ts';
import { memberNames } from '../events/envelope.ts';
import type { Decoded } from '../events/event.ts';
import { messageFingerprint } from '../events/identity.ts';
import { compactJson } from '../events/json-layout.ts';
import { scanMembers } from '../events/json-scanner.ts';
import type { RejectionReason } from '../events/reasons.ts';
import type { PublishableMessage } from '../rabbitmq/outbox.ts';
import { printableJsonLine, utf8 } from '../printable.ts';
import { type DeadLetter, textOf, withoutDeath } from './dead-letter.ts';

const brokersOwn: ReadonlySet<string> = new Set(['CC', 'BCC', 'x-delivery-count', 'x-acquired-count']);
/** What AMQP has room for. */
const maxRoutingKeyBytes = 255;

/** The message to publish again. */
export function messageToReplay({ content, fields, properties }: ConsumeMessage, entityId: string | null): PublishableMessage {
  const { contentType, contentEncoding, messageId, correlationId, replyTo, type, timestamp } = properties;
  const headers = headersOf(properties.headers ?? {});
  return {
    routingKey: routingKeyOf(entityId, fields.routingKey),
    body: content,
    // Left out: `userId`, which must be the connection's user, and `expiration`, which would open a new gap.
    properties: { contentType, contentEncoding, messageId, correlationId, replyTo, type, timestamp, headers },
  };
}

/** How a worker will see the published copy of a dead letter. */
export interface LetterCopy {
  /** Differs from the letter's own fingerprint if its routing key is corrected. */
  readonly fingerprint: string;
  /** Null if it would be refused. */
  readonly payloadHash: string | null;
  /** Why it would be refused again, whatever the state of its entity; null if it is a valid event. */
  readonly refused: RejectionReason | null;
}

/** `decoding` as the stream's workers decode. */
export function copyOf({ message, fingerprint, entityId }: DeadLetter, decoding: DecodeOptions): LetterCopy {
  const routingKey = routingKeyOf(entityId, message.routingKey);
  const copy = { ...message, routingKey, headers: headersOf(message.headers) };
  const own = routingKey === message.routingKey ? fingerprint : messageFingerprint(copy);
  const decoded = decodeMessage(copy, decoding);
  if (!decoded.ok) return { fingerprint: own, payloadHash: null, refused: decoded.refusal.reason };
  const { sequence, payloadHash } = decoded.event;
  // Without a sequence it is refused, except with `UNSEQUENCED=process`.
  return { fingerprint: own, payloadHash, refused: sequence === null && !decoding.allowMissingEntityId ? 'invalid_sequence' : null };
}

function routingKeyOf(entityId: string | null, original: string): string {
  return entityId === null || Buffer.byteLength(entityId) > maxRoutingKeyBytes ? original : entityId;
}

function headersOf(headers: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(withoutDeath(headers)).filter(([name]) => !brokersOwn.has(name)));
}

/** Everything that is known of it, without its status. */
export function asLetterLine(letter: DeadLetter): string {
  return printableJsonLine({ ...letterFields(letter), ...messageFields(letter) });
}

/** The fields that `list --json` prints. */
export function letterFields(letter: DeadLetter) {
  return {
    message_id: letter.messageId,
    entity_type: letter.entityType,
    entity_id: letter.entityId,
    sequence: letter.sequence,
    type: letter.type,
    reason: letter.reason,
    detail: letter.detail,
    shard: letter.shard,
    dead_lettered_at: letter.deadLetteredAt,
    replays: letter.replayedAt.length,
  };
}

/** The fields that `show --json` adds: the message itself, and what to do about it. */
export function messageFields({ message, fingerprint, reason, stack, replayedAt }: DeadLetter): object {
  const text = utf8(message.body);
  return {
    fingerprint,
    stack,
    remedy: textOf(reason).remedy,
    replayed_at: replayedAt,
    routing_key: message.routingKey,
    content_type: message.contentType ?? null,
    headers: message.headers,
    // A body that is not UTF-8 would not survive as text.
    ...(text === null ? { body_base64: Buffer.from(message.body).toString('base64') } : { body: text }),
  };
}

/** Its event as a line. Null if its body is not JSON, or is a structured event and not an object. */
export function asEventLine({ message }: DeadLetter, decoded: Decoded): string | null {
  const text = compactJson(
    Buffer.from(message.body)
      .toString()
      .replace(/^\ufeff/, ''),
  );
  if (hasAttributes(message.headers)) return text === null && message.body.byteLength > 0 ? null : envelopeLine(decoded, text);
  if (!text?.startsWith('{')) return null;
  if (!isStructured(JSON.parse(text))) return `${text}\n`;
  return decoded.ok ? envelopeLine(decoded, compactJson(decoded.event.dataJson)) : `${renamed(text) ?? text}\n`;
}

/** A refused structured CloudEvent with the envelope's field names. Null if an envelope has no place for some of it. */
function renamed(text: string): string | null {
  const scan = scanMembers(text, Number.POSITIVE_INFINITY);
  if (!scan.ok) return null;
  const members = new Map(scan.found.map(({ key, source }) => [key, source]));
  if (members.has('data_base64')) return null;
  const fields = (['id', 'entityType', 'entityId', 'sequence', 'type', 'timestamp'] as const).flatMap((field) => {
    const source = members.get(attributeNames[field]);
    const value = field === 'sequence' ? source?.replace(/^"(0|[1-9]\d*)"$/, '$1') : source;
    return value === undefined ? [] : [`"${memberNames[field]}":${value}`];
  });
  const metadata = [...members].filter(([key]) => !placedAttributes.has(key)).map(([key, source]) => `${JSON.stringify(key)}:${source}`);
  return `{${[...fields, `"metadata":{${metadata.join(',')}}`, `"data":${members.get('data') ?? 'null'}`].join(',')}}`;
}

/** The envelope of a CloudEvent; of a refused binary one, of what could be read. */
function envelopeLine(decoded: Decoded, data: string | null): string {
  const { id, entityType, entityId, sequence, type } = decoded.ok ? decoded.event : decoded.refusal;
  const { timestamp, metadata } = decoded.ok ? decoded.event : { timestamp: null, metadata: null };
  const fields = { id, entity_type: entityType, entity_id: entityId, sequence, type, timestamp, metadata };
  const known = Object.entries(fields).filter(([, value]) => value !== null);
  return `${JSON.stringify(Object.fromEntries(known)).slice(0, -1)},"data":${data ?? 'null'}}\n`;
}

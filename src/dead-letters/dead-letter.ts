/**
 * One dead letter as an operator sees it: the message in the queue, joined with the record that was written
 * before it was rejected. Without a record only the newest entry of `x-death` (queue, time and one of a few
 * reasons) and the readable parts of the message are known; nothing is guessed, and headers are not trusted, because
 * publishers can write them. Also: which letters a filter matches, and how letters are grouped. Pure.
 *
 * And what it becomes outside of its queue: a message to publish again, or a line of NDJSON. The message is the one that was
 * dead-lettered, with the id of its entity as routing key if that is known: it may have come with another routing key, or may have
 * been moved here by hand. The headers that the broker added are removed: with them a broker before 4.0 may take the message
 * for a cycle and drop it, and copies to other queues (`CC`, `BCC`) were made the first time. A line is either everything that
 * is known of the letter, or its event as an envelope that can be corrected and published: an envelope is printed as it is, valid
 * or not; a CloudEvent is converted, with its data as the producer wrote them.
 */
import type { ConsumeMessage } from 'amqplib';
import { hasAttributes, attributeNames, isStructured, placedAttributes } from '../events/cloudevents.ts';
import { decodeMessage, type DecodeOptions } from '../events/decode.ts';
import { memberNames } from '../events/raw-fields.ts';
import type { Decoded, EntityRef, RawMessage } from '../events/event.ts';
import { messageFingerprint } from '../events/identity.ts';
import { compactJson, printableJsonLine, utf8 } from '../printable.ts';
import { scanMembers } from '../events/json-scanner.ts';
import { type ReasonText, type RejectionReason, rejectionReasons } from '../events/reasons.ts';
import { fromAmqpTimestamp, timeText } from '../events/timestamp.ts';
import type { PublishableMessage } from '../rabbitmq/outbox.ts';
import type { DeadLetterHistory, DeadLetterQuery } from '../stores/store.ts';

export type DeadLetterReason = RejectionReason | BrokerReason;

export interface DeadLetter {
  /** The event's id if it could be read, else the message's `messageId`, else the fingerprint; `show` accepts it. */
  readonly messageId: string;
  /** First 32 hex digits of a SHA-256 of the body and of what decides how it is read (identity.ts). */
  readonly fingerprint: string;
  readonly entityType: string | null;
  readonly entityId: string | null;
  readonly sequence: number | null;
  readonly type: string | null;
  readonly reason: DeadLetterReason;
  readonly detail: string;
  /** The stack of a processor's failure, line by line; null if unknown. */
  readonly stack: string | null;
  /** Null if it did not come from a shard queue, or the queue is unknown. */
  readonly shard: number | null;
  /** ISO 8601, or null. */
  readonly deadLetteredAt: string | null;
  /** Times of the remembered replays, ISO 8601, the latest first. */
  readonly replayedAt: readonly string[];
  readonly message: RawMessage;
}

/** What could be read of a message, with the query that finds its record. */
export interface UnexplainedLetter {
  readonly message: RawMessage;
  readonly query: DeadLetterQuery;
  readonly id: string | null;
  readonly sequence: number | null;
  readonly type: string | null;
}

/** `decode` as the workers do: the record is stored under what they could read of the message. */
export function readLetter(message: RawMessage, decode: (message: RawMessage) => Decoded): UnexplainedLetter {
  // Without the headers that the broker added: with them a header block may exceed its limit.
  const decoded = decode({ ...message, headers: withoutDeath(message.headers) });
  const { id, entityType, entityId, sequence, type } = decoded.ok ? decoded.event : decoded.refusal;
  return { message, query: { fingerprint: messageFingerprint(message), entityType, entityId }, id, sequence, type };
}

/** `shardOf` tells the shard from the name of its queue. */
export function explain(
  letter: UnexplainedLetter,
  history: DeadLetterHistory | null,
  shardOf: (queue: string) => number | null,
): DeadLetter {
  const { message, query } = letter;
  const death = readBrokerDeath(message.headers);
  // A record belongs to a reject. If the broker dead-lettered the message by itself, it is from an earlier attempt.
  const known = death.reason === 'unknown' ? (history?.record ?? null) : null;
  const reason = known?.reason ?? death.reason;
  return {
    messageId: letter.id || message.messageId || query.fingerprint,
    fingerprint: query.fingerprint,
    entityType: known?.entityType ?? query.entityType,
    entityId: known?.entityId ?? query.entityId,
    sequence: known?.sequence ?? letter.sequence,
    type: known?.type ?? letter.type,
    reason,
    detail: known?.detail ?? textOf(reason).meaning,
    stack: known?.stack ?? null,
    shard: known?.shard ?? (death.queue === null ? null : shardOf(death.queue)),
    deadLetteredAt: known?.deadLetteredAt ?? death.at,
    replayedAt: history?.replayedAt ?? [],
    message,
  };
}

/** Whether `id` names this letter: the event's id, the message's, or the fingerprint. */
export function isNamed(letter: DeadLetter, id: string): boolean {
  return letter.messageId === id || letter.message.messageId === id || letter.fingerprint === id;
}

type OrderedLetter = DeadLetter & EntityRef & { readonly sequence: number };

/** Whether it has a place in the sequence of an entity, and only lacked a predecessor. */
export function isWaiting(letter: DeadLetter): letter is OrderedLetter {
  return (
    letter.entityType !== null && letter.entityId !== null && letter.sequence !== null && textOf(letter.reason).fault === 'predecessor'
  );
}

/** All dead letters, or those that match every given field. */
export interface LetterFilter {
  /** Any of these ids: of the event, of the message, or the fingerprint. */
  readonly ids?: readonly string[];
  readonly entityType?: string;
  readonly entityId?: string;
  /** Type of the event. */
  readonly type?: string;
  readonly reason?: DeadLetterReason;
  readonly shard?: number;
  /** Dead-lettered at this time or later, in milliseconds since 1970. A letter without a time does not match. */
  readonly sinceMs?: number;
}

/** Whether any field is given. */
export function isSelective(filter: LetterFilter): boolean {
  return Object.values(filter).some((value) => value !== undefined);
}

export function matches(letter: DeadLetter, filter: LetterFilter): boolean {
  const { ids, entityType, entityId, type, reason, shard, sinceMs } = filter;
  return (
    (ids === undefined || ids.some((id) => isNamed(letter, id))) &&
    (entityType === undefined || letter.entityType === entityType) &&
    (entityId === undefined || letter.entityId === entityId) &&
    (type === undefined || letter.type === type) &&
    (reason === undefined || letter.reason === reason) &&
    (shard === undefined || letter.shard === shard) &&
    (sinceMs === undefined || (letter.deadLetteredAt !== null && Date.parse(letter.deadLetteredAt) >= sinceMs))
  );
}

const brokerTable = {
  delivery_limit: {
    meaning: 'The broker gave up delivering it: it was returned to its queue more often than the delivery limit allows.',
    cause: 'A worker that crashes on it, again and again.',
    remedy: 'Look for a worker that crashes again and again; then replay.',
    fault: 'other',
  },
  expired: {
    meaning: 'Its time to live ran out while it waited in a queue.',
    cause: 'A producer or a policy that sets a time to live.',
    remedy: 'Publish without an expiration: an expired event is a gap for those behind it; then replay.',
    fault: 'other',
  },
  maxlen: {
    meaning: 'Its queue was full and dropped it.',
    cause: 'A policy that limits the length of the queue.',
    remedy: 'Correct the policy: shard queues must not drop (`inorder topology check`); then replay.',
    fault: 'other',
  },
  unknown: {
    meaning: 'It was rejected, and there is no record of why.',
    cause: 'It lay here for more than 30 days, somebody moved it here by hand, or the store was emptied.',
    remedy: 'Records are kept for 30 days; look into the body and the log of that time.',
    // Where records ran out because so much was dead-lettered, this is the likely one.
    fault: 'predecessor',
  },
} as const satisfies Record<string, ReasonText>;

/** Reasons beside those of `events/reasons.ts`: the broker's own. */
export type BrokerReason = keyof typeof brokerTable;

export const brokerReasons: Readonly<Record<BrokerReason, ReasonText>> = brokerTable;

const reasonTexts: Readonly<Record<DeadLetterReason, ReasonText>> = { ...rejectionReasons, ...brokerReasons };

/** Every reason that a dead letter can have. */
export const deadLetterReasons = Object.keys(reasonTexts) as readonly DeadLetterReason[];

export function textOf(reason: DeadLetterReason): ReasonText {
  return reasonTexts[reason];
}

export interface BrokerDeath {
  readonly reason: BrokerReason;
  /** The queue that it came from, or null. */
  readonly queue: string | null;
  /** ISO 8601, to the second; or null. */
  readonly at: string | null;
}

const nothingKnown: BrokerDeath = { reason: 'unknown', queue: null, at: null };

export function readBrokerDeath(headers: Readonly<Record<string, unknown>>): BrokerDeath {
  const deaths = Object.hasOwn(headers, 'x-death') ? headers['x-death'] : null;
  // The broker puts the latest death first.
  const last: unknown = Array.isArray(deaths) ? deaths[0] : null;
  if (!isRecord(last)) return nothingKnown;
  const { reason, queue, time } = last;
  return {
    reason: reason === 'delivery_limit' || reason === 'expired' || reason === 'maxlen' ? reason : 'unknown',
    queue: typeof queue === 'string' ? queue : null,
    at: isRecord(time) ? timeTextOf(time['value']) : null,
  };
}

/** The headers that the broker adds when it dead-letters a message. */
const deathHeader = /^x-(death|(first|last)-death-(reason|queue|exchange))$/;

export function withoutDeath(headers: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !deathHeader.test(name)));
}

function timeTextOf(amqpTimestamp: unknown): string | null {
  const ms = fromAmqpTimestamp(amqpTimestamp);
  return ms === null ? null : timeText(ms);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

export const groupings = ['reason', 'type', 'entity', 'shard', 'detail'] as const;
export type Grouping = (typeof groupings)[number];

export interface LetterGroup {
  /** What the letters of the group have in common; null if unknown. */
  readonly name: string | null;
  readonly count: number;
  /** When the first and the last were dead-lettered, ISO 8601; null if no time is known. */
  readonly first: string | null;
  readonly last: string | null;
}

type Counted = { -readonly [Field in keyof LetterGroup]: LetterGroup[Field] };

export class LetterGroups {
  readonly #by: Grouping;
  readonly #groups = new Map<string | null, Counted>();

  constructor(by: Grouping) {
    this.#by = by;
  }

  add(letter: DeadLetter): void {
    const name = this.#nameOf(letter);
    const at = letter.deadLetteredAt;
    const group = this.#groups.get(name);
    if (group === undefined) {
      this.#groups.set(name, { name, count: 1, first: at, last: at });
      return;
    }
    group.count++;
    if (at !== null && (group.first === null || at < group.first)) group.first = at;
    if (at !== null && (group.last === null || at > group.last)) group.last = at;
  }

  /** The largest first. */
  list(): readonly LetterGroup[] {
    return [...this.#groups.values()].sort((a, b) => b.count - a.count);
  }

  #nameOf({ reason, type, entityType, entityId, shard, detail }: DeadLetter): string | null {
    switch (this.#by) {
      case 'reason':
        return reason;
      case 'type':
        return type;
      case 'entity':
        return entityId === null ? null : entityType === null ? entityId : `${entityType} ${entityId}`;
      case 'shard':
        return shard === null ? null : String(shard);
      case 'detail':
        return causeOf(detail);
    }
  }
}

const longestCause = 200;

/** A detail without the parts that differ between letters of one cause: quoted values, addresses, numbers, times, ids. */
export function causeOf(detail: string): string {
  const cause = detail
    .slice(0, 1_024)
    .replaceAll(/"(?:[^"\\]|\\.)*"|`[^`]*`|(?<!\w)'[^']*'(?!\w)/g, '"…"')
    .replaceAll(/\d{4}-\d\d-\d\d[T ]\d\d:\d\d[\d:.,]*(?:Z| ?[+-]\d\d:?\d\d)?/g, '#')
    .replaceAll(/[^\s"'<>()]+@[^\s"'<>()]+/g, '…@…')
    // Also 17, order-17, 0x1f, 3fa85f64-…, ab12: a word with a digit names one of many.
    .replaceAll(/(?<![\p{L}\p{N}_.-])[\p{L}\p{N}_.-]*\p{N}[\p{L}\p{N}_-]*(?:\.[\p{L}\p{N}_-]+)*/gu, '#')
    .replaceAll(/\b[0-9a-f]{12,}\b/gi, '#');
  return cause.length <= longestCause ? cause : `${cause.slice(0, longestCause)}…`;
}

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
  return { fingerprint: own, payloadHash, refused: sequence === null && decoding.unsequenced === 'reject' ? 'invalid_sequence' : null };
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

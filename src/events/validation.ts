/**
 * Decides whether the raw fields of a message make an event. Every field is read even if an earlier one is invalid,
 * because the record of a dead letter has everything that could be read; the first problem gives the reason.
 * An invalid field is never passed on: ids are used in keys, and must be safe there.
 */
import type { RawFields, Problem } from './raw-fields.ts';
import type { Decoded, EventLimits, RawMessage, Refusal } from './event.ts';
import { derivedId, payloadHash } from './identity.ts';
import { isJsonObject, kindOf } from './json-body.ts';
import type { RejectionReason } from './reasons.ts';
import { fromAmqpTimestamp, readTime, timeText } from './timestamp.ts';

export interface DecodeOptions {
  readonly limits: EventLimits;
  /** The entity type of events that name none. */
  readonly defaultEntityType: string;
  /**
   * Of an event without entity id and sequence: `process` makes it an entity of its own, with its id as the name; with `reject` it lacks
   * its entity id. A missing sequence alone is left to the sequencer.
   */
  readonly unsequenced: 'reject' | 'process';
}

export function validate(raw: RawFields, message: RawMessage, options: DecodeOptions): Decoded {
  const fields = new Fields(raw.problem, options.limits);
  const { names } = raw;
  const givenId = raw.id == null ? null : fields.name('malformed', names.id, raw.id);
  const type = fields.name('malformed', names.type, raw.type);
  const metadata = fields.metadata(raw.metadata);
  const timestamp = fields.timestamp(names.timestamp, raw.timestamp);
  const entityType = raw.entityType == null ? options.defaultEntityType : fields.name('invalid_entity', names.entityType, raw.entityType);
  const alone = options.unsequenced === 'process' && raw.entityId == null && raw.sequence === null;
  const givenEntityId = alone ? null : fields.name('invalid_entity', names.entityId, raw.entityId);
  const sequence = fields.sequence(names.sequence, raw.sequence);
  if (givenEntityId !== null && givenEntityId !== message.routingKey)
    fields.note('misrouted', `the routing key differs from ${names.entityId}`);

  if (fields.problem !== null || type === null || entityType === null) {
    // Without an entity id the routing key names the entity, except for an event that is a separate entity.
    const entityId = givenEntityId ?? (alone && raw.isComplete ? null : fields.nameOrNull(message.routingKey));
    // The default type applies only if the message has none, and only to an entity.
    const isUnknown = entityId === null || !raw.isComplete;
    const readType = raw.entityType == null && isUnknown ? null : entityType;
    // With an incomplete body the property is more reliable.
    const id = (raw.isComplete ? null : message.messageId) ?? givenId;
    return refusal(fields.problem, message, { id, entityType: readType, entityId, sequence, type });
  }
  const id = givenId ?? derivedId(raw.envelope ?? []);
  return {
    ok: true,
    event: {
      id,
      idDerived: givenId === null,
      entityType,
      entityId: givenEntityId ?? id,
      sequence,
      type,
      ...(timestamp ?? amqpTime(message.timestamp)),
      data: raw.data,
      dataJson: raw.dataJson,
      metadata,
      payloadHash: payloadHash(type, raw.dataCanonical),
    },
  };
}

/** The refusal with what could be read, completed from the message's properties. */
function refusal(problem: Problem | null, message: RawMessage, read: Omit<Refusal, 'reason' | 'detail'>): Decoded {
  const { reason, detail } = problem ?? { reason: 'malformed', detail: 'the message is no event' };
  const { messageId = null, type = null } = message;
  return { ok: false, refusal: { ...read, reason, detail, id: read.id ?? messageId, type: read.type ?? type } };
}

interface Time {
  readonly timestamp: string | null;
  readonly timestampMs: number | null;
}

const noTime: Time = { timestamp: null, timestampMs: null };

function amqpTime(value: number | undefined): Time {
  const ms = fromAmqpTimestamp(value);
  return ms === null ? noTime : { timestamp: timeText(ms), timestampMs: ms };
}

/** Line breaks and NUL break logs and terminals, and no name needs them. */
const controlCharacter = /\p{Cc}/u;

class Fields {
  problem: Problem | null;
  readonly #maxNameBytes: number;
  readonly #firstSequence: number;

  constructor(problem: Problem | null, { maxEntityIdBytes, firstSequence }: EventLimits) {
    this.problem = problem;
    this.#maxNameBytes = maxEntityIdBytes;
    this.#firstSequence = firstSequence;
  }

  note(reason: RejectionReason, detail: string): void {
    this.problem ??= { reason, detail };
  }

  /** A string that is safe in keys and labels; otherwise null, with a problem. */
  name(reason: RejectionReason, field: string, value: unknown): string | null {
    const fault = this.#nameFault(value);
    if (fault === null) return value as string;
    this.note(reason, `${field} ${fault}`);
    return null;
  }

  nameOrNull(value: unknown): string | null {
    return this.#nameFault(value) === null ? (value as string) : null;
  }

  sequence(field: string, value: number | null): number | null {
    const first = this.#firstSequence;
    // JSON's -0 is 0.
    if (value === null || (Number.isSafeInteger(value) && value >= first)) return value === 0 ? 0 : value;
    const hint = value === 0 ? '; for producers that count from 0 set FIRST_SEQUENCE=0' : '';
    this.note('invalid_sequence', `${field} is not a whole number from ${first} to 2^53 - 1${hint}`);
    return null;
  }

  timestamp(field: string, value: unknown): Time | null {
    if (value == null) return null;
    const read = readTime(value);
    if (typeof read === 'number') return { timestamp: value as string, timestampMs: read };
    this.note('malformed', `${field} ${read}`);
    return noTime;
  }

  metadata(value: unknown): Readonly<Record<string, unknown>> {
    if (isJsonObject(value)) return value;
    if (value != null) this.note('malformed', `metadata is ${kindOf(value)}, not an object`);
    return {};
  }

  #nameFault(value: unknown): string | null {
    if (value == null) return 'is missing';
    if (typeof value !== 'string') return `is ${kindOf(value)}, not a string`;
    if (value === '') return 'is empty';
    const most = this.#maxNameBytes;
    // A UTF-16 unit has at most three bytes in UTF-8, so most names need no counting.
    if (value.length * 3 > most && Buffer.byteLength(value) > most) return `has ${Buffer.byteLength(value)} bytes, the limit is ${most}`;
    return controlCharacter.test(value) ? 'has a control character' : null;
  }
}

/**
 * The fields of a message as its format has them, read and not yet checked: the common ground of the JSON
 * envelope and of CloudEvents. `validation.ts` decides whether they make an event.
 */
import type { RawMessage, EventLimits } from './event.ts';
import type { JsonMember } from './json-scanner.ts';
import type { RejectionReason } from './reasons.ts';

export interface Problem {
  readonly reason: RejectionReason;
  /** Never contains the payload. */
  readonly detail: string;
}

/** What the fields are called in the format, so that a detail names what the producer wrote. */
export interface FieldNames {
  readonly id: string;
  readonly entityType: string;
  readonly entityId: string;
  readonly sequence: string;
  readonly type: string;
  readonly timestamp: string;
}

/** `undefined` or null: the message does not say. */
export interface RawFields {
  readonly names: FieldNames;
  /** What the format itself found wrong; the rest is then what could still be read. */
  readonly problem: Problem | null;
  /** False: the message may say more than could be read. */
  readonly isWhole: boolean;
  readonly id: unknown;
  readonly entityType: unknown;
  readonly entityId: unknown;
  /** A number that is the sequence if it is whole and safe; NaN when what stands there is no sequence at all. */
  readonly sequence: number | null;
  readonly type: unknown;
  readonly timestamp: unknown;
  readonly metadata: unknown;
  readonly data: unknown;
  readonly dataJson: string;
  readonly dataCanonical: string;
  /** The whole of it, from which an id can be derived; null where the format demands an id. */
  readonly envelope: readonly JsonMember[] | null;
}

/** A format: where its fields stand in a message. */
export type ReadRawFields = (message: RawMessage, limits: EventLimits) => RawFields;

export function malformed(detail: string): Problem {
  return { reason: 'malformed', detail };
}

export function unsupported(detail: string): Problem {
  return { reason: 'unsupported', detail };
}

/** Fields that say nothing, to be filled in. */
export function noRawFields(names: FieldNames): RawFields {
  return {
    names,
    problem: null,
    isWhole: true,
    id: null,
    entityType: null,
    entityId: null,
    sequence: null,
    type: null,
    timestamp: null,
    metadata: null,
    data: null,
    dataJson: 'null',
    dataCanonical: 'null',
    envelope: null,
  };
}

export function unreadable(names: FieldNames, problem: Problem): RawFields {
  return { ...noRawFields(names), problem, isWhole: false };
}

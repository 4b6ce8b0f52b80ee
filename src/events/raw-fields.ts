/**
 * The unchecked fields of a message, the common form of the JSON envelope and of CloudEvents.
 * `validation.ts` decides whether they make an event.
 */
import type { RawMessage, EventLimits } from './event.ts';
import type { JsonMember } from './json-scanner.ts';
import type { RejectionReason } from './reasons.ts';

export interface Problem {
  readonly reason: RejectionReason;
  /** Never contains the payload. */
  readonly detail: string;
}

/** The names of the fields in the format, for details in the producer's terms. */
export interface FieldNames {
  readonly id: string;
  readonly entityType: string;
  readonly entityId: string;
  readonly sequence: string;
  readonly type: string;
  readonly timestamp: string;
}

/** Of the JSON envelope. */
export const memberNames: FieldNames = {
  id: 'id',
  entityType: 'entity_type',
  entityId: 'entity_id',
  sequence: 'sequence',
  type: 'type',
  timestamp: 'timestamp',
};

/** `undefined` or null: absent. */
export interface RawFields {
  readonly names: FieldNames;
  /** A problem of the format; the other fields then have what could still be read. */
  readonly problem: Problem | null;
  /** False: the message may have more fields than could be read. */
  readonly isComplete: boolean;
  readonly id: unknown;
  readonly entityType: unknown;
  readonly entityId: unknown;
  /** The sequence, if it is a safe integer; NaN for a value that is no number. */
  readonly sequence: number | null;
  readonly type: unknown;
  readonly timestamp: unknown;
  readonly metadata: unknown;
  readonly data: unknown;
  readonly dataJson: string;
  readonly dataCanonical: string;
  /** All members, from which an id can be derived; null if the format requires an id. */
  readonly envelope: readonly JsonMember[] | null;
}

/** A format reads its fields from a message. */
export type ReadRawFields = (message: RawMessage, limits: EventLimits) => RawFields;

export function malformed(detail: string): Problem {
  return { reason: 'malformed', detail };
}

export function unsupported(detail: string): Problem {
  return { reason: 'unsupported', detail };
}

/** Empty fields, to be filled in. */
export function noRawFields(names: FieldNames): RawFields {
  return {
    names,
    problem: null,
    isComplete: true,
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
  return { ...noRawFields(names), problem, isComplete: false };
}

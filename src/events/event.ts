/**
 * The types of a message and of a decoded, valid event.
 * Everything after the decoder (the sequencer, the processors, the store) sees only `Event`.
 */
import type { RejectionReason } from './reasons.ts';

/** A message from the broker as bytes and properties, unchecked. */
export interface RawMessage {
  readonly body: Uint8Array;
  readonly routingKey: string;
  readonly contentType: string | undefined;
  readonly contentEncoding: string | undefined;
  readonly messageId: string | undefined;
  readonly type: string | undefined;
  /** AMQP timestamp: seconds since 1970, if the producer is correct. */
  readonly timestamp: number | undefined;
  readonly replyTo: string | undefined;
  readonly correlationId: string | undefined;
  readonly headers: Readonly<Record<string, unknown>>;
  /** The headers nest too deep to be read: only the body and the routing key are known. */
  readonly unreadable?: boolean;
}

/** The entity that an event belongs to. */
export interface EntityRef {
  readonly entityType: string;
  readonly entityId: string;
}

/** The entity with the field names of JSON. Null if unknown. */
export function entityFields<Name extends string | null>({ entityType, entityId }: { readonly entityType: Name; readonly entityId: Name }) {
  return { entity_type: entityType, entity_id: entityId } as const;
}

/** An event that passed every check of src/README.md, section 3. */
export interface Event extends EntityRef {
  /** As given by the producer, or derived: the first 32 hex digits of the SHA-256 of the canonical JSON. */
  readonly id: string;
  /** True when the producer gave no id. */
  readonly idDerived: boolean;
  /** 1, 2, 3… within its entity (0, 1, 2… where FIRST_SEQUENCE is 0); null when the producer gave none (`UNSEQUENCED` decides). */
  readonly sequence: number | null;
  readonly type: string;
  /** When it happened, as the producer wrote it (ISO 8601), or null. */
  readonly timestamp: string | null;
  /** `timestamp` in milliseconds since 1970, or null. */
  readonly timestampMs: number | null;
  readonly data: unknown;
  /** The text of `data` as the producer wrote it, with large integers and `1.0` intact. */
  readonly dataJson: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  /** Equal for events with equal content: 16 base64url characters (96 bits) of a SHA-256 over type and canonical data. */
  readonly payloadHash: string;
}

/** Limits on one message, each with a named reason when exceeded. */
export interface EventLimits {
  /** Largest body, in bytes. Default 1 MiB. */
  readonly maxBodyBytes: number;
  /** Largest entity id (and type), in bytes of UTF-8. Default 512. */
  readonly maxEntityIdBytes: number;
  /** Largest header block, in bytes of keys and values. Default 64 KiB. */
  readonly maxHeaderBytes: number;
  /** Deepest nesting of the JSON. Default 64. */
  readonly maxJsonDepth: number;
  /** The lowest sequence: 0 if FIRST_SEQUENCE is 0, else 1. Default 1. */
  readonly firstSequence: 0 | 1;
}

export const defaultEventLimits: EventLimits = {
  maxBodyBytes: 1_048_576,
  maxEntityIdBytes: 512,
  maxHeaderBytes: 65_536,
  maxJsonDepth: 64,
  firstSequence: 1,
};

/** Why a message cannot become an event, with what could be read of it. */
export interface Refusal {
  readonly reason: RejectionReason;
  /** One sentence for the operator: what is wrong, and where. Never contains the payload. */
  readonly detail: string;
  readonly id: string | null;
  readonly entityType: string | null;
  readonly entityId: string | null;
  readonly sequence: number | null;
  readonly type: string | null;
}

export type Decoded = { readonly ok: true; readonly event: Event } | { readonly ok: false; readonly refusal: Refusal };

/** An event in an entity's log: a line of JSON with its fields, and its data as the producer wrote them. */
export interface AppliedEvent extends Pick<Event, 'id' | 'type' | 'timestamp' | 'metadata' | 'dataJson'> {
  /** The sequence under which it was applied; for an unsequenced event the version after it. */
  readonly sequence: number;
}

export function appliedText({ id, type, timestamp, metadata, dataJson }: Event, sequence: number): string {
  return `${JSON.stringify({ sequence, id, type, timestamp, metadata })}\n${dataJson}`;
}

export function readAppliedText(text: string): AppliedEvent {
  const end = text.indexOf('\n');
  return { ...(JSON.parse(text.slice(0, end)) as Omit<AppliedEvent, 'dataJson'>), dataJson: text.slice(end + 1) };
}

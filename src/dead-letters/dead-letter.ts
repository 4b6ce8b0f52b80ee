/**
 * One dead letter as an operator sees it: the message that lies in the queue, joined with the record that was written
 * before it was rejected. Where there is no record, the broker's word and what can be read of the message have
 * to do; nothing is guessed.
 */
import type { Decoded, RawMessage } from '../events/event.ts';
import { messageFingerprint } from '../events/identity.ts';
import { rejectionReasons, type ReasonText, type RejectionReason } from '../events/reasons.ts';
import type { DeadLetterHistory, DeadLetterQuery } from '../stores/store.ts';
import { type BrokerReason, brokerReasons, readBrokerDeath, withoutDeath } from './broker-death.ts';

export type DeadLetterReason = RejectionReason | BrokerReason;

export interface DeadLetter {
  /** The event's id where it could be read, else the message's `messageId`, else the fingerprint: `show` takes it. */
  readonly messageId: string;
  /** First 32 hex digits of the SHA-256 of the body. */
  readonly fingerprint: string;
  readonly entityType: string | null;
  readonly entityId: string | null;
  readonly sequence: number | null;
  readonly type: string | null;
  readonly reason: DeadLetterReason;
  readonly detail: string;
  /** Where in a processor the failure came from, line by line; null where nothing is known of that. */
  readonly stack: string | null;
  /** Null when it did not come from a shard queue, or nobody knows from which. */
  readonly shard: number | null;
  /** ISO 8601, or null. */
  readonly deadLetteredAt: string | null;
  /** When it was replayed before, ISO 8601, the last time first; as far as that is remembered. */
  readonly replayedAt: readonly string[];
  readonly message: RawMessage;
}

/** What could be read of a message, with the question that finds its record. */
export interface UnexplainedLetter {
  readonly message: RawMessage;
  readonly query: DeadLetterQuery;
  readonly id: string | null;
  readonly sequence: number | null;
  readonly type: string | null;
}

/** `decode` as the worker decodes, for the record was written under what the worker made of the message. */
export function readLetter(message: RawMessage, decode: (message: RawMessage) => Decoded): UnexplainedLetter {
  // Without what the broker added, or a header block just below its limit would be over it now.
  const decoded = decode({ ...message, headers: withoutDeath(message.headers) });
  const { id, entityType, entityId, sequence, type } = decoded.ok ? decoded.event : decoded.refusal;
  return { message, query: { fingerprint: messageFingerprint(message), entityType, entityId }, id, sequence, type };
}

/** `shardOf` tells the shard from the name of its queue. */
export function explain(letter: UnexplainedLetter, history: DeadLetterHistory | null, shardOf: (queue: string) => number | null): DeadLetter {
  const { message, query } = letter;
  const death = readBrokerDeath(message.headers);
  // A record belongs to a reject. If the broker took the message by itself, one may be left of an attempt before that.
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

export function textOf(reason: DeadLetterReason): ReasonText {
  return { ...brokerReasons, ...rejectionReasons }[reason];
}

/** Whether `id` means this letter: its id, the message's own, or its fingerprint. */
export function isNamed(letter: DeadLetter, id: string): boolean {
  return letter.messageId === id || letter.message.messageId === id || letter.fingerprint === id;
}

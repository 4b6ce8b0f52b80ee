/**
 * What every store keeps of dead letters, and for how long. Pure: the stores apply it.
 */
import { rejectionReasons } from '../events/reasons.ts';
import type { DeadLetterRecord } from './store.ts';

/** Counted from the entity's latest record: while an entity keeps failing, its earlier reasons stay as well. */
export const deadLetterTtlMs = 30 * 24 * 60 * 60 * 1000;

/** Beyond it about the oldest record of the entity goes; the message itself stays in its queue. */
export const maxDeadLettersPerEntity = 10_000;

/** In UTF-16 code units. */
export const maxDetailLength = 1024;

/** Of one message; beyond it the earlier ones are forgotten. */
export const maxRememberedReplays = 20;

/** The sequence that its parked entity has to pass before it is whole again, or null. */
export function awaitedSequence({ sequence, reason }: DeadLetterRecord): number | null {
  return rejectionReasons[reason].inSequence ? sequence : null;
}

/** The record as it is kept: its detail cut to length, never through the middle of a character. */
export function keptRecord(record: DeadLetterRecord): DeadLetterRecord {
  if (record.detail.length <= maxDetailLength) return record;
  const detail = record.detail.slice(0, maxDetailLength).replace(/[\uD800-\uDBFF]$/, '');
  return { ...record, detail };
}

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
export const maxStackLength = 4096;

/** Of one message; beyond it the earlier ones are forgotten. */
export const maxRememberedReplays = 20;

/** The sequence that its parked entity has to pass before it is whole again, or null. */
export function awaitedSequence({ sequence, reason }: DeadLetterRecord): number | null {
  return rejectionReasons[reason].inSequence ? sequence : null;
}

/** The record as it is kept: its texts cut to length, never through the middle of a character. */
export function keptRecord(record: DeadLetterRecord): DeadLetterRecord {
  const { detail, stack = '' } = record;
  if (detail.length <= maxDetailLength && stack.length <= maxStackLength) return record;
  const kept = { ...record, detail: cut(detail, maxDetailLength) };
  return stack === '' ? kept : { ...kept, stack: cut(stack, maxStackLength) };
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : text.slice(0, length).replace(/[\uD800-\uDBFF]$/, '');
}

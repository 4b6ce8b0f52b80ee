/** Which dead letters are meant: all of them, or those for which everything that is named is true. */
import { type DeadLetter, type DeadLetterReason, isNamed } from './dead-letter.ts';

export interface LetterFilter {
  /** Any of these ids: of the event, of the message, or the fingerprint. */
  readonly ids?: readonly string[];
  readonly entityType?: string;
  readonly entityId?: string;
  /** Type of the event. */
  readonly type?: string;
  readonly reason?: DeadLetterReason;
  readonly shard?: number;
  /** Dead-lettered then or later, in milliseconds since 1970. What has no time is not meant. */
  readonly sinceMs?: number;
}

export function isMeant(letter: DeadLetter, filter: LetterFilter): boolean {
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

/**
 * What the store does for operators, beside what workers need: it knows that dead letters are being replayed, how often
 * each was, and who changed what. Versions are set by `Store.commit`, which fences an operator as it does a worker.
 */
import type { EntityRef } from '../events/event.ts';
import type { Replaying } from '../ordering/entity-rules.ts';
import type { DeadLetterQuery, LoadResult, StreamState } from './store.ts';

export const auditActions = ['replay', 'discard', 'skip-sequence', 'resync', 'import', 'rebuild', 'recover', 'resume'] as const;
export type AuditAction = (typeof auditActions)[number];

/** One change that somebody made to data. */
export interface AuditEntry {
  readonly action: AuditAction;
  /** Who: `user@host` of a command, `console` and an address, or `worker` where nobody asked. */
  readonly who: string;
  /** Null where it did not concern one entity. */
  readonly entityType: string | null;
  readonly entityId: string | null;
  /** What was done, in a sentence. */
  readonly what: string;
  /** Why, in the words of whoever did it; the empty string where nobody was asked. */
  readonly reason: string;
}

export interface AuditRecord extends AuditEntry {
  /** ISO 8601, the store's clock. */
  readonly at: string;
}

/** Beyond it the oldest go. */
export const maxAuditRecords = 100_000;

export interface EntityReplaying extends EntityRef, Replaying {}

export interface OperatorStore {
  /**
   * The dead letters of these entities are about to be replayed, or that goes on: what arrives for them is held for `leaseMs`,
   * and beyond that until the version has reached `replayedTo`, for copies that were published come, however long the queue
   * is before them and whatever has become of who published them (a day at most, should they have been purged). Ends earlier when the entity
   * is parked no more, or parked again. Answers what is known of each; one that is not parked is left as it is.
   */
  beginReplay(replays: readonly EntityReplaying[], leaseMs: number): Promise<readonly LoadResult[]>;
  /** Counts a replay of each of these messages. */
  noteReplays(messages: readonly DeadLetterQuery[]): Promise<void>;
  /** Ends every halt: the store counts as right as it is. It gets an identity where it has none; later epochs are above `epoch`. */
  resume(epoch: number): Promise<StreamState>;
  appendAudit(entries: readonly AuditEntry[]): Promise<void>;
  /** The latest first, in bounded memory. */
  readAudit(): AsyncIterable<AuditRecord>;
}

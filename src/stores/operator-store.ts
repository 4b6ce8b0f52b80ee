/**
 * The store's interface for operators, beside what workers need: the state of replays, how often each letter was replayed, and
 * the audit trail. Versions are set with `Store.commit`, which fences operators and workers alike.
 */
import { entityFields, type EntityRef } from '../events/event.ts';
import type { Replaying } from '../ordering/entity-rules.ts';
import type { DeadLetterQuery, LoadResult, StreamState } from './store.ts';

export const auditActions = ['replay', 'discard', 'skip-sequence', 'resync', 'import', 'rebuild', 'recover', 'resume'] as const;
export type AuditAction = (typeof auditActions)[number];

/** One change that somebody made to data. */
export interface AuditEntry {
  readonly action: AuditAction;
  /** `user@host` of a command, `console` and an address, or `worker` for an automatic change. */
  readonly who: string;
  /** Null if it did not concern a single entity. */
  readonly entityType: string | null;
  readonly entityId: string | null;
  /** What was done, in a sentence. */
  readonly what: string;
  /** The operator's reason; the empty string if none was asked for. */
  readonly reason: string;
}

export interface AuditRecord extends AuditEntry {
  /** ISO 8601, the store's clock. */
  readonly at: string;
}

/** In the spelling of JSON. */
export function auditFields({ at, who, action, what, reason, ...entity }: AuditRecord): object {
  return { at, who, action, ...entityFields(entity), what, reason };
}

/** Beyond this number the oldest are removed. */
export const maxAuditRecords = 100_000;

export interface EntityReplaying extends EntityRef, Replaying {}

export interface OperatorStore {
  /**
   * Announces that the dead letters of these entities are being replayed, or still are. Their events are held for `leaseMs`, and
   * then until the version has reached `replayedTo`, because published copies do arrive, however long the queue and even if
   * their publisher has died (but at most for a day, in case they were purged). This ends earlier when the entity's parking ends
   * or it is parked again. Returns a snapshot of each; an entity that is not parked is not changed.
   */
  beginReplay(replays: readonly EntityReplaying[], leaseMs: number): Promise<readonly LoadResult[]>;
  /** Records a replay of each message. */
  noteReplays(messages: readonly DeadLetterQuery[]): Promise<void>;
  /** Ends every halt: the store is accepted as it is. It gets an identity if it has none; later epochs are above `epoch`. */
  resume(epoch: number): Promise<StreamState>;
  appendAudit(entries: readonly AuditEntry[]): Promise<void>;
  /** The audit trail, the latest entry first, in bounded memory. */
  readAudit(): AsyncIterable<AuditRecord>;
}

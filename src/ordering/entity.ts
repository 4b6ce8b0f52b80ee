/**
 * One entity as the store keeps it and the sequencer knows it: its version and state, why it is parked, and the questions and answers
 * of the store. `entity-rules.ts` decides the answers; the sequencer decides what they mean for the deliveries.
 */
import type { EntityRef } from '../events/event.ts';
import type { RejectionReason } from '../events/reasons.ts';

export type InitialVersion = 0 | -1;

/** Why an entity is parked. */
export interface Parked {
  readonly reason: RejectionReason;
  readonly detail: string;
  /** The sequence that was dead-lettered first. */
  readonly sequence: number;
  /** ISO 8601, the store's clock. */
  readonly at: string;
  /** Its dead letters are being replayed: what arrives early is held until they have come, and does not follow them. */
  readonly replaying: boolean;
}

/** What is known of one entity. */
export interface Snapshot {
  /** False when nothing of the entity was committed. `version` is then `initialVersion`. */
  readonly exists: boolean;
  readonly version: number;
  /** The serialised state, or null before the first applied event. */
  readonly state: string | null;
  /** What the version does not say, serialised by `ordering/holes.ts`; mostly the empty string. */
  readonly holes: string;
  readonly parked: Parked | null;
}

/** One event of a commit. */
export interface CommitEvent {
  readonly id: string;
  /** False for an event without an id of its own whose sequence identifies it: no id record is kept. */
  readonly recordId: boolean;
  /** The sequence under which it is recorded. */
  readonly sequence: number;
  readonly payloadHash: string;
  /** What its handler returned, serialised; null when nothing is to be remembered. */
  readonly result: string | null;
  /** True when the slot has no effect (its id is known already, or it is skipped): its id is neither checked nor recorded. */
  readonly consumed: boolean;
  /** What the entity's log keeps of it (`appliedText`). Absent: nothing. */
  readonly log?: string | undefined;
}

export interface Commit extends EntityRef {
  /**
   * Unique per commit, even where an epoch was given out twice: `<epoch>:<session>:<number>`. The same token means the same commit,
   * sent again.
   */
  readonly token: string;
  readonly expectedVersion: number;
  readonly expectedHoles: string;
  /** May equal `expectedVersion` when the commit closes a hole. */
  readonly newVersion: number;
  readonly newHoles: string;
  /** The state after the commit; null leaves the stored one as it is. */
  readonly state: string | null;
  readonly events: readonly CommitEvent[];
}

/** An event of a commit whose id is already recorded under another sequence. */
export interface IdConflict {
  /** Index into `Commit.events`. */
  readonly index: number;
  /** The sequence under which the id was applied. */
  readonly recordedSequence: number;
  /** True when the remembered payload is the same. */
  readonly samePayload: boolean;
}

export type CommitResult =
  | {
      readonly status: 'ok';
      readonly parked: Parked | null;
      /** It was parked, and this commit has ended that. */
      readonly unparked: boolean;
    }
  /** This very commit had gone through before. */
  | { readonly status: 'duplicate'; readonly parked: Parked | null }
  /** Version or holes are not what was expected; nothing was written. */
  | { readonly status: 'stale'; readonly snapshot: Snapshot }
  /** Ids are known under other sequences; nothing was written. */
  | { readonly status: 'conflict'; readonly conflicts: readonly IdConflict[] }
  /** This entity's keys cannot be used (wrong type under our key): only this entity waits. */
  | { readonly status: 'failed'; readonly error: Error };

/** Who decides about an entity: one life of a shard's channel. */
export interface Owner {
  readonly shard: number;
  readonly epoch: number;
  /** Random. The store may lose its count and give an epoch out twice; of two sessions of one epoch the last to claim an entity owns it. */
  readonly session: string;
}

/** Opens a gap: remembers who owns the entity, and reads it. */
export interface Claim extends EntityRef, Owner {}

export type ClaimResult =
  | { readonly status: 'ok'; readonly snapshot: Snapshot }
  /** A later epoch of the same shard has claimed it: the caller no longer owns it. A park also checks the session. */
  | { readonly status: 'fenced' }
  | { readonly status: 'failed'; readonly error: Error };

/** Parks an entity: one of its events is about to be dead-lettered, and those behind it must follow it there. */
export interface Park extends EntityRef, Owner {
  /** The park is refused as `stale` when the version has moved meanwhile. */
  readonly expectedVersion: number;
  readonly reason: RejectionReason;
  readonly detail: string;
  /** What is dead-lettered first. The entity stays parked at least until its version has passed it. */
  readonly sequence: number;
}

export type ParkResult =
  /** Parked now or before. The earlier reason stays, unless its dead letters were being replayed: that replay is over. */
  | {
      readonly status: 'ok';
      readonly parked: Parked;
      /** False when it was parked already. */
      readonly isNew: boolean;
    }
  | { readonly status: 'stale'; readonly snapshot: Snapshot }
  | { readonly status: 'fenced' }
  | { readonly status: 'failed'; readonly error: Error };

/** Asks what is remembered of an event at or below the version. */
export interface LookupQuery extends EntityRef {
  /** Null: ask by id (an unsequenced event). */
  readonly sequence: number | null;
  readonly id: string;
}

export type LookupResult =
  /** `sequence` is the one under which it is recorded. */
  | { readonly status: 'known'; readonly sequence: number; readonly payloadHash: string; readonly result: string | null }
  /** Forgotten (older than IDEMPOTENCY_TTL_SECONDS) or never recorded. */
  | { readonly status: 'unknown' }
  /** The version has not reached this sequence: the caller has a wrong version. */
  | { readonly status: 'above' }
  | { readonly status: 'failed'; readonly error: Error };

/** The record of one dead letter, written before the reject because a reject carries no reason. */
export interface DeadLetterRecord {
  /** Computed from the message alone: with it `dead-letters list` finds the record. */
  readonly fingerprint: string;
  readonly id: string | null;
  readonly entityType: string | null;
  readonly entityId: string | null;
  readonly sequence: number | null;
  readonly type: string | null;
  readonly reason: RejectionReason;
  /** At most 1,024 characters are kept. */
  readonly detail: string;
  /** Of `handler_failed`: where in the processor it came from; at most 4,096 characters are kept. */
  readonly stack?: string;
  readonly shard: number;
  /** ISO 8601, the worker's clock. */
  readonly deadLetteredAt: string;
}

/** The sequence was taken by a repetition of this id, which was applied under that sequence. */
export interface Absorbed {
  readonly id: string;
  readonly sequence: number;
}

/** Begins what is remembered in the place of a result where nothing was applied. A handler's result is JSON, and never begins so. */
const absorbedMark = 'absorbed ';

export function absorbedText(absorbed: Absorbed): string {
  return absorbedMark + JSON.stringify(absorbed);
}

export function absorbedIn(result: string | null): Absorbed | null {
  return result?.startsWith(absorbedMark) ? (JSON.parse(result.slice(absorbedMark.length)) as Absorbed) : null;
}

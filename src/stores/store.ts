/**
 * The store as the worker sees it: versioned aggregate state, idempotency records and the reasons of dead
 * letters, per entity. One conformance suite (test/conformance) runs against every implementation.
 *
 * Guarantees asked of an implementation:
 * - `commit` is one atomic step per entity: all of it or nothing, and fenced by version and holes. The same
 *   commit (same token) again answers `duplicate`, also after its reply was lost, as long as version and holes are what it
 *   leaves; the token alone proves nothing.
 * - Every method takes a batch and answers in the order of the batch, in one round trip. An item that fails
 *   alone answers `failed`; the call itself rejects with `UnavailableError` only when nothing can be said about
 *   any item. "Unknown" is never reported as done: the caller asks again with the same token.
 * - A parked entity stays parked until its version passes every one of its dead letters that are of its sequence
 *   (`rejectionReasons`): the commit that passes the last of them ends the parking.
 * - State, results and holes are opaque: they come back byte for byte.
 */
import type { EntityRef } from '../events/event.ts';
import type { RejectionReason } from '../events/reasons.ts';
import type { Finding } from '../finding.ts';
import type { OperatorStore } from './operator-store.ts';

/** Why an entity is parked. */
export interface Parked {
  readonly reason: RejectionReason;
  readonly detail: string;
  /** The sequence that was dead-lettered first. */
  readonly sequence: number;
  /** ISO 8601, the store's clock. */
  readonly at: string;
  /** Its dead letters are being replayed: what arrives is held until they have come, rather than made to follow them. */
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
  /** What the entity's log keeps of it (`events/applied-event.ts`). Absent: nothing. */
  readonly log?: string | undefined;
}

export interface Commit extends EntityRef {
  /** Unique per commit, also where an epoch is handed out twice: `<epoch>:<session>:<number>`. The same token means the same commit, sent again. */
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

export type LoadResult =
  | { readonly status: 'ok'; readonly snapshot: Snapshot }
  | { readonly status: 'failed'; readonly error: Error };

/** Who decides about an entity: one life of a shard's channel. */
export interface Owner {
  readonly shard: number;
  readonly epoch: number;
  /** Random. Tells apart those who were given the same epoch because the store lost its count: of them the last to claim an entity owns it. */
  readonly session: string;
}

/** Opens a gap: remembers who owns the entity, and reads it. */
export interface Claim extends EntityRef, Owner {}

export type ClaimResult =
  | { readonly status: 'ok'; readonly snapshot: Snapshot }
  /** A later epoch of the same shard has claimed it: the caller is no longer the owner. A park is refused to another session of the same epoch as well. */
  | { readonly status: 'fenced' }
  | { readonly status: 'failed'; readonly error: Error };

/** Parks an entity: of it something is about to be dead-lettered, and what follows must follow there. */
export interface Park extends EntityRef, Owner {
  /** The park is refused as `stale` when the version has moved meanwhile. */
  readonly expectedVersion: number;
  readonly reason: RejectionReason;
  readonly detail: string;
  /** What is dead-lettered first. The entity stays parked at least until its version has passed it. */
  readonly sequence: number;
}

export type ParkResult =
  /** Parked now, or already parked: then the earlier reason stays, but for one from before a replay. That ends the replay. */
  | {
      readonly status: 'ok';
      readonly parked: Parked;
      /** False when it was parked already. */
      readonly isNew: boolean;
    }
  | { readonly status: 'stale'; readonly snapshot: Snapshot }
  | { readonly status: 'fenced' }
  | { readonly status: 'failed'; readonly error: Error };

/** Asks what is remembered of an event at or below the version, and of nothing else. */
export interface RecallQuery extends EntityRef {
  /** Null: ask by id (an unsequenced event). */
  readonly sequence: number | null;
  readonly id: string;
}

export type RecallResult =
  /** `sequence` is the one under which it is recorded. */
  | { readonly status: 'known'; readonly sequence: number; readonly payloadHash: string; readonly result: string | null }
  /** Forgotten (older than IDEMPOTENCY_TTL_SECONDS) or never recorded. */
  | { readonly status: 'unknown' }
  /** The version has not reached this sequence: whoever asks knows another version than there is. */
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

/** What is remembered of a message that was dead-lettered. */
export interface DeadLetterHistory {
  /** Why it was dead-lettered the last time; null where that is not known any more. */
  readonly record: DeadLetterRecord | null;
  /** When it was replayed: ISO 8601, the store's clock, the last time first; at most `maxRememberedReplays`. */
  readonly replayedAt: readonly string[];
}

export interface DeadLetterQuery {
  readonly fingerprint: string;
  readonly entityType: string | null;
  readonly entityId: string | null;
}

export interface EntitySummary extends EntityRef {
  readonly version: number;
  readonly parked: Parked | null;
}

/** A shard must not go on, for the store lost what was acknowledged. Only an operator ends it (`OperatorStore.resume`). */
export interface Halt {
  /** Null: every shard of the stream. */
  readonly shard: number | null;
  /** What was noticed, in a sentence. */
  readonly detail: string;
  /** ISO 8601, the clock of whoever noticed it. */
  readonly at: string;
}

/** Which store this is, and where it stands. */
export interface Standing {
  /** Random, made once for the stream. Null where there is none: the store is empty, or was filled by a version that made none. */
  readonly identity: string | null;
  /** The highest epoch that was ever handed out; lower than one that is known means that the store went backwards. */
  readonly epoch: number;
  readonly halts: readonly Halt[];
}

export type EpochResult =
  /** Greater than every one before it, for all shards and workers. `identity` is the one of `Standing`. */
  | { readonly status: 'ok'; readonly epoch: number; readonly identity: string | null }
  /** The shard must not go on. */
  | { readonly status: 'halted'; readonly halt: Halt };

export interface Store {
  /** What only operators ask for. */
  readonly operator: OperatorStore;
  load(entities: readonly EntityRef[]): Promise<readonly LoadResult[]>;
  commit(commits: readonly Commit[]): Promise<readonly CommitResult[]>;
  claim(claims: readonly Claim[]): Promise<readonly ClaimResult[]>;
  park(parks: readonly Park[]): Promise<readonly ParkResult[]>;
  recall(queries: readonly RecallQuery[]): Promise<readonly RecallResult[]>;
  /** What commits have put into the entity's log, in the order in which it was applied, byte for byte, in bounded memory. */
  readLog(entity: EntityRef): AsyncIterable<string>;
  /** Kept for 30 days, the replays before it with it. Rejects as a whole when any could not be written. */
  recordDeadLetters(records: readonly DeadLetterRecord[]): Promise<void>;
  findDeadLetters(queries: readonly DeadLetterQuery[]): Promise<readonly (DeadLetterHistory | null)[]>;
  /** Begins a session of the shard, unless it is halted: both are one step, so that no session begins without having looked. */
  nextEpoch(shard: number): Promise<EpochResult>;
  standing(): Promise<Standing>;
  /** Makes the identity where there is none, and answers the one that is there. */
  identify(): Promise<string>;
  /** Puts a halt on record, before any later session of the shard begins. Of several for the same shard the first stays. */
  halt(halt: Halt): Promise<void>;
  /** All entities of the stream, in no order, in bounded memory. */
  listEntities(filter: { readonly entityType?: string }): AsyncIterable<EntitySummary>;
  /** Version, eviction policy, persistence, role: what an operator must know before relying on it. */
  inspect(): Promise<readonly Finding[]>;
  /** Resolves when the store can be asked; rejects with `UnavailableError`. */
  ping(): Promise<void>;
  close(): Promise<void>;
}

/** What every implementation is told. */
export interface StoreOptions {
  /** Name of the stream: every key starts with it. */
  readonly stream: string;
  /** How long the id, the hash and the result of an event are remembered after its commit, in seconds. */
  readonly idempotencyTtlSeconds: number;
  /**
   * The version of an entity of which nothing was committed, one below the first sequence: -1 in a stream that counts from 0. Default 0.
   * The same for as long as there is the stream.
   */
  readonly initialVersion?: InitialVersion;
}

export type InitialVersion = 0 | -1;

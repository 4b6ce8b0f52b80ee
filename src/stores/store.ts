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
import type { Finding } from '../finding.ts';
import type {
  Claim,
  ClaimResult,
  Commit,
  CommitResult,
  DeadLetterRecord,
  InitialVersion,
  Park,
  Parked,
  ParkResult,
  LookupQuery,
  LookupResult,
  Snapshot,
} from '../ordering/entity.ts';
import type { Time } from '../time.ts';
import type { OperatorStore } from './operator-store.ts';

export type {
  Claim,
  ClaimResult,
  Commit,
  CommitEvent,
  CommitResult,
  DeadLetterRecord,
  IdConflict,
  InitialVersion,
  Owner,
  Park,
  Parked,
  ParkResult,
  LookupQuery,
  LookupResult,
  Snapshot,
} from '../ordering/entity.ts';

export type LoadResult = { readonly status: 'ok'; readonly snapshot: Snapshot } | { readonly status: 'failed'; readonly error: Error };

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
export interface StreamState {
  /** Random, made once for the stream. Null where there is none: the store is empty, or was filled by a version that made none. */
  readonly identity: string | null;
  /** The highest epoch that was ever handed out; lower than one that is known means that the store went backwards. */
  readonly epoch: number;
  readonly halts: readonly Halt[];
}

export type EpochResult =
  /** Greater than every one before it, for all shards and workers. `identity` is the one of `StreamState`. */
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
  lookUp(queries: readonly LookupQuery[]): Promise<readonly LookupResult[]>;
  /** What commits have put into the entity's log, in the order in which it was applied, byte for byte, in bounded memory. */
  readLog(entity: EntityRef): AsyncIterable<string>;
  /** Kept for 30 days, the replays before it with it. Rejects as a whole when any could not be written. */
  recordDeadLetters(records: readonly DeadLetterRecord[]): Promise<void>;
  findDeadLetters(queries: readonly DeadLetterQuery[]): Promise<readonly (DeadLetterHistory | null)[]>;
  /** Begins a session of the shard, unless it is halted: both are one step, so that no session begins without having looked. */
  nextEpoch(shard: number): Promise<EpochResult>;
  streamState(): Promise<StreamState>;
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
  /** Default: that of the computer. */
  readonly time?: Time;
}

/**
 * The store's interface for a worker: per entity the versioned state, idempotency records, and the reasons of dead
 * letters. One conformance suite (test/conformance) runs against every implementation.
 *
 * Every implementation guarantees:
 * - `commit` is one atomic step per entity: all or nothing, fenced by version and holes. The same commit (same token)
 *   again returns `duplicate`, also after a lost reply, as long as version and holes are those that it leaves; the token alone
 *   proves nothing.
 * - Every method takes a batch and answers in the order of the batch, in one round trip. An item that fails
 *   by itself returns `failed`; the call rejects with `UnavailableError` only when the outcome of every item is
 *   unknown. An unknown outcome is never reported as done: the caller asks again with the same token.
 * - A parked entity stays parked until its version passes all its dead letters that wait in sequence
 *   (`rejectionReasons`): the commit that passes the last of them ends the parking.
 * - State, results and holes are opaque: they are returned byte for byte.
 *
 * `lookForHalts` says whether the shards of a stream must stand still, by what store and broker have on record.
 *
 * Operators are given more (`OperatorStore`): the state of replays, how often each letter was replayed, and the audit trail. Versions are
 * set with `Store.commit`, which fences operators and workers alike.
 */
import { UnavailableError } from '../errors.ts';
import { type EntityRef, entityFields } from '../events/event.ts';
import type { Finding } from '../finding.ts';
import type { Replaying } from '../ordering/entity-rules.ts';
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
import { type Time, isoNow } from '../time.ts';
import type { StreamLayout, StreamShape } from './layout.ts';

export type LoadResult = { readonly status: 'ok'; readonly snapshot: Snapshot } | { readonly status: 'failed'; readonly error: Error };

/** What the store remembers of a dead letter. */
export interface DeadLetterHistory {
  /** Why it was last dead-lettered; null if that is no longer known. */
  readonly record: DeadLetterRecord | null;
  /** Times of its replays: ISO 8601, the store's clock, the latest first; at most `maxRememberedReplays`. */
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

/** A shard is halted because the store lost acknowledged commits. Only an operator ends it (`OperatorStore.resume`). */
export interface Halt {
  /** Null: every shard of the stream. */
  readonly shard: number | null;
  /** The cause, in a sentence. */
  readonly detail: string;
  /** ISO 8601, by the clock of the process that noticed it. */
  readonly at: string;
}

/** What a store knows of its stream: its own identity, the last epoch, the halts, and the layout. */
export interface StreamState {
  /** Random, made once for the stream. Null if there is none: the store is empty, or was filled by a version that made none. */
  readonly identity: string | null;
  /** The highest epoch handed out so far. If it is lower than a known epoch, the store went backwards. */
  readonly epoch: number;
  readonly halts: readonly Halt[];
  /** Null if none is on record: the store is empty, or was filled by a version that kept no record. */
  readonly layout: StreamLayout | null;
}

export type EpochResult =
  /**
   * `epoch` is greater than every earlier one of any shard or worker. `identity` as in `StreamState`. `unfinished` is the last note of the
   * shard's previous session, empty if it wrote none; null if it took its leave, or there was none.
   */
  | { readonly status: 'ok'; readonly epoch: number; readonly identity: string | null; readonly unfinished: string | null }
  /** The shard is halted: no session begins. */
  | { readonly status: 'halted'; readonly halt: Halt };

export interface Store {
  /** What only operators use. */
  readonly operator: OperatorStore;
  load(entities: readonly EntityRef[]): Promise<readonly LoadResult[]>;
  commit(commits: readonly Commit[]): Promise<readonly CommitResult[]>;
  claim(claims: readonly Claim[]): Promise<readonly ClaimResult[]>;
  park(parks: readonly Park[]): Promise<readonly ParkResult[]>;
  lookUp(queries: readonly LookupQuery[]): Promise<readonly LookupResult[]>;
  /** The entity's log of applied events, in the order of application, byte for byte, in bounded memory. */
  readLog(entity: EntityRef): AsyncIterable<string>;
  /** Records are kept for 30 days, together with earlier replays. Rejects if any could not be written. */
  recordDeadLetters(records: readonly DeadLetterRecord[]): Promise<void>;
  findDeadLetters(queries: readonly DeadLetterQuery[]): Promise<readonly (DeadLetterHistory | null)[]>;
  /** Begins a session of the shard unless it is halted. One step, so that no session begins without the check. */
  nextEpoch(shard: number): Promise<EpochResult>;
  /**
   * Keeps the note of a session for the next one of its shard (`unfinished`), in the place of an earlier note; null is its leave. No
   * effect once a later session has begun.
   */
  noteSession(shard: number, epoch: number, note: string | null): Promise<void>;
  /**
   * With `durable` it answers once everything that the answer shows is kept as DURABILITY asks; a store without such a setting ignores it.
   * An epoch that a fail-over may still take back was given to nobody, and a former master stands at an old one. Default false, for those
   * who only show it.
   *
   * @throws ConfigError when a newer version of Inorder has laid the stream out in a way that this one does not know.
   * @throws UnavailableError with `durable` also while it is unknown whether it is kept.
   */
  streamState(options?: { readonly durable?: boolean }): Promise<StreamState>;
  /** Returns the identity; makes it first if there is none. */
  identify(): Promise<string>;
  /**
   * Records the layout of this version, with the shape, unless there is a record; returns what is on record.
   * @throws ConfigError as `streamState` does.
   */
  recordLayout(shape: StreamShape): Promise<StreamLayout>;
  /** Records a halt, before any later session of the shard can begin. Of several for the same shard the first stays. */
  halt(halt: Halt): Promise<void>;
  /**
   * All entities of the stream, in no order, in bounded memory. Entities whose record cannot be read are left out; `load` names
   * the cause.
   */
  listEntities(filter: { readonly entityType?: string }): AsyncIterable<EntitySummary>;
  /** Version, eviction policy, persistence, role: what an operator should know before relying on the store. */
  inspect(): Promise<readonly Finding[]>;
  /** Resolves when the store answers; rejects with `UnavailableError`. */
  ping(): Promise<void>;
  /** Resolves when the store has taken a write, which changes nothing; rejects with `UnavailableError`, also where it only reads. */
  tryWrite(): Promise<void>;
  close(): Promise<void>;
}

/** Options of every implementation. */
export interface StoreOptions {
  /** Name of the stream; part of every key. */
  readonly stream: string;
  /** How long the id, the hash and the result of an event are remembered after its commit, in seconds. */
  readonly idempotencyTtlSeconds: number;
  /**
   * The version of an entity without commits, one below the first sequence: -1 in a stream that counts from 0. Default 0.
   * It must not change during the life of the stream.
   */
  readonly initialVersion?: InitialVersion;
  /** Default: the system's clock. */
  readonly time?: Time;
}

/** Reads page after page: `read` is given how much a page may have, and the last row of the page before. At most `limit` rows. */
export async function* inPages<Row>(
  read: (size: number, last: Row | undefined) => Promise<unknown>,
  limit = Number.POSITIVE_INFINITY,
): AsyncGenerator<Row, void, void> {
  let last: Row | undefined;
  for (let left = limit; left > 0; ) {
    const size = Math.min(batchSize, left);
    const rows = (await read(size, last)) as readonly Row[];
    yield* rows;
    if (rows.length < size) return;
    last = rows.at(-1);
    left -= size;
  }
}

const batchSize = 500;

/** The elements of a source, so many together. */
export async function* batched<T>(source: AsyncIterable<T>, size: number): AsyncGenerator<readonly T[], void, void> {
  let batch: T[] = [];
  for await (const element of source) {
    batch.push(element);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

/** @throws UnavailableError when it cannot be read. */
export async function readSnapshot(store: Pick<Store, 'load'>, entity: EntityRef): Promise<Snapshot> {
  const [snapshot] = await snapshotsOf(store, [entity]);
  return snapshot!;
}

/** @throws UnavailableError when any of them cannot be read. */
export async function snapshotsOf(store: Pick<Store, 'load'>, entities: readonly EntityRef[]): Promise<readonly Snapshot[]> {
  const snapshots: Snapshot[] = [];
  for (let at = 0; at < entities.length; at += batchSize) {
    for (const result of await store.load(entities.slice(at, at + batchSize))) {
      if (result.status === 'failed') throw new UnavailableError(result.error.message, { cause: result.error });
      snapshots.push(result.snapshot);
    }
  }
  return snapshots;
}

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
export function auditFields({ at, who, action, what, reason, ...entity }: AuditRecord) {
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
  /**
   * Replaces the record of the layout, in one step, if it is still `from`, or makes it if there is none; otherwise nothing changes. Returns
   * what is then on record. `from` null: there was none.
   * @throws ConfigError as `streamState` does.
   */
  changeShape(shape: StreamShape, from: StreamLayout | null): Promise<StreamLayout>;
  appendAudit(entries: readonly AuditEntry[]): Promise<void>;
  /** The audit trail, the latest entry first, in bounded memory. */
  readAudit(): AsyncIterable<AuditRecord>;
}

/** The broker's record of the store; `rabbitmq/stream-record.ts` explains each field. */
export interface KnownStore {
  readonly isOlder: boolean;
  readonly identity: string | null;
  readonly epoch: number;
  readonly halts: readonly Halt[];
}

export interface Outlook {
  readonly state: StreamState;
  /** Empty: no shard is halted. */
  readonly halts: readonly Halt[];
}

type Reading = Pick<Store, 'streamState' | 'listEntities'>;

/**
 * Whether the shards of a stream are halted: the halts recorded in the store and at the broker, and the one that follows from
 * comparing the two. A starting worker and the commands use the same check. `known` is null if the broker keeps no record.
 *
 * @throws UnavailableError
 */
export async function lookForHalts(store: Reading, known: KnownStore | null, time: Time): Promise<Outlook> {
  const state = await store.streamState();
  const recorded = [...state.halts, ...(known?.halts ?? []).filter(({ shard }) => !state.halts.some((halt) => halt.shard === shard))];
  // The recorded cause says more than its consequence.
  if (known === null || recorded.some(({ shard }) => shard === null)) return { state, halts: recorded };
  const detail = await whyNotThisStore(store, state, known);
  const mismatch = detail === null ? [] : [{ shard: null, detail, at: isoNow(time) }];
  return { state, halts: [...recorded, ...mismatch] };
}

async function whyNotThisStore(
  store: Pick<Store, 'listEntities'>,
  { identity, epoch }: StreamState,
  known: KnownStore,
): Promise<string | null> {
  const isUnused = identity === null && epoch === 0;
  if (known.identity === null) {
    if (!known.isOlder || !isUnused || !(await isEmpty(store))) return null;
    return 'the store knows nothing of this stream, which was there before';
  }
  const had = `the stream has had a store that gave out epoch ${known.epoch}`;
  if (isUnused) return `${had}, and this one knows nothing of it`;
  if (identity !== known.identity) return `${had}, and this is another one`;
  return epoch < known.epoch ? `${had}, and this one stands at ${epoch}: it is an older copy` : null;
}

/** Entities may have been imported before any worker began. */
async function isEmpty(store: Pick<Store, 'listEntities'>): Promise<boolean> {
  for await (const _entity of store.listEntities({})) return false;
  return true;
}

/** The halt as a message for operators. */
export function haltText({ shard, detail }: Halt): string {
  return `${shard === null ? 'every shard' : `shard ${shard}`} is halted, for the store went backwards: ${detail}`;
}

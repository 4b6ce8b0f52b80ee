/**
 * What a commit, a claim, a park and a replay do to one entity: the rules of `store.ts`, for stores that have the entity in memory
 * while they decide (the memory store always, PostgreSQL in a transaction, under the row's lock). The Redis store has the same
 * rules in its scripts; the conformance suite compares them.
 *
 * Each function changes nothing but the entity that it is given, and that only if the answer says that something was written.
 */
import { rejectionReasons } from '../events/reasons.ts';
import type {
  Claim,
  ClaimResult,
  Commit,
  CommitResult,
  DeadLetterRecord,
  IdConflict,
  InitialVersion,
  Park,
  Parked,
  ParkResult,
  Snapshot,
} from './entity.ts';

export interface StoredEntity {
  /** Null until the first commit: it is then at `initialVersion`. */
  version: number | null;
  readonly initialVersion: InitialVersion;
  holes: string;
  state: string | null;
  parked: Omit<Parked, 'replaying'> | null;
  /** The highest sequence among its dead letters, while it is parked. */
  awaited: number;
  /** Until when the lease of a replay lasts, in milliseconds since 1970; 0 where there is none. */
  replayUntilMs: number;
  /** The highest sequence of which that replay has published a copy. */
  replayedTo: number;
  /** Of the last commit. */
  token: string | null;
  /** By shard: the highest epoch that has claimed it, and the last session that did so with it. */
  readonly owners: Map<number, { readonly epoch: number; readonly session: string }>;
}

/** What is remembered of an id until it expires. */
export interface IdRecord {
  readonly sequence: number;
  readonly payloadHash: string;
}

export function unknownEntity(initialVersion: InitialVersion): StoredEntity {
  return {
    version: null,
    initialVersion,
    holes: '',
    state: null,
    parked: null,
    awaited: 0,
    replayUntilMs: 0,
    replayedTo: 0,
    token: null,
    owners: new Map(),
  };
}

export function versionOf({ version, initialVersion }: Pick<StoredEntity, 'version' | 'initialVersion'>): number {
  return version ?? initialVersion;
}

export function snapshotOf(entity: StoredEntity, nowMs: number): Snapshot {
  const { version, state, holes } = entity;
  return { exists: version !== null, version: versionOf(entity), state, holes, parked: parkedOf(entity, nowMs) };
}

export function parkedOf(entity: StoredEntity, nowMs: number): Parked | null {
  return entity.parked === null ? null : { ...entity.parked, replaying: isReplaying(entity, nowMs) };
}

/** How much longer than its lease a replay lasts while copies that it published have not come: longer than they wait in any queue. */
const maxCopyWaitMs = 24 * 60 * 60 * 1_000;

/** Whether dead letters of a parked entity are being replayed. `nowMs` is by the store's clock, which has set the lease. */
export function isReplaying(
  entity: Pick<StoredEntity, 'version' | 'initialVersion' | 'replayUntilMs' | 'replayedTo'>,
  nowMs: number,
): boolean {
  const { replayUntilMs, replayedTo } = entity;
  return nowMs < replayUntilMs || (replayedTo > versionOf(entity) && nowMs < replayUntilMs + maxCopyWaitMs);
}

/** `idRecord` gives what is remembered of an id of this entity and has not expired. */
export function decideCommit(
  entity: StoredEntity,
  commit: Commit,
  idRecord: (id: string) => IdRecord | undefined,
  nowMs: number,
): CommitResult {
  if (entity.token === commit.token && versionOf(entity) === commit.newVersion && entity.holes === commit.newHoles)
    return { status: 'duplicate', parked: parkedOf(entity, nowMs) };
  if (versionOf(entity) !== commit.expectedVersion || entity.holes !== commit.expectedHoles) {
    return { status: 'stale', snapshot: snapshotOf(entity, nowMs) };
  }
  const conflicts = conflictsOf(commit, idRecord);
  if (conflicts.length > 0) return { status: 'conflict', conflicts };
  entity.version = commit.newVersion;
  entity.holes = commit.newHoles;
  entity.token = commit.token;
  if (commit.state !== null) entity.state = commit.state;
  const unparked = entity.parked !== null && entity.awaited <= commit.newVersion;
  if (unparked) {
    entity.parked = null;
    entity.awaited = 0;
    entity.replayUntilMs = entity.replayedTo = 0;
  }
  return { status: 'ok', parked: parkedOf(entity, nowMs), unparked };
}

export function decideClaim(entity: StoredEntity, { shard, epoch, session }: Claim, nowMs: number): ClaimResult {
  if ((entity.owners.get(shard)?.epoch ?? 0) > epoch) return { status: 'fenced' };
  entity.owners.set(shard, { epoch, session });
  return { status: 'ok', snapshot: snapshotOf(entity, nowMs) };
}

export function decidePark(entity: StoredEntity, park: Park, nowMs: number): ParkResult {
  const { shard, epoch, session, expectedVersion, reason, detail, sequence } = park;
  const owner = entity.owners.get(shard);
  if (owner !== undefined && (owner.epoch > epoch || (owner.epoch === epoch && owner.session !== session))) return { status: 'fenced' };
  if (versionOf(entity) !== expectedVersion) return { status: 'stale', snapshot: snapshotOf(entity, nowMs) };
  const isNew = entity.parked === null;
  // The first reason stays, unless a replay was under way: that ends here.
  if (entity.parked === null || entity.replayUntilMs > 0) {
    entity.parked = { reason, detail, sequence, at: new Date(nowMs).toISOString() };
  }
  entity.replayUntilMs = entity.replayedTo = 0;
  entity.awaited = Math.max(entity.awaited, sequence);
  entity.owners.set(shard, { epoch, session });
  return { status: 'ok', parked: { ...entity.parked, replaying: false }, isNew };
}

/** How far the replay of an entity is. */
export interface Replaying {
  /** `at` of the parking that it is to end; a later parking is left as it is. Default: any. */
  readonly parkedAt?: string | undefined;
  /** The highest sequence of which a copy was published. Default: none yet. */
  readonly replayedTo?: number | undefined;
}

/** Changes nothing where the entity is not parked, or was parked again since. */
export function beginReplay(
  entity: StoredEntity,
  { parkedAt, replayedTo = entity.initialVersion }: Replaying,
  leaseMs: number,
  nowMs: number,
): void {
  if (entity.parked === null || (parkedAt !== undefined && parkedAt !== entity.parked.at)) return;
  entity.replayedTo = entity.replayUntilMs > 0 ? Math.max(entity.replayedTo, replayedTo) : replayedTo;
  entity.replayUntilMs = nowMs + leaseMs;
}

/** A parked entity stays so until it has passed this dead letter. */
export function awaitDeadLetter(entity: StoredEntity, record: DeadLetterRecord): void {
  const sequence = awaitedSequence(record);
  if (entity.parked !== null && sequence !== null && sequence > versionOf(entity)) entity.awaited = Math.max(entity.awaited, sequence);
}

function conflictsOf({ events }: Commit, idRecord: (id: string) => IdRecord | undefined): readonly IdConflict[] {
  const conflicts: IdConflict[] = [];
  const firstUse = new Map<string, IdRecord>();
  for (const [index, { id, recordId, consumed, sequence, payloadHash }] of events.entries()) {
    if (!recordId || consumed) continue;
    const recorded = idRecord(id);
    const other = recorded !== undefined && recorded.sequence !== sequence ? recorded : firstUse.get(id);
    if (other === undefined) firstUse.set(id, { sequence, payloadHash });
    else conflicts.push({ index, recordedSequence: other.sequence, samePayload: other.payloadHash === payloadHash });
  }
  return conflicts;
}

/** Counted from the entity's latest record: while an entity keeps failing, its earlier records stay as well. */
export const deadLetterTtlMs = 30 * 24 * 60 * 60 * 1000;

/** Beyond it the oldest records of the entity are forgotten, about; the messages stay in their queue. */
export const maxDeadLettersPerEntity = 10_000;

/** In UTF-16 code units. */
export const maxDetailLength = 1024;
export const maxStackLength = 4096;

/** Records of one message; beyond it the earlier ones are forgotten. */
export const maxRememberedReplays = 20;

/** The sequence that the version of its entity has to pass before the parking ends; null where the letter has none. */
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

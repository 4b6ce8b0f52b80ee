/**
 * Turns the replies of the scripts into the store's results. A reply in another form than the scripts write is the failure of that
 * entity, and never guessed at.
 */
import type { RejectionReason } from '../../events/reasons.ts';
import type {
  ClaimResult,
  CommitResult,
  DeadLetterRecord,
  IdConflict,
  InitialVersion,
  Park,
  Parked,
  ParkResult,
  LookupResult,
  Snapshot,
} from '../../ordering/entity.ts';
import type { DeadLetterHistory, EntitySummary } from '../store.ts';
import type { EntityRef } from '../../events/event.ts';
import { isReplaying } from '../../ordering/entity-rules.ts';
import { UnusableEntityError } from './failures.ts';

type Text = string | null;

/** The fields that `load` and the scripts return, in this order. */
export const snapshotFields = ['v', 'h', 's', 'p', 'q'] as const;

/** The fields of `listEntities`. */
export const summaryFields = ['v', 'p', 'q'] as const;

/** Whether the fields need the server's time to be understood: the last field of both lists is the lease of a replay. */
export function needsTime(reply: unknown): boolean {
  return Array.isArray(reply) && reply.at(-1) != null;
}

export function readSnapshot(reply: unknown, initialVersion: InitialVersion): Snapshot {
  const [version, holes, state, parked, replay, now] = texts(reply);
  return {
    exists: version !== null && version !== undefined,
    version: readVersion(version) ?? initialVersion,
    state: state ?? null,
    holes: holes ?? '',
    parked: readParked(initialVersion, version, parked, replay, now),
  };
}

/** Null when the entity was only claimed. */
export function readSummary(reply: unknown, initialVersion: InitialVersion): Omit<EntitySummary, keyof EntityRef> | null {
  const [version, parked, replay, now] = texts(reply);
  if (version === null && parked === null) return null;
  return { version: readVersion(version) ?? initialVersion, parked: readParked(initialVersion, version, parked, replay, now) };
}

export function readCommit(reply: unknown, initialVersion: InitialVersion): CommitResult {
  const [status, ...rest] = reply as [string, ...unknown[]];
  switch (status) {
    case 'ok':
      return { status, parked: readParked(initialVersion, ...texts(rest)), unparked: false };
    case 'unparked':
      return { status: 'ok', parked: null, unparked: true };
    case 'duplicate':
      return { status, parked: readParked(initialVersion, ...texts(rest)) };
    case 'stale':
      return { status, snapshot: readSnapshot(rest, initialVersion) };
    case 'conflict':
      return { status, conflicts: readConflicts(rest) };
    default:
      throw new UnusableEntityError(`a commit was answered by ${status}`);
  }
}

export function readClaim(reply: unknown, initialVersion: InitialVersion): ClaimResult {
  const [status, ...rest] = reply as [string, ...unknown[]];
  if (status === 'fenced') return { status };
  return { status: 'ok', snapshot: readSnapshot(rest, initialVersion) };
}

export function readPark(reply: unknown, initialVersion: InitialVersion): ParkResult {
  const [status, ...rest] = reply as [string, ...unknown[]];
  if (status === 'fenced') return { status };
  if (status === 'stale') return { status, snapshot: readSnapshot(rest, initialVersion) };
  const parked = readParked(initialVersion, null, ...texts(rest));
  if (parked === null) throw new UnusableEntityError('a park was answered without its record');
  return { status: 'ok', parked, isNew: status === 'ok' };
}

export function readLookup(reply: unknown): LookupResult {
  if (reply === 'above') return { status: 'above' };
  const [payloadHash, result, sequence] = texts(reply);
  if (payloadHash === null || payloadHash === undefined) return { status: 'unknown' };
  return { status: 'known', sequence: Number(sequence), payloadHash, result: readResult(result) };
}

/** Reads what `record-dead-letter` and `note-replay` write. */
export function readDeadLetter(text: string): DeadLetterHistory | null {
  const [, replays, record] = /^\d+\|([\d,]*)\|(.*)$/s.exec(text) ?? [];
  if (replays === undefined || record === undefined) return null;
  return {
    record: record === '' ? null : (JSON.parse(record) as DeadLetterRecord),
    replayedAt: replays === '' ? [] : replays.split(',').map((atMs) => new Date(Number(atMs)).toISOString()),
  };
}

/** A result as an argument of the scripts, in which an empty result differs from none. */
export function writeResult(result: string | null): string {
  return result === null ? '' : `=${result}`;
}

/** Why an entity is parked, as the script is given it; the script adds the time. */
export function writeParked(park: Park): string {
  return JSON.stringify({ reason: park.reason, sequence: park.sequence, detail: park.detail });
}

function readResult(text: Text | undefined): string | null {
  return text === null || text === undefined || text === '' ? null : text.slice(1);
}

/** `now` is the server's time, as the end of a replay's lease is: the clock of this machine may be another. */
function readParked(initialVersion: InitialVersion, version?: Text, text?: Text, replay?: Text, now?: Text): Parked | null {
  if (text === null || text === undefined) return null;
  const bar = text.indexOf('|');
  const atMs = Number(text.slice(0, bar));
  const why = parseJson(text.slice(bar + 1)) as { reason: RejectionReason; sequence: number; detail: string };
  if (!(atMs > 0)) throw new UnusableEntityError('the record of its parking has no time');
  const [leaseUntil = '0', replayedTo = initialVersion] = replay?.split('|') ?? [];
  const replaying = isReplaying(
    { version: readVersion(version), initialVersion, replayUntilMs: Number(leaseUntil), replayedTo: Number(replayedTo) },
    Number(now ?? 0),
  );
  return {
    reason: why.reason,
    detail: why.detail,
    sequence: why.sequence,
    at: new Date(atMs).toISOString(),
    replaying: replay != null && replaying,
  };
}

function readVersion(text: Text | undefined): number | null {
  if (text === null || text === undefined) return null;
  const version = Number(text);
  if (!/^(?:\d+|-1)$/.test(text) || !Number.isSafeInteger(version)) throw new UnusableEntityError('its version is not a number');
  return version;
}

function readConflicts(rest: readonly unknown[]): readonly IdConflict[] {
  const conflicts: IdConflict[] = [];
  for (let at = 0; at < rest.length; at += 3) {
    conflicts.push({ index: Number(rest[at]), recordedSequence: Number(rest[at + 1]), samePayload: Number(rest[at + 2]) === 1 });
  }
  return conflicts;
}

function texts(reply: unknown): readonly Text[] {
  return reply as readonly Text[];
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UnusableEntityError('a record is not JSON', { cause });
  }
}

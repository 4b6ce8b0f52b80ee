/** What the conformance suite commits: each builder makes the plainest thing of its kind, and takes what differs. */
import { createHash } from 'node:crypto';
import type { EntityRef } from '../../src/events/event.ts';
import type { Claim, Commit, CommitEvent, DeadLetterRecord, Park, Snapshot } from '../../src/ordering/entity.ts';
import type { DeadLetterQuery, Store } from '../../src/stores/store.ts';

export const order: EntityRef = { entityType: 'order', entityId: 'o-1' };

export const unknownSnapshot: Snapshot = { exists: false, version: 0, state: null, holes: '', parked: null };

let tokens = 0;

export function freshToken(): string {
  tokens += 1;
  return `1:${tokens}`;
}

export function orderNamed(entityId: string): EntityRef {
  return { entityType: 'order', entityId };
}

export function eventAt(sequence: number, over: Partial<CommitEvent> = {}): CommitEvent {
  return {
    id: `event-${sequence}`,
    recordId: true,
    sequence,
    payloadHash: `hash-${sequence}`,
    result: null,
    consumed: false,
    ...over,
  };
}

/** One event for each sequence after `after`, up to `to`, on an entity without holes. */
export function commitTo(entity: EntityRef, after: number, to: number, over: Partial<Commit> = {}): Commit {
  const events = Array.from({ length: to - after }, (_, index) => eventAt(after + index + 1));
  return {
    ...refOf(entity),
    token: freshToken(),
    expectedVersion: after,
    expectedHoles: '',
    newVersion: to,
    newHoles: '',
    state: `{"version":${to}}`,
    events,
    ...over,
  };
}

export function claimOf(entity: EntityRef, epoch: number, shard = 0): Claim {
  return { ...refOf(entity), shard, epoch, session: 'one' };
}

export function parkOf(entity: EntityRef, expectedVersion: number, over: Partial<Park> = {}): Park {
  return {
    ...refOf(entity),
    shard: 0,
    epoch: 1,
    session: 'one',
    expectedVersion,
    reason: 'gap_timeout',
    detail: `sequence ${expectedVersion + 1} did not arrive`,
    sequence: expectedVersion + 2,
    ...over,
  };
}

export function deadLetterOf(body: string, over: Partial<DeadLetterRecord> = {}): DeadLetterRecord {
  const fingerprint = createHash('sha256').update(body).digest('hex').slice(0, 32);
  return {
    fingerprint,
    id: 'event-7',
    entityType: order.entityType,
    entityId: order.entityId,
    sequence: 7,
    type: 'ItemAdded',
    reason: 'gap_timeout',
    detail: 'sequence 6 did not arrive',
    shard: 3,
    deadLetteredAt: '2026-01-02T03:04:05.678Z',
    ...over,
  };
}

/** The only item of an answer. */
export function only<T>(items: readonly T[]): T {
  const [item] = items;
  if (items.length !== 1 || item === undefined) throw new Error(`one item was expected, and there are ${items.length}`);
  return item;
}

export async function commitOne(store: Store, commit: Commit): Promise<Awaited<ReturnType<Store['commit']>>[number]> {
  return only(await store.commit([commit]));
}

/** The entity as it is in the store; throws when it cannot be read. */
export async function snapshotOf(store: Store, entity: EntityRef): Promise<Snapshot> {
  const loaded = only(await store.load([entity]));
  if (loaded.status !== 'ok') throw loaded.error;
  return loaded.snapshot;
}

/** What is on record of these messages, without their replays. */
export async function recordsOf(store: Store, queries: readonly DeadLetterQuery[]): Promise<readonly (DeadLetterRecord | null)[]> {
  return (await store.findDeadLetters(queries)).map((history) => history?.record ?? null);
}

function refOf({ entityType, entityId }: EntityRef): EntityRef {
  return { entityType, entityId };
}

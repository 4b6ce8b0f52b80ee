/**
 * Recovery of a store that lost its tail (a fail-over to a replica that was behind, a restored copy): finds the entities whose
 * version is lower than it was, and brings each back to its target version.
 *
 * - A source that kept more (the event store, a file of applied events or of versions) shows which entities are behind. Without
 *   one, entities that were parked at an event that is not the next one show it.
 * - Events are committed as a worker would have committed them, with ids, hashes, the state and the log, so that redelivered events
 *   are duplicates. Handlers do not run, because they have handled every acknowledged event. The event store may also have events
 *   that were never processed: if their type has handlers, they are published instead, and handled at least once.
 * - Every commit is fenced by version and holes, so that nothing is done twice: an interrupted recovery can be run again. Workers
 *   may run meanwhile.
 */
import type { ProcessorSet, Processors } from '../aggregates/processors.ts';
import { UnavailableError } from '../errors.ts';
import type { EntityRef, Event } from '../events/event.ts';
import { Holes } from '../ordering/holes.ts';
import type { Commit, CommitResult, Snapshot } from '../ordering/entity.ts';
import { batched, readSnapshot, type Store } from '../stores/store.ts';
import type { Time } from '../time.ts';
import { prepare } from './processing.ts';

/** An entity whose version is too low. */
export interface Behind extends EntityRef {
  /** In the store. */
  readonly version: number;
  /** The version it should have. */
  readonly target: number;
  /** Why it cannot be recovered, if that is known beforehand. */
  readonly problem: string | null;
}

/** How an entity is brought to its target version. */
export type Remedy =
  | { readonly kind: 'events'; readonly read: (from: number, to: number) => AsyncIterable<Event>; readonly mayBeUnprocessed: boolean }
  | { readonly kind: 'state'; readonly state: string | null }
  /** The version is set to the target, the state stays as it is. */
  | { readonly kind: 'resync' };

export type Recovered = { readonly status: 'recovered' | 'published' } | { readonly status: 'failed'; readonly problem: string };

export interface Recovery {
  readonly store: Pick<Store, 'load' | 'commit'>;
  readonly processors: Processors;
  readonly maxStateBytes: number;
  readonly eventLog: boolean;
  /** Resolves when the broker has confirmed it. */
  readonly publish: (event: Event) => Promise<void>;
  readonly time: Time;
}

const eventsPerCommit = 200;
/** Others may commit in between. */
const maxAttempts = 5;
const noRetry = { maxAttempts: 1, initialMs: 1, maxMs: 1, timeoutMs: 1 };

/** Without another source: the entities that were parked at an event that is not the next one. */
export async function* behindTheirLetters(
  store: Pick<Store, 'listEntities'>,
  filter: { readonly entityType?: string },
): AsyncGenerator<Behind> {
  for await (const { entityType, entityId, version, parked } of store.listEntities(filter)) {
    if (parked !== null && parked.sequence > version + 1)
      yield { entityType, entityId, version, target: parked.sequence - 1, problem: null };
  }
}

/** Null: the entity has the target version, or a higher one. */
export async function comparedWith(
  store: Pick<Store, 'load'>,
  entity: EntityRef,
  target: number,
  problem: (version: number) => string | null = () => null,
): Promise<Behind | null> {
  const { version } = await readSnapshot(store, entity);
  if (version >= target) return null;
  const { entityType, entityId } = entity;
  return { entityType, entityId, version, target, problem: problem(version) };
}

export async function recoverEntity(behind: Behind, remedy: Remedy, recovery: Recovery): Promise<Recovered> {
  if (behind.problem !== null) return { status: 'failed', problem: behind.problem };
  if (remedy.kind === 'events') return recoverFromEvents(behind, remedy, recovery);
  for (let attempt = 1; attempt <= maxAttempts; attempt++) {
    const { version, holes } = await readSnapshot(recovery.store, behind);
    if (version >= behind.target) return { status: 'recovered' };
    const newHoles = remedy.kind === 'resync' ? Holes.parse(holes).resynced(version, behind.target).toString() : holes;
    const state = remedy.kind === 'state' ? remedy.state : null;
    const change = { expectedVersion: version, expectedHoles: holes, newVersion: behind.target, newHoles, state, events: [] };
    const result = await commitOne(recovery.store, { ...refOf(behind), token: freshToken(recovery.time), ...change });
    if (result.status === 'ok' || result.status === 'duplicate') return { status: 'recovered' };
  }
  return { status: 'failed', problem: 'it changes faster than it can be set: try again' };
}

async function recoverFromEvents(
  behind: Behind,
  { read, mayBeUnprocessed }: Extract<Remedy, { kind: 'events' }>,
  recovery: Recovery,
): Promise<Recovered> {
  const set = recovery.processors.forType(behind.entityType);
  if (set === null) return { status: 'failed', problem: `PROCESSOR has nothing for entities of type ${JSON.stringify(behind.entityType)}` };
  if (mayBeUnprocessed && set.handlers.length > 0) {
    for await (const event of read(behind.version + 1, behind.target)) await recovery.publish(event);
    return { status: 'published' };
  }
  for (let attempt = 1; attempt <= maxAttempts; attempt++) {
    let before = await readSnapshot(recovery.store, behind);
    if (before.version >= behind.target) return { status: 'recovered' };
    let problem: string | null = null;
    for await (const events of batched(read(before.version + 1, behind.target), eventsPerCommit)) {
      const outcome = await commitEvents(behind, before, events, set, recovery);
      if ('problem' in outcome) return { status: 'failed', problem: outcome.problem };
      if ('moved' in outcome) {
        problem = 'it changes faster than it can be recovered: try again';
        break;
      }
      before = outcome.after;
    }
    if (problem === null && before.version < behind.target)
      return { status: 'failed', problem: `event ${before.version + 1} is missing in the source` };
  }
  const { version } = await readSnapshot(recovery.store, behind);
  return version >= behind.target
    ? { status: 'recovered' }
    : { status: 'failed', problem: `it is at version ${version} and changes meanwhile: try again` };
}

type Committed = { readonly after: Snapshot } | { readonly moved: true } | { readonly problem: string };

async function commitEvents(
  entity: EntityRef,
  before: Snapshot,
  events: readonly Event[],
  set: ProcessorSet,
  recovery: Recovery,
): Promise<Committed> {
  const { version, holes, state } = before;
  const wrong = events.findIndex(({ sequence }, index) => sequence !== version + 1 + index);
  if (wrong !== -1)
    return {
      problem: `event ${version + 1 + wrong} is missing in the source: there comes ${events[wrong]?.sequence ?? 'one without a sequence'}`,
    };
  const slots = events.map((event, index) => ({
    action: 'apply' as const,
    delivery: { tag: index + 1, event },
    sequence: version + 1 + index,
    versionAfter: version + 1 + index,
    holesAfter: holes,
  }));
  const effect = {
    kind: 'commit' as const,
    op: 0,
    entity: refOf(entity),
    expectedVersion: version,
    expectedHoles: holes,
    slots,
    adopts: false,
  };
  const prepared = await prepare(
    effect,
    freshToken(recovery.time),
    { version, holes, text: state, parsed: null },
    {
      processors: { hasHandlers: false, forType: () => ({ aggregate: set.aggregate, handlers: [] }) },
      maxStateBytes: recovery.maxStateBytes,
      eventLog: recovery.eventLog,
      handlerRun: {
        limits: noRetry,
        life: new AbortController().signal,
        time: recovery.time,
        inWork: new Set(),
        onAttempt: () => undefined,
      },
      report: { retried: () => undefined, within: (_tag, work) => work() },
      trials: null,
      isolation: null,
      messages: new Map(),
    },
  );
  if (prepared === null || prepared.commit === null || prepared.failure !== null) {
    const at = version + 1 + (prepared?.done ?? 0);
    return { problem: `event ${at}: ${prepared?.failure?.reason ?? 'failed'} (${prepared?.failure?.detail ?? ''})` };
  }
  const result = await commitOne(recovery.store, prepared.commit);
  if (result.status === 'stale') return { moved: true };
  if (result.status === 'conflict')
    return { problem: `the id of one of its events was applied under another sequence, ${result.conflicts[0]?.recordedSequence}` };
  const { text } = prepared.after;
  return { after: { ...before, exists: true, version: prepared.commit.newVersion, state: text } };
}

async function commitOne(store: Pick<Store, 'commit'>, commit: Commit): Promise<Exclude<CommitResult, { status: 'failed' }>> {
  const [result] = await store.commit([commit]);
  if (result === undefined || result.status === 'failed') throw new UnavailableError(result?.error.message ?? 'the store did not answer');
  return result;
}

function refOf({ entityType, entityId }: EntityRef): EntityRef {
  return { entityType, entityId };
}

function freshToken(time: Time): string {
  return `recover:${time.uuid()}`;
}

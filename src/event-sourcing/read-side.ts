/**
 * Verifies the workers' states against the log of events, or rebuilds them from it. One entity at a time, in bounded memory,
 * while workers run: a state is compared and written at its version, and checked again if that moves meanwhile.
 */
import type { Processors } from '../aggregates/processors.ts';
import { UnavailableError } from '../errors.ts';
import type { EntityRef } from '../events/event.ts';
import type { EventStore } from '../stores/event-store.ts';
import { readSnapshot, type Store } from '../stores/store.ts';
import type { Time } from '../time.ts';
import { foldEvents } from './repository.ts';

export interface ReadSide {
  readonly events: Pick<EventStore, 'read' | 'readAll' | 'version'>;
  readonly store: Store;
  readonly processors: Processors;
  readonly time: Time;
}

export type EntityCheck =
  /** Its events are 1, 2, 3…, and its state follows from them. */
  | { readonly status: 'right'; readonly version: number }
  /** The same, but the workers have not applied all events yet. */
  | { readonly status: 'behind'; readonly version: number; readonly events: number }
  | { readonly status: 'wrong'; readonly version: number; readonly problem: string }
  /** There is no aggregate for its type: its state cannot be verified. */
  | { readonly status: 'no-aggregate' };

/** The entities of the log, in the order of their first events. */
export async function* entitiesOf(
  events: Pick<EventStore, 'readAll'>,
  signal: AbortSignal,
): AsyncGenerator<EntityRef & { readonly position: number }> {
  for await (const { entityType, entityId, sequence, position } of events.readAll()) {
    if (signal.aborted) return;
    if (sequence === 1) yield { entityType, entityId, position };
  }
}

export async function checkEntity(entity: EntityRef, side: ReadSide): Promise<EntityCheck> {
  const stored = await readSnapshot(side.store, entity);
  const events = await side.events.version(entity);
  const { version, state } = stored;
  if (version > events)
    return { status: 'wrong', version, problem: `its state is at version ${version}, and the log has ${events} events` };
  const folded = await stateAt(entity, version, side);
  if (folded === 'no-aggregate') return { status: 'no-aggregate' };
  if (folded.problem !== null) return { status: 'wrong', version, problem: folded.problem };
  if (folded.text !== state) {
    // A change by a worker meanwhile is not an error.
    if ((await readSnapshot(side.store, entity)).version !== version) return checkEntity(entity, side);
    return { status: 'wrong', version, problem: `its state at version ${version} is not what its events make of it` };
  }
  return version < events ? { status: 'behind', version, events } : { status: 'right', version };
}

export type Rebuilt =
  | { readonly status: 'same' | 'rebuilt'; readonly version: number }
  | { readonly status: 'failed'; readonly problem: string }
  /** There is no aggregate for its type. */
  | { readonly status: 'no-aggregate' };

const maxAttempts = 5;

/**
 * Rebuilds the state of an entity from its events: up to its version, or from all events if the store does not know it.
 * It can be repeated.
 */
export async function rebuildEntity(entity: EntityRef, side: ReadSide): Promise<Rebuilt> {
  for (let attempt = 1; attempt <= maxAttempts; attempt++) {
    const { exists, version: present, state, holes } = await readSnapshot(side.store, entity);
    const version = exists ? present : await side.events.version(entity);
    const folded = await stateAt(entity, version, side);
    if (folded === 'no-aggregate') return { status: 'no-aggregate' };
    if (folded.problem !== null) return { status: 'failed', problem: folded.problem };
    if (exists && folded.text === state) return { status: 'same', version };
    const token = `rebuild:${side.time.uuid()}`;
    const change = { token, expectedVersion: present, expectedHoles: holes, newVersion: version, newHoles: holes };
    const [result] = await side.store.commit([{ ...entity, ...change, state: folded.text, events: [] }]);
    if (result?.status === 'failed') throw new UnavailableError(result.error.message, { cause: result.error });
    if (result?.status === 'ok') return { status: 'rebuilt', version };
  }
  return { status: 'failed', problem: 'its state changes faster than it can be made: try again' };
}

interface Made {
  readonly text: string | null;
  readonly problem: string | null;
}

async function stateAt(entity: EntityRef, version: number, { events, processors }: ReadSide): Promise<Made | 'no-aggregate'> {
  const aggregate = processors.forType(entity.entityType)?.aggregate ?? null;
  if (aggregate === null) return 'no-aggregate';
  if (version === 0) return { text: null, problem: null };
  const { state, version: reached, problem } = await foldEvents(aggregate, events.read(entity, { to: version }));
  if (problem !== null) return { text: null, problem };
  if (reached < version) return { text: null, problem: `event ${reached + 1} is missing` };
  return { text: state === null ? null : aggregate.serialize(state), problem: null };
}

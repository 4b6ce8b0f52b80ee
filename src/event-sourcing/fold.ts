/** Folds an entity's events into its state, by the rules that a worker applies. */
import type { Aggregate } from '../aggregates/definition.ts';
import { type Evolved, evolveEvent } from '../aggregates/evolve.ts';
import { encodeEvent } from '../events/encode.ts';
import { defaultEventLimits, type Event, type EventLimits } from '../events/event.ts';
import type { RecordedEvent } from '../stores/event-store.ts';

export interface Folded<State> {
  /** Null before the first event. */
  readonly state: State | null;
  /** Sequence of the last event that was applied. */
  readonly version: number;
  /** Why the next event cannot be applied: the reason for which a worker would dead-letter it. */
  readonly problem: string | null;
}

/** No limits: events in the log are read whatever their size, because limits apply to appends. */
export const noLimits: EventLimits = {
  ...defaultEventLimits,
  maxBodyBytes: Number.MAX_SAFE_INTEGER,
  maxEntityIdBytes: 255 * 255,
  maxJsonDepth: 10_000,
};

/** The event as a worker sees it once it is published. */
export function eventOf({ entityType, entityId, id, sequence, type, timestamp, dataJson, metadata }: RecordedEvent): Event {
  return encodeEvent({ entityType, entityId, id, sequence, type, timestamp, dataJson, metadata }, { limits: noLimits }).event;
}

/** `known`: the state at the version before the first of the events. Default: none, at 0. */
export async function foldEvents<State>(
  aggregate: Aggregate<State>,
  events: AsyncIterable<RecordedEvent>,
  known: Pick<Folded<State>, 'state' | 'version'> = { state: null, version: 0 },
): Promise<Folded<State>> {
  let { state, version } = known;
  for await (const recorded of events) {
    if (recorded.sequence !== version + 1)
      return { state, version, problem: `event ${version + 1} is missing: after ${version} comes ${recorded.sequence}` };
    const result: Evolved<State> = evolveEvent(aggregate, state, eventOf(recorded), { adopts: false });
    if (!result.ok) return { state, version, problem: `event ${recorded.sequence}: ${result.reason} (${result.detail})` };
    state = result.state;
    version = recorded.sequence;
  }
  return { state, version, problem: null };
}

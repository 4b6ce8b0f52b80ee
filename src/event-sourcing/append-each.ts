/**
 * Appends events of which some or all may already be in the log, as when a file that has grown is appended again. The outcome
 * of an event depends on it alone, not on the events appended with it; their order is kept.
 */
import { EventError } from '../errors.ts';
import type { EntityRef } from '../events/event.ts';
import { readTime } from '../events/timestamp.ts';
import type { EventStore, EventToAppend } from '../stores/event-store.ts';

/** An event with an id, by which a repetition is recognised. */
export type IdentifiedEvent = EventToAppend & { readonly id: string; readonly timestamp?: string };

/** `known`: the log has it, with this id, type, data and time (if it has one). `refused`: why, in one sentence. */
export type AppendFate = 'appended' | 'known' | { readonly refused: string };

/** Appends events of one entity; returns one fate per event. Rejects when the outcome is unknown: append the same again. */
export async function appendEach(
  store: Pick<EventStore, 'append' | 'read'>,
  entity: EntityRef,
  events: readonly IdentifiedEvent[],
): Promise<readonly AppendFate[]> {
  try {
    const { status, version } = await store.append(entity, events, { expectedVersion: 'any' });
    return status === 'repeated' ? await knownFates(store, entity, events, version) : events.map(() => 'appended' as const);
  } catch (error) {
    if (!(error instanceof EventError)) throw error;
    if (events.length === 1) return [{ refused: `${error.reason}: ${error.message}` }];
    // Nothing was written. Split in halves until each invalid or known event is alone.
    const half = Math.ceil(events.length / 2);
    const fates = await appendEach(store, entity, events.slice(0, half));
    return [...fates, ...(await appendEach(store, entity, events.slice(half)))];
  }
}

/**
 * The log compares type and data only. An event with another time under the same id is another event, for instance where ids
 * restart each day; only events with a time are looked up.
 */
async function knownFates(
  store: Pick<EventStore, 'read'>,
  entity: EntityRef,
  events: readonly IdentifiedEvent[],
  version: number,
): Promise<readonly AppendFate[]> {
  const from = version - events.length + 1;
  const times = new Map<number, string>();
  if (events.some(({ timestamp }) => timestamp !== undefined)) {
    for await (const { sequence, timestamp } of store.read(entity, { from, to: version })) times.set(sequence, timestamp);
  }
  return events.map(({ id, timestamp }, index) => {
    const logged = times.get(from + index);
    if (timestamp === undefined || logged === undefined || readTime(logged) === readTime(timestamp)) return 'known';
    return {
      refused: `message_id_conflict: the log has an event with the id ${JSON.stringify(id)} of ${logged}, and this one is of ${timestamp}: if it is another event, give it an id of its own`,
    };
  });
}

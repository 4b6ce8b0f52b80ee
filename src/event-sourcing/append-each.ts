/**
 * Appends events that may be in the log already, all or in part, as when a file that has grown is appended again. What becomes
 * of an event depends on it alone and not on which others are appended with it; their order stays.
 */
import { EventError } from '../errors.ts';
import type { EntityRef } from '../events/event.ts';
import { readTime } from '../events/timestamp.ts';
import type { EventStore, EventToAppend } from '../stores/event-store.ts';

/** An event that can be known again. */
export type IdentifiedEvent = EventToAppend & { readonly id: string; readonly timestamp?: string };

/** `known`: the log has it, with this id, type, data and, where it says one, time. Refused: in one sentence. */
export type AppendFate = 'appended' | 'known' | { readonly refused: string };

/** Of one entity; as many fates as events. Rejects where it is not known what was written: append the same again. */
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
    // Nothing was written. Halved until each that is at fault, or known, stands alone.
    const half = Math.ceil(events.length / 2);
    const fates = await appendEach(store, entity, events.slice(0, half));
    return [...fates, ...(await appendEach(store, entity, events.slice(half)))];
  }
}

/**
 * The log compares type and data. An event of another time under the same id is another event, as where ids begin again each day;
 * only events that say a time are looked up.
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

/**
 * The checks and defaults that every event store applies to an append before it writes, and the appending of events of which the log
 * may already have some.
 */
import { ConfigError, EventError } from '../errors.ts';
import { encodeEvent } from '../events/encode.ts';
import type { EntityRef, EventLimits } from '../events/event.ts';
import { readTime } from '../events/timestamp.ts';
import { systemTime, type Time } from '../time.ts';
import type { EventToAppend, ExpectedVersion, RecordedEvent, EventStore } from './event-store.ts';

/** An event as it is written; the store assigns its sequence and position. */
export interface PreparedEvent {
  readonly id: string;
  readonly type: string;
  readonly timestamp: string;
  readonly dataJson: string;
  readonly metadataJson: string;
}

export interface AppendRules {
  /** The limits of the workers: what exceeds them is not appended. Default: their defaults. */
  readonly limits?: EventLimits | undefined;
  /** Default: the system's clock. */
  readonly time?: Time | undefined;
}

/** Gives the longest possible message: a published event contains its sequence. */
const highestSequence = Number.MAX_SAFE_INTEGER;

/**
 * Fills in the defaults, and refuses an event that the relay could not publish or a worker would refuse, whatever its sequence:
 * no later event could be published after it.
 *
 * @throws EventError with the reason that a worker would give.
 */
export function prepareAppend(entity: EntityRef, events: readonly EventToAppend[], rules: AppendRules): readonly PreparedEvent[] {
  const { limits, time = systemTime } = rules;
  if (events.length === 0) throw new ConfigError(['append: there must be at least one event']);
  const now = new Date(time.wallMs());
  const prepared = events.map((given): PreparedEvent => {
    const { id = time.uuid(), type, timestamp = now, data, dataJson, metadata = {} } = given;
    const { event } = encodeEvent({ ...entity, id, sequence: highestSequence, type, timestamp, data, dataJson, metadata }, { limits });
    return { id, type, timestamp: event.timestamp ?? now.toISOString(), dataJson: event.dataJson, metadataJson: JSON.stringify(metadata) };
  });
  if (new Set(prepared.map(({ id }) => id)).size < prepared.length) {
    throw new EventError('message_id_conflict', 'two of the events have the same id');
  }
  return prepared;
}

/** As a number: -1 expects at least one event, null expects nothing. */
export function expectedNumber(expected: ExpectedVersion): number | null {
  if (expected === 'any') return null;
  if (expected === 'exists') return -1;
  if (expected === 'no-stream') return 0;
  if (Number.isSafeInteger(expected) && expected >= 0) return expected;
  throw new ConfigError([
    `append: expectedVersion is ${String(expected)}: it must be a whole number from 0 up, "no-stream", "exists" or "any"`,
  ]);
}

export function isExpected(expected: number | null, version: number): boolean {
  return expected === null || (expected === -1 ? version > 0 : expected === version);
}

export function idConflict(): EventError {
  return new EventError('message_id_conflict', 'one of the ids is that of another event of the entity');
}

export function recorded(
  entity: EntityRef,
  { id, type, timestamp, dataJson, metadataJson }: PreparedEvent,
  sequence: number,
  position: number,
): RecordedEvent {
  const { entityType, entityId } = entity;
  const [data, metadata] = [JSON.parse(dataJson), JSON.parse(metadataJson)];
  return { entityType, entityId, id, sequence, position, type, timestamp, data, dataJson, metadata };
}

/** The range of sequences of a reading, lowest first. */
export function rangeOf(options: {
  readonly from?: number;
  readonly to?: number;
  readonly direction?: 'forwards' | 'backwards';
}): readonly [low: number, high: number] {
  const { from, to, direction = 'forwards' } = options;
  const [low, high] = direction === 'forwards' ? [from, to] : [to, from];
  return [low ?? 1, high ?? Number.MAX_SAFE_INTEGER];
}

/** An event with an id, by which a repetition is recognised. */
export type IdentifiedEvent = EventToAppend & { readonly id: string; readonly timestamp?: string };

/** `known`: the log has it, with this id, type, data and time (if it has one). `refused`: why, in one sentence. */
export type AppendFate = 'appended' | 'known' | { readonly refused: string };

/**
 * Appends events of one entity of which some or all may already be in the log, as when a file that has grown is appended again;
 * returns one fate per event. The fate of an event depends on it alone, not on those appended with it; their order is kept. Rejects
 * when the outcome is unknown: append the same again.
 */
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

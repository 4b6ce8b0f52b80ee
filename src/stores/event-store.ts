/**
 * The append-only log of events: per entity 1, 2, 3… without a gap, and all of them in one global order. It is the source
 * of truth for event-sourced entities; events published from it have correct sequences by construction.
 *
 * Every implementation guarantees the following, and test/conformance checks it:
 * - an append is all or nothing, and of several that expect the same version exactly one succeeds;
 * - appending the same events again, for instance after a lost reply, changes nothing and returns the same result;
 * - positions are 1, 2, 3… in the order in which appends become visible: a reader that has reached a position never misses one
 *   below it, however many processes write, and an entity's events have positions in the order of their sequences;
 * - the text of `data` is returned as it was given.
 *
 * `GapSource` is the part of it that fills a gap, for which a module of the user's can stand in (GAP_REPAIR).
 */
import { PermanentError } from '../errors.ts';
import { type EncodedEvent, encodeEvent, type NewEvent } from '../events/encode.ts';
import type { EntityRef, EventLimits } from '../events/event.ts';

/** An event to append; the log assigns its sequence and position. */
export interface EventToAppend extends Pick<NewEvent, 'type' | 'data' | 'dataJson' | 'metadata'> {
  /** Unique within its entity: it identifies a repeated append. Default: a random UUID for each call. */
  readonly id?: string;
  /** When it happened: a date, or ISO 8601. Default: now, by this process's clock. */
  readonly timestamp?: string | Date;
}

export interface RecordedEvent extends EntityRef {
  readonly id: string;
  /** 1, 2, 3… within its entity. */
  readonly sequence: number;
  /** 1, 2, 3… within the store's stream. */
  readonly position: number;
  readonly type: string;
  /** ISO 8601, as the writer gave it. */
  readonly timestamp: string;
  readonly data: unknown;
  /** The text of `data` as it was appended; `null` if there was none. */
  readonly dataJson: string;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** A version, or a condition on it: `no-stream` is 0, `exists` at least 1, `any` any version. */
export type ExpectedVersion = number | 'no-stream' | 'exists' | 'any';

export interface AppendOptions {
  readonly expectedVersion: ExpectedVersion;
}

export interface AppendResult {
  /** `repeated`: the same events had been appended together before. */
  readonly status: 'appended' | 'repeated';
  /** Sequence of the last appended event. */
  readonly version: number;
  /** Position of the last appended event. */
  readonly position: number;
}

export interface ReadOptions {
  /** First sequence to read; the highest one if read backwards. Default: where the direction begins. */
  readonly from?: number;
  /** Last sequence to read, in the direction of reading. Default: to the end. */
  readonly to?: number;
  /** Default `forwards`. */
  readonly direction?: 'forwards' | 'backwards';
  /** Most events to read. Default: all. */
  readonly limit?: number;
}

export interface ReadAllOptions {
  /** The position after which to read. Default 0: from the first event. */
  readonly after?: number;
  /** Most events to read. Default: all. */
  readonly limit?: number;
}

/** The state of an entity at a version, which saves reading all its events. Only a hint: it may be missing or old. */
export interface StateSnapshot {
  readonly version: number;
  /** The `schemaVersion` of the aggregate that made it: a snapshot with another one is ignored. */
  readonly schemaVersion: number;
  /** As the aggregate serialised it. */
  readonly state: string;
}

export interface EventStore {
  /**
   * Appends `events` (at least one) together.
   *
   * @throws VersionConflictError when the entity is at another version; nothing was written.
   * @throws EventError `message_id_conflict` when an id belongs to another event of the entity; otherwise with the reason
   *   that a worker would give for refusing one of the events. Nothing was written.
   * @throws UnavailableError when the outcome is unknown: append the same events again, with the same ids.
   */
  append(entity: EntityRef, events: readonly EventToAppend[], options: AppendOptions): Promise<AppendResult>;
  /** The events of one entity, in order, in bounded memory. Empty for an unknown entity. */
  read(entity: EntityRef, options?: ReadOptions): AsyncIterable<RecordedEvent>;
  /** All events in the order of their positions, in bounded memory, including those appended during the reading. */
  readAll(options?: ReadAllOptions): AsyncIterable<RecordedEvent>;
  /** Resolves when there is, or may be, an event after `position` (at once if there already is), or when `signal` aborts. */
  waitForMore(position: number, signal: AbortSignal): Promise<void>;
  /** Sequence of the entity's last event; 0 if it has none. */
  version(entity: EntityRef): Promise<number>;
  readSnapshot(entity: EntityRef): Promise<StateSnapshot | null>;
  /** Writes the snapshot unless one with a higher version and the same schema exists. */
  writeSnapshot(entity: EntityRef, snapshot: StateSnapshot): Promise<void>;
  close(): Promise<void>;
}

/** The request for missing events, to the event store or to a module of the operator. */
export interface MissingEvents {
  readonly entity: EntityRef;
  /** First missing sequence. */
  readonly from: number;
  /** Last missing sequence. */
  readonly to: number;
  /** Aborted when the answer is no longer needed. */
  readonly signal: AbortSignal;
}

/**
 * Returns the events of `entity` from `from` to `to`, without those that it lacks. It is asked again later
 * for these, and after it throws. The events may omit entity type and id.
 */
export type GapSource = (missing: MissingEvents) => AsyncIterable<NewEvent> | Iterable<NewEvent> | Promise<Iterable<NewEvent>>;

/** The source's events in the order of their sequences, each once. @throws PermanentError when it returns others than asked for. */
export async function readMissing(source: GapSource, missing: MissingEvents, limits: EventLimits): Promise<readonly EncodedEvent[]> {
  const found = new Map<number, EncodedEvent>();
  for await (const event of await source(missing)) {
    const encoded = encodeEvent({ ...missing.entity, ...event }, { limits });
    const { entityType, entityId, sequence } = encoded.event;
    if (entityType !== missing.entity.entityType || entityId !== missing.entity.entityId) {
      throw new PermanentError('the source gave an event of another entity');
    }
    if (sequence === null || sequence < missing.from || sequence > missing.to) {
      throw new PermanentError(
        `the source was asked for ${missing.from} to ${missing.to} and gave ${sequence ?? 'an event without a sequence'}`,
      );
    }
    found.set(sequence, encoded);
  }
  return [...found].sort(([a], [b]) => a - b).map(([, event]) => event);
}

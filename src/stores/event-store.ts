/**
 * The append-only log of events: per entity 1, 2, 3… without a gap, and all of them in one global order. It is the source
 * of truth where entities are event-sourced; who publishes from it has sequences that are right by construction.
 *
 * Every implementation guarantees, and test/conformance holds it to that:
 * - an append is all or nothing, and of those that expect the same version exactly one wins;
 * - appending the same events again, as after a reply that was lost, changes nothing and answers as it did the first time;
 * - positions are 1, 2, 3… in the order in which appends become visible: whoever has read up to a position never misses one
 *   below it, however many write at the same time, and an entity's events have positions in the order of their sequences;
 * - the text of `data` comes back as it was given.
 */
import type { EntityRef } from '../events/event.ts';

/** An event that is to be appended; its sequence and position are what the log gives it. */
export interface EventToAppend {
  /** Unique within its entity: with it a repeated append is known. Default: a random UUID, made once for each call. */
  readonly id?: string;
  readonly type: string;
  /** When it happened: a date, or ISO 8601. Default: now, by this process's clock. */
  readonly timestamp?: string | Date;
  readonly data?: unknown;
  /** `data` as JSON text, in place of `data`: large integers and `1.0` stay as they are. */
  readonly dataJson?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
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
  /** The text of `data`, as it was appended; `null` where there was none. */
  readonly dataJson: string;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** A version, or what is known of it: `no-stream` is 0, `exists` at least 1, `any` makes no claim. */
export type ExpectedVersion = number | 'no-stream' | 'exists' | 'any';

export interface AppendOptions {
  readonly expectedVersion: ExpectedVersion;
}

export interface AppendResult {
  /** `repeated`: the same events were there already, appended together. */
  readonly status: 'appended' | 'repeated';
  /** Sequence of the last of them. */
  readonly version: number;
  /** Of the last of them. */
  readonly position: number;
}

export interface ReadOptions {
  /** First sequence that is read; backwards the highest one. Default: from the end where the direction begins. */
  readonly from?: number;
  /** Last sequence that is read, in the direction of reading. Default: to the other end. */
  readonly to?: number;
  /** Default `forwards`. */
  readonly direction?: 'forwards' | 'backwards';
  /** At most so many. Default: all. */
  readonly limit?: number;
}

export interface ReadAllOptions {
  /** Position of the last event that is known already. Default 0: from the first. */
  readonly after?: number;
  /** At most so many. Default: all that are there. */
  readonly limit?: number;
}

/** The state of an entity at a version, so that not all of its events have to be read. A hint: it may be missing or old. */
export interface StateSnapshot {
  readonly version: number;
  /** Of the aggregate that made it: one with another is not used. */
  readonly schemaVersion: number;
  /** As the aggregate serializes it. */
  readonly state: string;
}

export interface EventStore {
  /**
   * Appends `events`, at least one, together.
   *
   * @throws VersionConflictError when the entity is at another version; nothing was written.
   * @throws EventError `message_id_conflict` when one of the ids belongs to another event of the entity; otherwise with the reason
   *   for which a worker would refuse one of the events. Nothing was written.
   * @throws UnavailableError when it is not known whether it was written: append the same events, with the same ids, again.
   */
  append(entity: EntityRef, events: readonly EventToAppend[], options: AppendOptions): Promise<AppendResult>;
  /** Of one entity, in order, in bounded memory. Nothing, where there is no such entity. */
  read(entity: EntityRef, options?: ReadOptions): AsyncIterable<RecordedEvent>;
  /** All events there are when it comes to the end, in the order of their positions, in bounded memory. */
  readAll(options?: ReadAllOptions): AsyncIterable<RecordedEvent>;
  /** Resolves when there is an event behind `position`, or there may be one; at once when there already is; also when `signal` ends it. */
  waitForMore(position: number, signal: AbortSignal): Promise<void>;
  /** Sequence of the entity's last event; 0 where it has none. */
  version(entity: EntityRef): Promise<number>;
  readSnapshot(entity: EntityRef): Promise<StateSnapshot | null>;
  /** Keeps it unless there is one of a higher version and the same schema. */
  writeSnapshot(entity: EntityRef, snapshot: StateSnapshot): Promise<void>;
  close(): Promise<void>;
}

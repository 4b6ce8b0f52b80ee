/**
 * Event-sourced entities of an aggregate: loaded from their stored events, changed by commands. Guarantees that a
 * command decides on the newest state and its events are appended directly after it; that a command with the same id has
 * one effect, however often it is repeated; and that snapshots only change how much is read.
 */
import type { Aggregate, Command, DecidedEvent } from '../aggregates/definition.ts';
import { decideCommand, evolveEvent, newestSchemaVersion, schemaVersionKey, type Evolved } from '../aggregates/evolve.ts';
import { EventError, PermanentError, VersionConflictError } from '../errors.ts';
import { encodeEvent, timestampText } from '../events/encode.ts';
import { type EntityRef, type Event, defaultEventLimits, type EventLimits } from '../events/event.ts';
import type { EventStore, EventToAppend, RecordedEvent } from '../stores/event-store.ts';
import { isoNow, systemTime, type Time, backOffMs, sleep } from '../time.ts';

export interface RepositoryOptions {
  /** A snapshot is written after every so many events. Default: no snapshots. */
  readonly snapshotEvery?: number;
  /** The most attempts at a command when others change the entity at the same time. Default 10. */
  readonly maxAttempts?: number;
  /** Default: the system's clock. */
  readonly time?: Time;
}

/** A command to handle. */
export interface NewCommand<Type extends string, Data> {
  /** Identifies the command: repeated with the same id it has no second effect. Default: a random one, if it is never repeated. */
  readonly id?: string;
  readonly type: Type;
  readonly data?: Data;
  /** The time of the command: a date, or ISO 8601. Default: now. */
  readonly timestamp?: string | Date;
  /** Its events have the same metadata. */
  readonly metadata?: Readonly<Record<string, unknown>>;
}

type CommandFor<Type extends string, Data> = undefined extends Data
  ? NewCommand<Type, Data>
  : NewCommand<Type, Data> & { readonly data: Data };
/** Any command that an aggregate decides. */
export type CommandOf<Commands> = { readonly [Type in keyof Commands & string]: CommandFor<Type, Commands[Type]> }[keyof Commands & string];

export interface HandleOptions {
  /** The version that the sender has seen: the command is not decided at another one. Default: any. */
  readonly expectedVersion?: number;
}

export interface Loaded<State> {
  /** The initial state if there is no such entity. */
  readonly state: State;
  /** Sequence of its last event; 0 if there is none. */
  readonly version: number;
}

/** The result of a command, with the entity's new state. */
export type Handled<State> =
  /** Its events, possibly none, are stored. */
  | ({ readonly status: 'handled'; readonly events: readonly Event[] } & Loaded<State>)
  /** A command with this id was handled before: its events were already stored. */
  | ({ readonly status: 'repeated'; readonly events: readonly Event[] } & Loaded<State>)
  /** The aggregate refused it; nothing was written. `code` is the argument of `refuse`, or a worker's reason. */
  | ({ readonly status: 'refused'; readonly code: string | null; readonly detail: string } & Loaded<State>);

export interface Repository<State, Commands> {
  /**
   * @throws PermanentError when an event of the entity cannot be applied: it names the first one.
   * @throws UnavailableError
   */
  load(id: string): Promise<Loaded<State>>;
  /**
   * @throws VersionConflictError when the entity is not at the expected version, or after `maxAttempts` concurrent changes.
   * @throws UnavailableError when the outcome is unknown: repeat the same command, with its id.
   * @throws PermanentError for a mistake in the aggregate, or events that cannot be applied.
   */
  handle(id: string, command: CommandOf<Commands>, options?: HandleOptions): Promise<Handled<State>>;
}

const defaultMaxAttempts = 10;

interface Known<State> {
  /** Null before the first event. */
  readonly state: State | null;
  readonly version: number;
}

interface Decided<State> {
  readonly ok: true;
  readonly events: readonly Event[];
  /** After them. */
  readonly state: State | null;
}

interface NotAllowed {
  readonly ok: false;
  readonly code: string | null;
  readonly detail: string;
}

export class AggregateRepository<State, Commands> implements Repository<State, Commands> {
  readonly #aggregate: Aggregate<State, Commands>;
  readonly #store: EventStore;
  readonly #options: RepositoryOptions;
  readonly #time: Time;

  constructor(aggregate: Aggregate<State, Commands>, store: EventStore, options: RepositoryOptions) {
    this.#aggregate = aggregate;
    this.#store = store;
    this.#options = options;
    this.#time = options.time ?? systemTime;
  }

  async load(id: string): Promise<Loaded<State>> {
    return this.#shown(await this.#read(this.#entity(id), await this.#fromSnapshot(this.#entity(id))));
  }

  async handle(id: string, given: CommandOf<Commands>, { expectedVersion }: HandleOptions = {}): Promise<Handled<State>> {
    const entity = this.#entity(id);
    const command = completed(given, this.#time);
    // A command with a new random id cannot be a repetition.
    const before = async (known: Known<State>) => (given.id === undefined ? null : await this.#repeated(entity, command, known));
    let known = await this.#fromSnapshot(entity);
    // With an expected version it must not be decided on another one.
    const maxAttempts = expectedVersion === undefined ? (this.#options.maxAttempts ?? defaultMaxAttempts) : 1;
    return await retryConflicts(this.#time, maxAttempts, async (): Promise<Handled<State>> => {
      known = await this.#read(entity, known);
      const isExpected = expectedVersion === undefined || known.version === expectedVersion;
      const applied = isExpected ? this.#decide(entity, command, known) : null;
      if (applied?.ok) return await this.#append(entity, known, applied, before);
      const repeated = await before(known);
      if (repeated !== null) return repeated;
      if (applied === null) throw new VersionConflictError(expectedVersion ?? 'any', known.version);
      const { code, detail } = applied;
      return { status: 'refused', code, detail, ...this.#shown(known) };
    });
  }

  async #append(
    entity: EntityRef,
    known: Known<State>,
    { events, state }: Decided<State>,
    before: (known: Known<State>) => Promise<Handled<State> | null>,
  ): Promise<Handled<State>> {
    const handled = { status: 'handled' as const, events, ...this.#shown({ state, version: known.version + events.length }) };
    if (events.length === 0) return handled;
    try {
      const { status } = await this.#store.append(entity, events.map(toAppend), { expectedVersion: known.version });
      // The events as they were stored, with their sequences.
      if (status === 'repeated') return (await before(known)) ?? handled;
    } catch (error) {
      // The command led to other events before, when it was decided on another state.
      const repeated = error instanceof EventError && error.reason === 'message_id_conflict' ? await before(known) : null;
      if (repeated === null) throw error;
      return repeated;
    }
    await this.#keepSnapshot(entity, known.version, handled);
    return handled;
  }

  /** The events of a command, and the state after them. */
  #decide(entity: EntityRef, command: Command, known: Known<State>): Decided<State> | NotAllowed {
    const decided = decideCommand(this.#aggregate as Aggregate<State>, command, known.state ?? this.#aggregate.initialState());
    if (!decided.ok) return decided;
    let { state } = known;
    const events: Event[] = [];
    for (const [index, one] of decided.events.entries()) {
      const event = this.#eventOf(entity, command, one, index, known.version);
      const next = evolveEvent(this.#aggregate as Aggregate<State>, state, event, { adopts: false });
      if (!next.ok && next.reason === 'handler_failed') throw new PermanentError(next.detail);
      if (!next.ok) return { ok: false, code: next.reason, detail: next.detail };
      state = next.state;
      events.push(event);
    }
    return { ok: true, events, state };
  }

  #eventOf(entity: EntityRef, command: Command, decided: DecidedEvent, index: number, version: number): Event {
    const { type, data, dataJson, metadata, timestamp = command.timestamp } = decided;
    const schemaVersion = newestSchemaVersion(this.#aggregate, type);
    const marked = { ...command.metadata, ...metadata, ...(schemaVersion === null ? {} : { [schemaVersionKey]: schemaVersion }) };
    const id = eventId(command, index);
    return encodeEvent(
      { ...entity, id, sequence: version + index + 1, type, timestamp, data, dataJson, metadata: marked },
      { limits: noLimits },
    ).event;
  }

  /** Reads the events after the known version. */
  async #read(entity: EntityRef, known: Known<State>): Promise<Known<State>> {
    const events = this.#store.read(entity, { from: known.version + 1 });
    const { state, version, problem } = await foldEvents(this.#aggregate as Aggregate<State>, events, known);
    if (problem !== null) throw new PermanentError(`${entity.entityType} ${entity.entityId}: ${problem}`);
    return { state, version };
  }

  /** The stored events of an earlier command with this id, or null. Reads backwards until it finds them. */
  async #repeated(entity: EntityRef, command: Command, known: Known<State>): Promise<Handled<State> | null> {
    const found: Event[] = [];
    for await (const recorded of this.#store.read(entity, { direction: 'backwards' })) {
      if (isEventOf(command, recorded.id)) found.unshift(eventOf(recorded));
      if (recorded.id === eventId(command, 0))
        return { status: 'repeated', events: found, ...this.#shown(await this.#read(entity, known)) };
    }
    return null;
  }

  async #fromSnapshot(entity: EntityRef): Promise<Known<State>> {
    const none = { state: null, version: 0 };
    if (this.#options.snapshotEvery === undefined) return none;
    const snapshot = await this.#store.readSnapshot(entity);
    if (snapshot === null || snapshot.schemaVersion !== this.#aggregate.schemaVersion) return none;
    try {
      return { state: this.#aggregate.deserialize(snapshot.state), version: snapshot.version };
    } catch {
      // Only a hint: the events say the same.
      return none;
    }
  }

  async #keepSnapshot(entity: EntityRef, before: number, { state, version }: Loaded<State>): Promise<void> {
    const { snapshotEvery: every } = this.#options;
    if (every === undefined || Math.floor(version / every) === Math.floor(before / every)) return;
    const snapshot = { version, schemaVersion: this.#aggregate.schemaVersion, state: this.#aggregate.serialize(state) };
    // Only a hint: without it the next load reads more.
    await this.#store.writeSnapshot(entity, snapshot).catch(() => undefined);
  }

  #shown({ state, version }: Known<State>): Loaded<State> {
    return { state: state ?? this.#aggregate.initialState(), version };
  }

  #entity(entityId: string): EntityRef {
    return { entityType: this.#aggregate.type, entityId };
  }
}

function completed(given: NewCommand<string, unknown>, time: Time): Command {
  const { id = time.uuid(), type, data, timestamp = isoNow(time), metadata = {} } = given;
  return { id, type, data, timestamp: timestampText(timestamp) ?? '', metadata };
}

const idSeparator = '.';

/** A repeated command gives its events the same ids. */
export function eventId({ id }: { readonly id: string }, index: number): string {
  return `${id}${idSeparator}${index + 1}`;
}

function isEventOf({ id }: Command, recordedId: string): boolean {
  return recordedId.startsWith(id + idSeparator) && /^\d+$/.test(recordedId.slice(id.length + idSeparator.length));
}

function toAppend({ id, type, timestamp, dataJson, metadata }: Event): EventToAppend {
  return { id, type, timestamp: timestamp ?? undefined, dataJson, metadata };
}

const pauses = { initialMs: 4, maxMs: 100, leastShare: 0 };

/**
 * Random and growing pauses between the attempts keep the same writers from colliding again.
 *
 * @throws VersionConflictError of the last attempt; any other error at once.
 */
export async function retryConflicts<T>(time: Time, maxAttempts: number, attempt: () => Promise<T>): Promise<T> {
  for (let made = 1; ; made++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof VersionConflictError) || made >= maxAttempts) throw error;
    }
    await sleep(time, backOffMs(pauses, made, time));
  }
}

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

/**
 * Folds an entity's events into its state, by the rules that a worker applies. `known`: the state at the version before the first of
 * the events. Default: none, at 0.
 */
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

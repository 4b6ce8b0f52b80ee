/**
 * Event sourcing with a class: methods check rules and raise events, `apply` derives the state from them, and the repository
 * appends the uncommitted ones. It uses the same log and gives the same guarantees as `defineAggregate`, whose pure functions are
 * easier to test and which has snapshots.
 */
import type { DecidedEvent, Aggregate } from '../aggregates/definition.ts';
import { ConfigError, PermanentError, RefusedError } from '../errors.ts';
import { encodeEvent } from '../events/encode.ts';
import type { Event } from '../events/event.ts';
import type { EventStore } from '../stores/event-store.ts';
import { isoNow, systemTime, type Time } from '../time.ts';
import { eventOf, noLimits, eventId, retryConflicts, AggregateRepository, type Repository, type RepositoryOptions } from './repository.ts';

/** Base class of an event-sourced entity. The subclass names the entity type: `static readonly type = 'order'`. */
export abstract class AggregateRoot {
  readonly id: string;
  #version = 0;
  #uncommitted: Event[] = [];
  #time = systemTime;

  constructor(id: string) {
    this.id = id;
  }

  /** Sequence of the last stored event. */
  get version(): number {
    return this.#version;
  }

  /** Events that were raised but not stored yet, with the sequences that they will have. */
  get uncommittedEvents(): readonly Event[] {
    return this.#uncommitted;
  }

  /** Applies an event to the state, both when it is raised and when it is loaded. It checks no rules: the event has happened. */
  protected abstract apply(event: Event): void;

  /** Raises an event: it is applied now, and appended when the aggregate is saved. */
  protected raise({ type, data, dataJson, metadata, timestamp = isoNow(this.#time) }: DecidedEvent): void {
    const sequence = this.#version + this.#uncommitted.length + 1;
    const entity = { entityType: typeOf(this.constructor as AggregateClass<AggregateRoot>), entityId: this.id };
    // Encoded, so that `apply` sees the same as after loading.
    const given = { ...entity, id: this.#time.uuid(), sequence, type, data, dataJson, metadata, timestamp };
    const { event } = encodeEvent(given, { limits: noLimits });
    this.apply(event);
    this.#uncommitted.push(event);
  }

  /** Refuses the command because of a rule. Never returns. */
  protected refuse(detail: string, code?: string): never {
    throw new RefusedError(detail, code);
  }

  /** The source of ids and times of its events; the repository's once it is loaded. Default: the system's clock. */
  useTime(time: Time): void {
    this.#time = time;
  }

  /** Applies stored events, in order. */
  applyHistory(event: Event): void {
    if (event.sequence !== this.#version + 1)
      throw new PermanentError(`event ${this.#version + 1} is missing: after ${this.#version} comes ${event.sequence}`);
    this.apply(event);
    this.#version = event.sequence;
  }

  /** Call when the raised events are stored. */
  markCommitted(): void {
    this.#version += this.#uncommitted.length;
    this.#uncommitted = [];
  }
}

/** The class of an aggregate. */
export interface AggregateClass<A extends AggregateRoot> {
  new (id: string): A;
  /** Entity type. */
  readonly type: string;
}

export interface ClassRepositoryOptions {
  /** The most attempts when others change the entity at the same time. Default 10. */
  readonly maxAttempts?: number;
  /** Default: the system's clock. */
  readonly time?: Time;
}

export interface WorkOptions {
  /** Identifies the work: repeated under the same id, it has no second effect. Default: none. */
  readonly commandId?: string;
}

export type Worked<A> =
  | { readonly status: 'handled' | 'repeated'; readonly aggregate: A }
  /** A rule did not allow it; nothing was written. */
  | { readonly status: 'refused'; readonly code: string | null; readonly detail: string; readonly aggregate: A };

export interface ClassRepository<A extends AggregateRoot> {
  /** Loads an aggregate; a new one if it has no events. @throws UnavailableError */
  load(id: string): Promise<A>;
  /** Appends uncommitted events. @throws VersionConflictError on a concurrent change; UnavailableError when the outcome is unknown. */
  save(aggregate: A, options?: WorkOptions): Promise<void>;
  /**
   * Loads the entity, does the work and saves; repeats this on the new state after a concurrent change.
   *
   * @throws VersionConflictError after `maxAttempts`; UnavailableError as `save`; PermanentError when the work is asynchronous; whatever
   *   else the work throws.
   */
  handle(id: string, work: (aggregate: A) => void, options?: WorkOptions): Promise<Worked<A>>;
}

const defaultMaxAttempts = 10;

class AggregateRootRepository<A extends AggregateRoot> implements ClassRepository<A> {
  readonly #Class: AggregateClass<A>;
  readonly #store: EventStore;
  readonly #maxAttempts: number;
  readonly #time: Time;

  constructor(Class: AggregateClass<A>, store: EventStore, options: ClassRepositoryOptions) {
    typeOf(Class);
    this.#Class = Class;
    this.#store = store;
    this.#maxAttempts = options.maxAttempts ?? defaultMaxAttempts;
    this.#time = options.time ?? systemTime;
  }

  async load(id: string): Promise<A> {
    return (await this.#read(id, null)).aggregate;
  }

  async save(aggregate: A, options: WorkOptions = {}): Promise<void> {
    await this.#append(aggregate, options);
  }

  async handle(id: string, work: (aggregate: A) => void, options: WorkOptions = {}): Promise<Worked<A>> {
    return await retryConflicts(this.#time, this.#maxAttempts, async (): Promise<Worked<A>> => {
      const { aggregate, isDone } = await this.#read(id, options.commandId ?? null);
      // Not repeated: its rules may refuse the second time what they allowed the first time.
      if (isDone) return { status: 'repeated', aggregate };
      try {
        const result: unknown = work(aggregate);
        if (typeof result === 'object' && result !== null && 'then' in result)
          throw new PermanentError('the work returned a promise: what it does later would not be saved; it must be synchronous');
      } catch (error) {
        if (!(error instanceof RefusedError)) throw error;
        // Without the events that it raised before it was refused.
        return { status: 'refused', code: error.refusal, detail: error.message, aggregate: await this.load(id) };
      }
      const status = await this.#append(aggregate, options);
      return { status, aggregate: status === 'repeated' ? await this.load(id) : aggregate };
    });
  }

  /** `isDone`: the events of the command were stored before. */
  async #read(id: string, commandId: string | null): Promise<{ readonly aggregate: A; readonly isDone: boolean }> {
    const aggregate = new this.#Class(id);
    aggregate.useTime(this.#time);
    const first = commandId === null ? null : eventId({ id: commandId }, 0);
    let isDone = false;
    for await (const recorded of this.#store.read({ entityType: this.#Class.type, entityId: id })) {
      aggregate.applyHistory(eventOf(recorded));
      if (recorded.id === first) isDone = true;
    }
    return { aggregate, isDone };
  }

  async #append(aggregate: A, { commandId }: WorkOptions): Promise<'handled' | 'repeated'> {
    const events = aggregate.uncommittedEvents;
    if (events.length === 0) return 'handled';
    const named = events.map(({ id, type, timestamp, dataJson, metadata }, index) => {
      return {
        id: commandId === undefined ? id : eventId({ id: commandId }, index),
        type,
        timestamp: timestamp ?? undefined,
        dataJson,
        metadata,
      };
    });
    const { status } = await this.#store.append({ entityType: this.#Class.type, entityId: aggregate.id }, named, {
      expectedVersion: aggregate.version,
    });
    aggregate.markCommitted();
    return status === 'repeated' ? 'repeated' : 'handled';
  }
}

function typeOf({ type, name }: AggregateClass<AggregateRoot>): string {
  if (typeof type === 'string' && type !== '') return type;
  throw new ConfigError([`${name} needs a static type: the entity type it is for`]);
}

/** For an aggregate of `defineAggregate`. @throws ConfigError when an option is invalid. */
export function createRepository<State, Commands>(
  aggregate: Aggregate<State, Commands>,
  store: EventStore,
  options?: RepositoryOptions,
): Repository<State, Commands>;
/** For a class. @throws ConfigError when the class names no entity type, or an option is invalid. */
export function createRepository<A extends AggregateRoot>(
  aggregate: AggregateClass<A>,
  store: EventStore,
  options?: ClassRepositoryOptions,
): ClassRepository<A>;
export function createRepository(
  aggregate: Aggregate<unknown, unknown> | AggregateClass<AggregateRoot>,
  store: EventStore,
  options: RepositoryOptions = {},
): Repository<unknown, unknown> | ClassRepository<AggregateRoot> {
  for (const name of ['snapshotEvery', 'maxAttempts'] as const) {
    const value = options[name];
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= 1))
      throw new ConfigError([`createRepository: ${name} is ${String(value)}: it must be a whole number from 1 up`]);
  }
  if (typeof aggregate === 'function') return new AggregateRootRepository(aggregate, store, options);
  if (aggregate.type === '*') throw new ConfigError(['createRepository: the aggregate is for every entity type: name one']);
  return new AggregateRepository(aggregate, store, options);
}

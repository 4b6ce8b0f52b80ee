/**
 * Event sourcing in the form of a class, for those who like it: methods check their rules and raise events, `apply` makes the
 * state of them, and the repository appends what is not committed yet. The same log and the same promises as with
 * `defineAggregate`, whose pure functions are easier to test and which has snapshots.
 */
import type { DecidedEvent } from '../aggregates/definition.ts';
import { ConfigError, PermanentError, RefusedError } from '../errors.ts';
import { encodeEvent } from '../events/encode.ts';
import type { Event } from '../events/event.ts';
import type { EventStore } from '../stores/event-store.ts';
import { isoNow, systemTime, type Time } from '../time.ts';
import { eventOf, noLimits } from './fold.ts';
import { eventId } from './repository.ts';
import { retryConflicts } from './retry-conflicts.ts';

/** The base of an entity that knows what has happened to it. Its class names the entity type: `static readonly type = 'order'`. */
export abstract class AggregateRoot {
  readonly id: string;
  #version = 0;
  #uncommitted: Event[] = [];
  #time = systemTime;

  constructor(id: string) {
    this.id = id;
  }

  /** Sequence of the last event that is in the store. */
  get version(): number {
    return this.#version;
  }

  /** Events that were raised and are not in the store yet, with the sequences that they will have. */
  get uncommittedEvents(): readonly Event[] {
    return this.#uncommitted;
  }

  /** The state after an event, whether it was raised just now or long ago. It checks no rules: it has happened. */
  protected abstract apply(event: Event): void;

  /** Something has happened: it is applied, and appended when the aggregate is saved. */
  protected raise({ type, data, dataJson, metadata, timestamp = isoNow(this.#time) }: DecidedEvent): void {
    const sequence = this.#version + this.#uncommitted.length + 1;
    const entity = { entityType: typeOf(this.constructor as AggregateClass<AggregateRoot>), entityId: this.id };
    // Encoded, so that `apply` sees what it will see when it is read again.
    const given = { ...entity, id: this.#time.uuid(), sequence, type, data, dataJson, metadata, timestamp };
    const { event } = encodeEvent(given, { limits: noLimits });
    this.apply(event);
    this.#uncommitted.push(event);
  }

  /** A rule does not allow what was asked. Never returns. */
  protected refuse(detail: string, code?: string): never {
    throw new RefusedError(detail, code);
  }

  /** Where the ids and the times of its events come from; the repository's, once it has been loaded. Default: the computer. */
  useTime(time: Time): void {
    this.#time = time;
  }

  /** Applies what has happened before, in order. */
  applyHistory(event: Event): void {
    if (event.sequence !== this.#version + 1)
      throw new PermanentError(`event ${this.#version + 1} is missing: after ${this.#version} comes ${event.sequence}`);
    this.apply(event);
    this.#version = event.sequence;
  }

  /** What was raised is in the store. */
  markCommitted(): void {
    this.#version += this.#uncommitted.length;
    this.#uncommitted = [];
  }
}

/** A class of aggregates. */
export interface AggregateClass<A extends AggregateRoot> {
  new (id: string): A;
  /** Entity type. */
  readonly type: string;
}

export interface ClassRepositoryOptions {
  /** How often work is done again because somebody else was faster. Default 10. */
  readonly maxAttempts?: number;
  /** Default: that of the computer. */
  readonly time?: Time;
}

export interface WorkOptions {
  /** Names the work: done again under the same id, it has no second effect. Default: none. */
  readonly commandId?: string;
}

export type Worked<A> =
  | { readonly status: 'handled' | 'repeated'; readonly aggregate: A }
  /** A rule did not allow it; nothing was written. */
  | { readonly status: 'refused'; readonly code: string | null; readonly detail: string; readonly aggregate: A };

export interface ClassRepository<A extends AggregateRoot> {
  /** A new aggregate where there are no events. @throws UnavailableError */
  load(id: string): Promise<A>;
  /** Appends what is not committed. @throws VersionConflictError when somebody else was faster; UnavailableError when it is not known whether it was done. */
  save(aggregate: A, options?: WorkOptions): Promise<void>;
  /**
   * Loads, does the work and saves; again, on what is there then, when somebody else was faster.
   *
   * @throws VersionConflictError after `maxAttempts`; UnavailableError as `save`; PermanentError when the work is asynchronous; whatever
   *   else the work throws.
   */
  handle(id: string, work: (aggregate: A) => void, options?: WorkOptions): Promise<Worked<A>>;
}

const defaultMaxAttempts = 10;

export class AggregateRootRepository<A extends AggregateRoot> implements ClassRepository<A> {
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
      // Not tried again: its rules may refuse a second time what they allowed the first.
      if (isDone) return { status: 'repeated', aggregate };
      try {
        const result: unknown = work(aggregate);
        if (typeof result === 'object' && result !== null && 'then' in result)
          throw new PermanentError('the work returned a promise: what it does later would not be saved; it must be synchronous');
      } catch (error) {
        if (!(error instanceof RefusedError)) throw error;
        // Without what it had raised before it was refused.
        return { status: 'refused', code: error.refusal, detail: error.message, aggregate: await this.load(id) };
      }
      const status = await this.#append(aggregate, options);
      return { status, aggregate: status === 'repeated' ? await this.load(id) : aggregate };
    });
  }

  /** `isDone`: the events of the command are there already. */
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

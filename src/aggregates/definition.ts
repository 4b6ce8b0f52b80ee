/**
 * What a PROCESSOR module exports: aggregates (pure, exactly once in effect) and handlers (side effects, at
 * least once). Both are named by the entity type they are for; `'*'` means every type that has none of its own.
 */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { Event } from '../events/event.ts';

/** A PROCESSOR module may import another copy of this package, whose class is not ours: the mark is the same in all. */
const refusedMark = Symbol.for('inorder.refused');

/**
 * Returned by `refuse()`: the aggregate's rules do not allow it. An event is dead-lettered as `refused`; of a command
 * nothing is appended, and who gave it is told why.
 */
export class Refused {
  readonly detail: string;
  /** For programs; null where none was given. */
  readonly code: string | null;
  readonly [refusedMark] = true;
  constructor(detail: string, code: string | null = null) {
    this.detail = detail;
    this.code = code;
  }
}

export function isRefused(value: unknown): value is Refused {
  return typeof value === 'object' && value !== null && refusedMark in value;
}

/** For use in `evolve` and `decide`: `return refuse('an order that was completed takes no more items', 'order_closed')`. */
export function refuse(detail: string, code?: string): Refused {
  return new Refused(detail, code);
}

/** Next state from state and event. Pure: no clock, no randomness, no I/O; it may run more than once. */
export type Evolve<State> = (state: State, event: Event) => State | Refused;

/** What somebody wants to happen to an entity. */
export interface Command<Data = unknown> {
  /** Names the command: giving it again, as after a reply that was lost, has no second effect. */
  readonly id: string;
  readonly type: string;
  /** When it was given (ISO 8601); its events bear the same time. */
  readonly timestamp: string;
  readonly data: Data;
  /** Its events bear it as well. */
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** An event that a command leads to; its id, sequence and, unless it is said, time are given to it. */
export interface DecidedEvent<Type extends string = string> {
  readonly type: Type;
  readonly data?: unknown;
  /** `data` as JSON text, in place of `data`: large integers and `1.0` stay as they are. */
  readonly dataJson?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** When it happened: a date, or ISO 8601. Default: when the command was given. */
  readonly timestamp?: string | Date;
}

/** One event or several, which happen together; none where there is nothing to do; or why it may not be. */
export type Decision<Type extends string = string> = DecidedEvent<Type> | readonly DecidedEvent<Type>[] | Refused;

/** What follows from a command in a state. Pure: no clock, no randomness, no I/O; it may run more than once. */
export type Decide<State, Data> = (command: Command<Data>, state: State) => Decision;

/** The data of an event as its next schema version has them. Pure. */
export type Upcast = (data: unknown, event: Event) => unknown;

/** `Commands` are the types of commands that it decides, each with the type of its data. */
export interface Aggregate<State = unknown, Commands = Record<never, never>> {
  readonly kind: 'aggregate';
  /** Entity type, or `'*'`. */
  readonly type: string;
  readonly initialState: () => State;
  /** Event types that may come first. Absent: any may. */
  readonly creates: ReadonlySet<string> | null;
  /** By event type; `'*'` for every other. An event type that is not in it is refused. */
  readonly evolve: ReadonlyMap<string, Evolve<State>>;
  /** By event type: checks `data` before `evolve` sees it; failing is `invalid_data`. */
  readonly schema: ReadonlyMap<string, StandardSchemaV1>;
  /** By event type: from schema version 1 to 2, from 2 to 3 and so on, before `schema` and `evolve` see the event. */
  readonly upcast: ReadonlyMap<string, readonly Upcast[]>;
  /** By command type, without a prototype. */
  readonly decide: { readonly [Type in keyof Commands]: Decide<State, Commands[Type]> };
  /** Of the state: a snapshot of another one is not used. */
  readonly schemaVersion: number;
  /** State to text and back. Default JSON. */
  readonly serialize: (state: State) => string;
  readonly deserialize: (text: string) => State;
}

export interface HandlerContext {
  /** `type:id:sequence`: the same for every attempt at this event, in any process. */
  readonly idempotencyKey: string;
  /** 1 for the first attempt. */
  readonly attempt: number;
  /** Aborted at HANDLER_TIMEOUT_MS or when the worker loses the entity. */
  readonly signal: AbortSignal;
  /** The message's AMQP headers (`traceparent` among them), unchecked. */
  readonly headers: Readonly<Record<string, unknown>>;
}

export interface Handler {
  readonly kind: 'handler';
  /** Entity type, or `'*'`. */
  readonly type: string;
  /** What it returns (JSON) is remembered for IDEMPOTENCY_TTL_SECONDS and sent to `replyTo`. */
  readonly handle: (event: Event, context: HandlerContext) => unknown;
}

/** Of whatever state: `evolve` takes and returns the state, so that no other type stands for all of them. */
// biome-ignore lint/suspicious/noExplicitAny: see above
export type AnyAggregate = Aggregate<any>;

export type Processor = AnyAggregate | Handler;

/**
 * The types of a PROCESSOR module's exports: aggregates (pure, exactly once in effect) and handlers (side effects, at
 * least once). Both are for one entity type, or with `'*'` for every type without a separate one.
 */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { Event } from '../events/event.ts';

/** A PROCESSOR module may import another copy of this package, with another class: the mark is the same in all copies. */
const refusedMark = Symbol.for('inorder.refused');

/**
 * Returned by `refuse()`: the aggregate's rules do not allow it. An event is dead-lettered as `refused`; a command
 * appends nothing, and its sender gets the reason.
 */
export class Refused {
  readonly detail: string;
  /** For programs; null if none was given. */
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

/** A request to change an entity. */
export interface Command<Data = unknown> {
  /** Identifies the command: repeating it, for instance after a lost reply, has no second effect. */
  readonly id: string;
  readonly type: string;
  /** The time of the command (ISO 8601), also of its events. */
  readonly timestamp: string;
  readonly data: Data;
  /** Also the metadata of its events. */
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** An event of a command; id, sequence and, by default, time are assigned to it. */
export interface DecidedEvent<Type extends string = string> {
  readonly type: Type;
  readonly data?: unknown;
  /** `data` as JSON text, instead of `data`: large integers and `1.0` are kept as written. */
  readonly dataJson?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** When it happened: a date, or ISO 8601. Default: the time of the command. */
  readonly timestamp?: string | Date;
}

/** One event, several that happen together, none if there is nothing to do, or a refusal. */
export type Decision<Type extends string = string> = DecidedEvent<Type> | readonly DecidedEvent<Type>[] | Refused;

/** Decides a command in a state. Pure: no clock, no randomness, no I/O; it may run more than once. */
export type Decide<State, Data> = (command: Command<Data>, state: State) => Decision;

/** Converts the data of an event to the next schema version. Pure. */
export type Upcast = (data: unknown, event: Event) => unknown;

/** `Commands` has the data type of each command type. */
export interface Aggregate<State = unknown, Commands = Record<never, never>> {
  readonly kind: 'aggregate';
  /** Entity type, or `'*'`. */
  readonly type: string;
  readonly initialState: () => State;
  /** Event types that may come first. Absent: any may. */
  readonly creates: ReadonlySet<string> | null;
  /** By event type; `'*'` for all others. Other event types are refused. */
  readonly evolve: ReadonlyMap<string, Evolve<State>>;
  /** By event type: checks `data` before `evolve` sees it; failing is `invalid_data`. */
  readonly schema: ReadonlyMap<string, StandardSchemaV1>;
  /** By event type: from schema version 1 to 2, from 2 to 3 and so on, before `schema` and `evolve` see the event. */
  readonly upcast: ReadonlyMap<string, readonly Upcast[]>;
  /** By command type, without a prototype. */
  readonly decide: { readonly [Type in keyof Commands]: Decide<State, Commands[Type]> };
  /** The version of the state: a snapshot with another one is ignored. */
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
  /** Its result (JSON) is remembered for IDEMPOTENCY_TTL_SECONDS and sent to `replyTo`. */
  readonly handle: (event: Event, context: HandlerContext) => unknown;
}

/** With any state: `evolve` takes and returns the state, so no narrower type fits all aggregates. */
// biome-ignore lint/suspicious/noExplicitAny: see above
export type AnyAggregate = Aggregate<any>;

export type Processor = AnyAggregate | Handler;

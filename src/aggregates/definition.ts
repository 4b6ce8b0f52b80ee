/**
 * What a PROCESSOR module exports: aggregates (pure, exactly once in effect) and handlers (side effects, at
 * least once). Both are named by the entity type they are for; `'*'` means every type that has none of its own.
 */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { Event } from '../events/event.ts';

/** A PROCESSOR module may import another copy of this package, whose class is not ours: the mark is the same in all. */
const refusedMark = Symbol.for('inorder.refused');

/** Returned by `refuse()`: the aggregate's rules do not allow the event. It is dead-lettered as `refused`. */
export class Refused {
  readonly detail: string;
  readonly [refusedMark] = true;
  constructor(detail: string) {
    this.detail = detail;
  }
}

export function isRefused(value: unknown): value is Refused {
  return typeof value === 'object' && value !== null && refusedMark in value;
}

/** For use in `evolve`: `return refuse('an order that was completed takes no more items')`. */
export function refuse(detail: string): Refused {
  return new Refused(detail);
}

/** Next state from state and event. Pure: no clock, no randomness, no I/O; it may run more than once. */
export type Evolve<State> = (state: State, event: Event) => State | Refused;

export interface Aggregate<State = unknown> {
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

export type Processor = Aggregate<any> | Handler;

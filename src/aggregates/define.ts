/**
 * `defineAggregate` and `defineHandler`: turn a user's plain objects into the definitions that the
 * worker runs. All problems of a definition are reported when it is made, not when an event of
 * the affected type arrives. Look-ups use maps, so an event type `constructor` finds nothing.
 */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { ConfigError } from '../errors.ts';
import type { Event } from '../events/event.ts';
import type { Aggregate, Command, Decision, Evolve, Handler, HandlerContext, Refused, Upcast } from './definition.ts';

type Schemas = StandardSchemaV1 | Readonly<Record<string, StandardSchemaV1>>;

/** The output type of an event type's schema; `unknown` without one. */
type DataOf<S, Type> = S extends StandardSchemaV1
  ? StandardSchemaV1.InferOutput<S>
  : Type extends keyof S
    ? S[Type] extends StandardSchemaV1
      ? StandardSchemaV1.InferOutput<S[Type]>
      : unknown
    : unknown;

/** An event with validated data. */
export type EventWith<Data> = Omit<Event, 'data'> & { readonly data: Data };

/** The event types that `decide` may return: those of `evolve`. */
type DecidedType<Types extends string> = '*' extends Types ? string : Types;

export interface AggregateOptions<State, Types extends string, S extends Schemas, Commands = Record<never, never>> {
  /** Entity type, or `'*'` for every type without a separate aggregate. */
  readonly type: string;
  /** The state before the first event: a value, which is copied for each entity, or a function that returns it. */
  readonly initialState: State | (() => State);
  /** Event types that may come first; any other first event is dead-lettered as `not_created`. Default: any may. */
  readonly creates?: string | readonly string[];
  /**
   * Next state by event type; `'*'` for all other types. Pure: no clock, no randomness, no I/O, and it must not
   * change the given state, because an event may be applied again. Returning `refuse('why')` dead-letters the event as
   * `refused`; so does an event type without an entry.
   */
  readonly evolve: { readonly [Type in Types]: (state: NoInfer<State>, event: EventWith<DataOf<S, Type>>) => NoInfer<State> | Refused };
  /**
   * Any Standard Schema (zod, valibot, arktype…), one for all or by event type (`'*'` for the rest): validates `data`;
   * `evolve` gets its output. A failure is `invalid_data`. Must be synchronous.
   */
  readonly schema?: S;
  /**
   * By command type: returns the events of a command in a state, or `refuse('why')`. Pure, like `evolve`. The function's parameter
   * declares the type of a command's data: `(command: Command<{ sku: string }>, order) => …`. For `createRepository`;
   * a worker does not use it.
   */
  readonly decide?: {
    readonly [Type in keyof Commands]: (command: Command<Commands[Type]>, state: NoInfer<State>) => Decision<DecidedType<NoInfer<Types>>>;
  };
  /**
   * By event type: functions that convert the data of old events, the first from schema version 1 to 2, the next from
   * 2 to 3 and so on. An event's version is `schema_version` in its metadata, by default 1; events of `decide` have
   * the newest. `schema` and `evolve` see only the newest; an unknown version is `invalid_data`.
   */
  readonly upcast?: { readonly [Type in NoInfer<Types>]?: readonly Upcast[] };
  /** The version of the state, for snapshots: raise it when `evolve` gives another state for the same events. Default 1. */
  readonly schemaVersion?: number;
  /** State to text. Default `JSON.stringify`. */
  readonly serialize?: (state: NoInfer<State>) => string;
  /** Text to state. Default `JSON.parse`. */
  readonly deserialize?: (text: string) => NoInfer<State>;
}

/**
 * Defines an aggregate: state that the worker keeps per entity, with each event applied exactly once in effect.
 * Throws `ConfigError` with all problems.
 */
export function defineAggregate<State, Types extends string, S extends Schemas = Record<never, never>, Commands = Record<never, never>>(
  options: AggregateOptions<State, Types, S, Commands>,
): Aggregate<State, Commands> {
  const problems = aggregateProblems(options);
  if (problems.length > 0) throw new ConfigError(problems);
  const { type, initialState, creates, evolve, schema, upcast = {}, decide = {}, schemaVersion = 1, serialize, deserialize } = options;
  return {
    kind: 'aggregate',
    type,
    initialState: isFunction(initialState) ? (initialState as () => State) : () => structuredClone(initialState as State),
    creates: creates === undefined ? null : new Set(typeof creates === 'string' ? [creates] : creates),
    // Each function gets validated data of its declared type.
    evolve: new Map(Object.entries(evolve) as [string, Evolve<State>][]),
    schema: schema === undefined ? new Map() : isSchema(schema) ? new Map([['*', schema]]) : new Map(Object.entries(schema)),
    upcast: new Map(Object.entries(upcast) as [string, readonly Upcast[]][]),
    decide: Object.assign(Object.create(null), decide) as Aggregate<State, Commands>['decide'],
    schemaVersion,
    serialize: serialize ?? ((state) => JSON.stringify(state)),
    deserialize: deserialize ?? ((text) => JSON.parse(text) as State),
  };
}

export interface HandlerOptions {
  /** Entity type, or `'*'` for every type without a separate handler. */
  readonly type: string;
  /**
   * The side effect of one event. Runs at least once, in order within the entity; a repeated run has the same
   * `context.idempotencyKey`. Its result (JSON) is remembered and sent to `replyTo`. Throw `PermanentError`
   * when a retry is useless, `UnavailableError` while something it needs is unavailable.
   */
  readonly handle: (event: Event, context: HandlerContext) => unknown;
}

/** Defines a handler. Throws `ConfigError` with all problems. */
export function defineHandler(options: HandlerOptions): Handler {
  const problems = handlerProblems(options);
  if (problems.length > 0) throw new ConfigError(problems);
  return { kind: 'handler', type: options.type, handle: options.handle };
}

function aggregateProblems(options: unknown): string[] {
  if (!isObject(options)) return ['an aggregate is defined by an object { type, initialState, evolve }'];
  const { type, initialState, creates, evolve, schema } = options;
  const who = isName(type) ? `aggregate "${type}"` : 'an aggregate';
  const problems = isName(type) ? [] : ['an aggregate needs a type: the entity type it is for, or "*"'];
  if (initialState === undefined || initialState === null)
    problems.push(`${who} needs an initialState: a value, or a function that makes one`);
  else if (!isFunction(initialState) && !isCloneable(initialState))
    problems.push(`${who}: initialState cannot be copied: give a function that makes one`);
  if (creates !== undefined && !(isName(creates) || (Array.isArray(creates) && creates.length > 0 && creates.every(isName)))) {
    problems.push(`${who}: creates is not an event type or a list of them`);
  }
  problems.push(...evolveProblems(who, evolve, creates), ...schemaProblems(who, schema));
  problems.push(...decideProblems(who, options.decide), ...upcastProblems(who, options.upcast, evolve));
  const { schemaVersion = 1 } = options;
  if (!Number.isSafeInteger(schemaVersion) || (schemaVersion as number) < 1)
    problems.push(`${who}: schemaVersion is not a whole number from 1 up`);
  for (const name of ['serialize', 'deserialize'] as const) {
    if (options[name] !== undefined && !isFunction(options[name])) problems.push(`${who}: ${name} is not a function`);
  }
  return problems;
}

function evolveProblems(who: string, evolve: unknown, creates: unknown): string[] {
  if (!isObject(evolve) || Object.keys(evolve).length === 0) return [`${who} needs evolve: an object of functions by event type`];
  const problems = Object.entries(evolve)
    .filter(([, evolveOne]) => !isFunction(evolveOne))
    .map(([eventType]) => `${who}: evolve.${eventType} is not a function`);
  for (const eventType of [creates].flat()) {
    if (isName(eventType) && !Object.hasOwn(evolve, eventType) && !Object.hasOwn(evolve, '*')) {
      problems.push(`${who}: creates names "${eventType}", which evolve does not know`);
    }
  }
  return problems;
}

function schemaProblems(who: string, schema: unknown): string[] {
  if (schema === undefined || isSchema(schema)) return [];
  if (!isObject(schema)) return [`${who}: schema is neither a Standard Schema nor an object of them by event type`];
  return Object.entries(schema)
    .filter(([, one]) => !isSchema(one))
    .map(([eventType]) => `${who}: schema.${eventType} is not a Standard Schema`);
}

function decideProblems(who: string, decide: unknown): string[] {
  if (decide === undefined) return [];
  if (!isObject(decide)) return [`${who}: decide is not an object of functions by command type`];
  return Object.entries(decide)
    .filter(([, decideOne]) => !isFunction(decideOne))
    .map(([commandType]) => `${who}: decide.${commandType} is not a function`);
}

function upcastProblems(who: string, upcast: unknown, evolve: unknown): string[] {
  if (upcast === undefined) return [];
  if (!isObject(upcast)) return [`${who}: upcast is not an object of lists of functions by event type`];
  return Object.entries(upcast).flatMap(([eventType, steps]) => {
    const problems = Array.isArray(steps) && steps.every(isFunction) ? [] : [`${who}: upcast.${eventType} is not a list of functions`];
    // Only types with a separate rule: with a misspelt name old events would not be converted.
    if (isObject(evolve) && !Object.hasOwn(evolve, eventType))
      problems.push(`${who}: upcast names "${eventType}", which evolve does not know`);
    return problems;
  });
}

function handlerProblems(options: unknown): string[] {
  if (!isObject(options)) return ['a handler is defined by an object { type, handle }'];
  const problems = isName(options.type) ? [] : ['a handler needs a type: the entity type it is for, or "*"'];
  const who = isName(options.type) ? `handler "${options.type}"` : 'a handler';
  if (!isFunction(options.handle)) problems.push(`${who} needs handle: a function of event and context`);
  return problems;
}

/** Some schema libraries make schemas that are functions. */
function isSchema(value: unknown): value is StandardSchemaV1 {
  if (!isObject(value) && !isFunction(value)) return false;
  const standard: unknown = (value as unknown as Record<string, unknown>)['~standard'];
  return isObject(standard) && isFunction(standard.validate);
}

function isCloneable(value: unknown): boolean {
  try {
    structuredClone(value);
    return true;
  } catch {
    return false;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isFunction(value: unknown): value is (...args: unknown[]) => unknown {
  return typeof value === 'function';
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

/**
 * One step of an aggregate. `evolveEvent`: from state and event to the next state or a failure. It never throws: a processor's
 * mistake is an outcome, which dead-letters the event and stops nothing else. `decideCommand`: from state and command to events or
 * a refusal; the caller checks the events with `evolveEvent`. A mistake there is thrown, because it is in the caller's program.
 *
 * Before the step the data of an old event is upcast to the newest schema version. `schema_version` in an event's metadata is its
 * version; an aggregate with upcasters for the type sees only the newest one. The event as written, `dataJson`, does not change.
 */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { PermanentError } from '../errors.ts';
import type { Event } from '../events/event.ts';
import { quoted } from '../events/json-body.ts';
import type { RejectionReason } from '../events/reasons.ts';
import { withoutSecrets } from '../printable.ts';
import { type Aggregate, type AnyAggregate, isRefused, type Command, type Decide, type DecidedEvent, type Decision } from './definition.ts';
import { describeThrown, reasonOf } from './thrown.ts';

export type EvolveFailure = Extract<RejectionReason, 'not_created' | 'refused' | 'invalid_data' | 'handler_failed'>;

export type Evolved<State> =
  | { readonly ok: true; readonly state: State }
  | { readonly ok: false; readonly reason: EvolveFailure; readonly detail: string; readonly stack?: string | null };

export interface EvolveOptions {
  /** The entity is adopted in mid-stream (`FIRST_SEQUENCE=any`): its first event need not be one that creates it. */
  readonly adopts: boolean;
}

/** `state` is null before the first event of the entity is applied. */
export function evolveEvent<State>(
  aggregate: Aggregate<State>,
  state: State | null,
  event: Event,
  { adopts }: EvolveOptions,
): Evolved<State> {
  if (state === null && !adopts && aggregate.creates !== null && !aggregate.creates.has(event.type)) {
    return failure(
      'not_created',
      `the first event is ${quoted(event.type)}, and the entity begins with ${[...aggregate.creates].map((type) => quoted(type)).join(' or ')}`,
    );
  }
  const evolve = aggregate.evolve.get(event.type) ?? aggregate.evolve.get('*');
  if (evolve === undefined) {
    return failure('refused', `aggregate ${quoted(aggregate.type)} has no rule for events of type ${quoted(event.type)}`);
  }
  try {
    const upcast = upcastEvent(aggregate, event);
    if (!upcast.ok) return failure('invalid_data', upcast.detail);
    const checked = checkData(aggregate, upcast.event);
    if (!checked.ok) return checked;
    const next = evolve(state ?? aggregate.initialState(), checked.event);
    if (isRefused(next)) return failure('refused', next.detail);
    return stateFrom(next, event);
  } catch (error) {
    const { detail, stack } = describeThrown(error, event);
    return { ...failure(reasonOf(error), `evolve for ${quoted(event.type)} threw ${detail}`), stack };
  }
}

/** The key in an event's metadata. */
export const schemaVersionKey = 'schema_version';

type Upcasted = { readonly ok: true; readonly event: Event } | { readonly ok: false; readonly detail: string };

/** The version of new events of the type; null if the aggregate has no versions for it. */
export function newestSchemaVersion(aggregate: AnyAggregate, eventType: string): number | null {
  const steps = aggregate.upcast.get(eventType);
  return steps === undefined ? null : steps.length + 1;
}

/** Throws the errors of upcasters. */
function upcastEvent(aggregate: AnyAggregate, event: Event): Upcasted {
  const steps = aggregate.upcast.get(event.type);
  if (steps === undefined) return { ok: true, event };
  const newest = steps.length + 1;
  const version = Object.hasOwn(event.metadata, schemaVersionKey) ? event.metadata[schemaVersionKey] : 1;
  if (typeof version !== 'number' || !Number.isSafeInteger(version) || version < 1) {
    return { ok: false, detail: `metadata.${schemaVersionKey} is not a whole number from 1 up` };
  }
  if (version > newest)
    return { ok: false, detail: `it is of schema version ${version}, and the aggregate knows versions up to ${newest}` };
  if (version === newest) return { ok: true, event };
  let { data } = event;
  for (const step of steps.slice(version - 1)) data = step(data, event);
  return { ok: true, event: { ...event, data } };
}

type Checked = { readonly ok: true; readonly event: Event } | (Evolved<never> & { readonly ok: false });

function checkData<State>(aggregate: Aggregate<State>, event: Event): Checked {
  const schema = aggregate.schema.get(event.type) ?? aggregate.schema.get('*');
  if (schema === undefined) return { ok: true, event };
  const result = schema['~standard'].validate(event.data);
  if (isPromise(result)) {
    ignore(result);
    return failure('handler_failed', `the schema for ${quoted(event.type)} is asynchronous: a schema must answer at once`);
  }
  if (result.issues) return failure('invalid_data', issueText(result.issues));
  return { ok: true, event: result.value === event.data ? event : { ...event, data: result.value } };
}

function stateFrom<State>(next: State, event: Event): Evolved<State> {
  if (isPromise(next)) {
    ignore(next);
    return failure(
      'handler_failed',
      `evolve for ${quoted(event.type)} returned a promise: it must be synchronous; side effects belong into a handler`,
    );
  }
  if (next === undefined || next === null) {
    return failure('handler_failed', `evolve for ${quoted(event.type)} returned ${String(next)}: it must return the next state`);
  }
  return { ok: true, state: next };
}

function issueText(issues: readonly StandardSchemaV1.Issue[]): string {
  const texts = issues.slice(0, 5).map(({ path = [], message }) => {
    const keys = path.map((segment) => String(typeof segment === 'object' ? segment.key : segment));
    return `${['data', ...keys].join('.')}: ${message}`;
  });
  return texts.join('; ') || 'data does not satisfy the schema';
}

function failure(reason: EvolveFailure, detail: unknown): { readonly ok: false; readonly reason: EvolveFailure; readonly detail: string } {
  return { ok: false, reason, detail: withoutSecrets(String(detail)) };
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}

/** Ignores a promise: its rejection must not end the process. */
function ignore(promise: PromiseLike<unknown>): void {
  promise.then(
    () => {},
    () => {},
  );
}

export type Decided =
  | { readonly ok: true; readonly events: readonly DecidedEvent[] }
  | { readonly ok: false; readonly code: string | null; readonly detail: string };

/** Throws `PermanentError` when `decide` returns no decision, and the errors of `decide`. */
export function decideCommand<State>(aggregate: Aggregate<State>, command: Command, state: State): Decided {
  // The object has no prototype, so a command of type `constructor` finds nothing.
  const decide = (aggregate.decide as Readonly<Record<string, Decide<State, unknown> | undefined>>)[command.type];
  if (decide === undefined)
    return {
      ok: false,
      code: 'unknown_command',
      detail: `aggregate "${aggregate.type}" has no rule for commands of type "${command.type}"`,
    };
  return decidedBy(`decide for "${command.type}"`, decide(command, state));
}

/** `what` names the function in error messages. */
function decidedBy(what: string, decision: Decision): Decided {
  if (isRefused(decision)) return { ok: false, code: decision.code ?? null, detail: decision.detail };
  const events: readonly DecidedEvent[] = Array.isArray(decision) ? decision : [decision as DecidedEvent];
  if (!events.every(isDecidedEvent)) {
    throw new PermanentError(`${what} returned something else than events or refuse('why'); it must be synchronous`);
  }
  return { ok: true, events };
}

function isDecidedEvent(value: unknown): value is DecidedEvent {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';
}

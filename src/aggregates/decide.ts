/**
 * One decision of an aggregate: from command and state to events or a refusal. The caller checks the events
 * with `evolve`. A mistake in the aggregate is thrown, because it is in the caller's program.
 */
import { PermanentError } from '../errors.ts';
import { type Aggregate, type Command, type Decide, type DecidedEvent, type Decision, isRefused } from './definition.ts';

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

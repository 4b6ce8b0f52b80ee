/**
 * One decision of an aggregate: command and state in, events or the reason why not out. Whether the events agree with
 * `evolve` is seen by who applies them. A mistake in the aggregate is thrown, for the caller's program has it.
 */
import { PermanentError } from '../errors.ts';
import { type Aggregate, type Command, type Decide, type DecidedEvent, type Decision, isRefused } from './definition.ts';

export type Decided =
  | { readonly ok: true; readonly events: readonly DecidedEvent[] }
  | { readonly ok: false; readonly code: string | null; readonly detail: string };

/** Throws `PermanentError` when what `decide` returned is no decision, and what `decide` throws. */
export function decideCommand<State>(aggregate: Aggregate<State>, command: Command, state: State): Decided {
  // Without a prototype, so that a command of type `constructor` finds nothing.
  const decide = (aggregate.decide as Readonly<Record<string, Decide<State, unknown> | undefined>>)[command.type];
  if (decide === undefined)
    return {
      ok: false,
      code: 'unknown_command',
      detail: `aggregate "${aggregate.type}" has no rule for commands of type "${command.type}"`,
    };
  return decidedBy(`decide for "${command.type}"`, decide(command, state));
}

/** `what` is who decided, for the one who reads that it was a mistake. */
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

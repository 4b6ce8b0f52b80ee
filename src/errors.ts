/**
 * Every exception that Inorder throws on purpose. Expected outcomes (a duplicate, a stale version, a refused
 * event) are values, not exceptions; what is thrown says by `code` what happened and by `retryable` whether
 * doing the same thing again can succeed. Each class says what becomes of the event being worked on.
 */

export interface InorderErrorOptions {
  readonly cause?: unknown;
}

/** What was thrown, in words. Anything can be thrown, also what cannot be turned into text. */
export function messageOf(thrown: unknown): string {
  try {
    return thrown instanceof Error ? thrown.message : String(thrown);
  } catch {
    return 'something that cannot be printed';
  }
}

/** The base of them all: `catch (e) { if (e instanceof InorderError) … }`. */
export abstract class InorderError extends Error {
  abstract readonly code: string;
  abstract readonly retryable: boolean;

  constructor(message: string, options: InorderErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
  }
}

/** Bad usage or configuration: all problems at once, each naming its variable or flag. The process exits 2. */
export class ConfigError extends InorderError {
  readonly code = 'CONFIG';
  readonly retryable = false;
  readonly problems: readonly string[];

  constructor(problems: readonly string[], options?: InorderErrorOptions) {
    super(problems.join('\n'), options);
    this.problems = problems;
  }
}

/** A file or a pipe is broken from here on: what was read of it before is good, the rest cannot be had. */
export class InputError extends InorderError {
  readonly code = 'INPUT';
  readonly retryable = false;
}

/** The store or the broker cannot be reached or cannot serve now: back off and ask again; nothing is dead-lettered. */
export class UnavailableError extends InorderError {
  readonly code = 'UNAVAILABLE';
  readonly retryable = true;
}

/** This event can never be processed: it is dead-lettered now, under `reason`. */
export class EventError extends InorderError {
  readonly code = 'EVENT';
  readonly retryable = false;
  readonly reason: string;

  constructor(reason: string, message: string, options?: InorderErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/** An append or a commit expected another version than the one that is stored. Reload and decide again. */
export class VersionConflictError extends InorderError {
  readonly code = 'VERSION_CONFLICT';
  readonly retryable = true;
  readonly expected: number | string;
  readonly actual: number;

  constructor(expected: number | string, actual: number, options?: InorderErrorOptions) {
    super(`expected version ${expected}, but the store is at ${actual}`, options);
    this.expected = expected;
    this.actual = actual;
  }
}

/** The rules of an aggregate of the class form do not allow what was asked: nothing was written. */
export class RefusedError extends InorderError {
  readonly code = 'REFUSED';
  readonly retryable = false;
  /** For programs; null where none was given. */
  readonly refusal: string | null;

  constructor(detail: string, refusal: string | null = null, options?: InorderErrorOptions) {
    super(detail, options);
    this.refusal = refusal;
  }
}

/** Thrown by a processor that knows a retry is useless: the event is dead-lettered at once as `handler_failed`. */
export class PermanentError extends InorderError {
  readonly code = 'PERMANENT';
  readonly retryable = false;
}

/** A bug in Inorder: the worker stops, so that a standby takes over with the state that was committed. */
export class InvariantError extends InorderError {
  readonly code = 'INVARIANT';
  readonly retryable = false;
}

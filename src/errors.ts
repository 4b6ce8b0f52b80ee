/**
 * The exceptions that Inorder throws on purpose; `InProgressError` is in `idempotency/`. Expected outcomes (a duplicate, a stale
 * version, a refused event) are values, not exceptions. `code` says what happened, `retryable` whether the same call can succeed
 * later. Each class documents what becomes of the event in work.
 */

import { withoutSecrets } from './printable.ts';

export interface InorderErrorOptions {
  readonly cause?: unknown;
}

/** The message of anything that was thrown, also of a value without a text; without secrets and bounded, for it may be anybody's. */
export function messageOf(thrown: unknown): string {
  try {
    return withoutSecrets(thrown instanceof Error ? thrown.message : String(thrown));
  } catch {
    return 'something that cannot be printed';
  }
}

/** The base class: `catch (e) { if (e instanceof InorderError) … }`. */
export abstract class InorderError extends Error {
  abstract readonly code: string;
  abstract readonly retryable: boolean;

  constructor(message: string, options: InorderErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
  }
}

/** Bad usage or configuration, with all problems, each naming its variable or option. The process exits with 2. */
export class ConfigError extends InorderError {
  readonly code = 'CONFIG';
  readonly retryable = false;
  readonly problems: readonly string[];

  constructor(problems: readonly string[], options?: InorderErrorOptions) {
    super(problems.join('\n'), options);
    this.problems = problems;
  }
}

/** A file or a pipe is damaged from here on: what was read before is valid, the rest cannot be read. */
export class InputError extends InorderError {
  readonly code = 'INPUT';
  readonly retryable = false;
}

/** The store or the broker is unavailable: back off and ask again; nothing is dead-lettered. */
export class UnavailableError extends InorderError {
  readonly code = 'UNAVAILABLE';
  readonly retryable = true;
}

/**
 * This event can never be processed. Publishing or appending it throws this, with the reason that a worker would give, and nothing is
 * written. Thrown by a processor: its event is dead-lettered at once, as `refused` or `invalid_data` if `reason` is one of them, else
 * as `handler_failed`.
 */
export class EventError extends InorderError {
  readonly code = 'EVENT';
  readonly retryable = false;
  readonly reason: string;

  constructor(reason: string, message: string, options?: InorderErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/** An append or a commit expected another version than the stored one. Reload and decide again. */
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

/** The rules of an aggregate class refused a command: nothing was written. */
export class RefusedError extends InorderError {
  readonly code = 'REFUSED';
  readonly retryable = false;
  /** For programs; null if none was given. */
  readonly refusal: string | null;

  constructor(detail: string, refusal: string | null = null, options?: InorderErrorOptions) {
    super(detail, options);
    this.refusal = refusal;
  }
}

/** Thrown by a processor when a retry is useless: the event is dead-lettered at once as `handler_failed`. */
export class PermanentError extends InorderError {
  readonly code = 'PERMANENT';
  readonly retryable = false;
}

/** A bug in Inorder: the worker stops, and a standby takes over with the committed state. */
export class InvariantError extends InorderError {
  readonly code = 'INVARIANT';
  readonly retryable = false;
}

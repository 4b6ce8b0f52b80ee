/**
 * The exceptions that Inorder throws on purpose; `InProgressError` is in `idempotency/`. Expected outcomes (a duplicate, a stale
 * version, a refused event) are values, not exceptions. `code` says what happened, `retryable` whether the same call can succeed
 * later. Each class documents what becomes of the event in work. And what every error of others is read with: its message without
 * secrets, and the words of one that broker, store and network have in common.
 */

import { withoutSecrets } from './printable.ts';

export interface InorderErrorOptions {
  readonly cause?: unknown;
  /** What to do, with which the message ends. Default: null, it does not say. */
  readonly remedy?: string | null;
}

/** The message of anything that was thrown, also of a value without a text; without secrets and bounded, for it may be anybody's. */
export function messageOf(thrown: unknown): string {
  try {
    // A host with several addresses fails with an error that has a code and no message.
    const text = thrown instanceof Error ? thrown.message || ('code' in thrown && thrown.code) || thrown.name : thrown;
    return withoutSecrets(String(text));
  } catch {
    return 'something that cannot be printed';
  }
}

/** The base class: `catch (e) { if (e instanceof InorderError) … }`. */
export abstract class InorderError extends Error {
  abstract readonly code: string;
  abstract readonly retryable: boolean;
  /** What to do, with which the message ends; null: it does not say. */
  readonly remedy: string | null;

  constructor(message: string, { cause, remedy = null }: InorderErrorOptions = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.remedy = remedy;
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

/**
 * What an error says of a process that has no file descriptor left. Each connection takes one, and so does each open file; without any
 * left nothing can be connected or accepted. Node.js raises its own soft limit to the hard one at its start, where it may.
 */
export const noDescriptorLeft = {
  words: /\bEMFILE\b/,
  meaning: 'this process has no file descriptor left',
  remedy: 'Raise its limit of open files (`ulimit -n`, LimitNOFILE of systemd, ulimits of Docker).',
} as const;

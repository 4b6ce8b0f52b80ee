/**
 * Time and randomness as one port, passed in from the top, so that everything can run repeatably on a virtual clock. Also the
 * real implementation, and functions built on the port: sleep, time limits, back-off, repetition.
 */
import { randomUUID } from 'node:crypto';
import { UnavailableError } from './errors.ts';

export interface Time {
  /** Monotonic milliseconds since some moment. For durations. */
  nowMs(): number;
  /** Milliseconds since 1970 by the system's clock, which may jump. For points in time. */
  wallMs(): number;
  /** Calls `go` once, after `ms` milliseconds. */
  after(ms: number, go: () => void, options?: TimerOptions): Timer;
  /** Calls `go` at the end of this tick of the event loop. */
  afterTick(go: () => void): void;
  /** A random number from 0 up to but not including 1. Not for secrets. */
  random(): number;
  /** A random UUID. */
  uuid(): string;
}

export interface Timer {
  /** Prevents the call; no effect once it was made. */
  cancel(): void;
}

export interface TimerOptions {
  /** Whether the timer lets the process end. Default false. */
  readonly unref?: boolean;
}

export const systemTime: Time = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  after: (ms, go, options) => {
    const timer = setTimeout(go, ms);
    if (options?.unref) timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
  afterTick: (go) => void setImmediate(go),
  random: () => Math.random(),
  uuid: () => randomUUID(),
};

/** The moment as ISO 8601, in UTC. */
export function isoNow(time: Pick<Time, 'wallMs'>): string {
  return new Date(time.wallMs()).toISOString();
}

/** Resolves at the end of this tick of the event loop: what nobody caught in it has ended the process by then. */
export function endOfTick(time: Pick<Time, 'afterTick'>): Promise<void> {
  return new Promise((resolve) => time.afterTick(resolve));
}

/** Calls `go` every `ms` milliseconds, the first time after `ms`. */
export function every(time: Pick<Time, 'after'>, ms: number, go: () => void, options?: TimerOptions): Timer {
  const again = () => {
    timer = time.after(ms, again, options);
    go();
  };
  let timer = time.after(ms, again, options);
  return { cancel: () => timer.cancel() };
}

/** Resolves after `ms`, or at once when the signal is aborted. Never rejects: the caller checks the signal. */
export function sleep(time: Pick<Time, 'after'>, ms: number, signal?: AbortSignal, options?: TimerOptions): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const finish = () => {
      timer.cancel();
      signal?.removeEventListener('abort', finish);
      resolve();
    };
    const timer = time.after(ms, finish, options);
    signal?.addEventListener('abort', finish, { once: true });
  });
}

/** The result of the promise, or null after `ms`. Rejects as the promise does. */
export async function within<T>(time: Pick<Time, 'after'>, promise: Promise<T>, ms: number): Promise<T | null> {
  let timer: Timer | undefined;
  const timeout = new Promise<null>((resolve) => (timer = time.after(ms, () => resolve(null))));
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    timer?.cancel();
  }
}

/** Aborts after `ms` with a `TimeoutError`, like `AbortSignal.timeout`; does not keep the process running. */
export function timeLimit(time: Pick<Time, 'after'>, ms: number): AbortSignal {
  const limit = new AbortController();
  time.after(ms, () => limit.abort(new DOMException('The operation was aborted due to timeout', 'TimeoutError')), { unref: true });
  return limit.signal;
}

export interface BackOffLimits {
  /** The longest pause after the first failure. */
  readonly initialMs: number;
  /** The longest pause. */
  readonly maxMs: number;
  /** The fixed share of a pause; the rest is random. Default 0.1, so that a retry is never immediate. */
  readonly leastShare?: number;
}

/**
 * The pause before the next attempt: its limit doubles with each failure, and a random part of it is taken, so that
 * callers that failed together do not return together. `failures` counts from 1.
 */
export function backOffMs({ initialMs, maxMs, leastShare = 0.1 }: BackOffLimits, failures: number, time: Pick<Time, 'random'>): number {
  const ceilingMs = Math.min(maxMs, initialMs * 2 ** Math.min(failures - 1, 30));
  return Math.ceil(ceilingMs * (leastShare + (1 - leastShare) * time.random()));
}

const everyFifthOfASecond: BackOffLimits = { initialMs: 200, maxMs: 200, leastShare: 1 };

export interface Patience {
  readonly time: Time;
  readonly signal?: AbortSignal;
  /** Default: no limit. */
  readonly timeoutMs?: number;
  /** The pauses between two calls. Default: always 200 ms. */
  readonly pauses?: BackOffLimits;
  /** `failures` counts from 1. */
  readonly onUnavailable?: (error: UnavailableError, failures: number) => void;
}

/**
 * Repeats a call while it fails with `UnavailableError`; only for calls that may be repeated.
 * @throws UnavailableError when it is still unavailable after `timeoutMs`, or once `signal` is aborted.
 */
export async function patiently<T>(ask: () => Promise<T>, patience: Patience): Promise<T> {
  const { time, signal, timeoutMs = Number.POSITIVE_INFINITY, pauses = everyFifthOfASecond, onUnavailable } = patience;
  const deadlineMs = time.nowMs() + timeoutMs;
  for (let failures = 1; ; failures++) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof UnavailableError) || signal?.aborted || time.nowMs() > deadlineMs) throw error;
      onUnavailable?.(error, failures);
      await sleep(time, backOffMs(pauses, failures, time), signal);
      if (signal?.aborted) throw error;
    }
  }
}

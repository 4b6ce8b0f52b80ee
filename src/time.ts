/**
 * Time and chance as one port, handed in from the top: what asks for them anywhere else cannot be run again, to the same
 * outcome, on a virtual clock. Here are the real ones and what is built on the port: waiting, with a bound, backing off, asking again.
 */
import { randomUUID } from 'node:crypto';
import { UnavailableError } from './errors.ts';

export interface Time {
  /** Milliseconds since some moment; never goes back. For how long something takes or may take. */
  nowMs(): number;
  /** Milliseconds since 1970; follows the computer's clock, and may jump. For when something happened. */
  wallMs(): number;
  /** Calls `go` once, so many milliseconds from now. */
  after(ms: number, go: () => void, options?: TimerOptions): Timer;
  /** Calls `go` when what arrived in this turn of the event loop has been taken in. */
  afterTurn(go: () => void): void;
  /** From 0 up to but not including 1. Never for what must not be guessed. */
  random(): number;
  /** A UUID that no other call has returned, in whatever process. */
  uuid(): string;
}

export interface Timer {
  /** Of one that has gone off, or was cancelled, nothing comes. */
  cancel(): void;
}

export interface TimerOptions {
  /** It does not keep the process alive. Default false. */
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
  afterTurn: (go) => void setImmediate(go),
  random: () => Math.random(),
  uuid: () => randomUUID(),
};

/** The moment as ISO 8601, in UTC. */
export function isoNow(time: Pick<Time, 'wallMs'>): string {
  return new Date(time.wallMs()).toISOString();
}

/** Calls `go` every so many milliseconds, the first time after as many. */
export function every(time: Pick<Time, 'after'>, ms: number, go: () => void, options?: TimerOptions): Timer {
  const again = () => {
    timer = time.after(ms, again, options);
    go();
  };
  let timer = time.after(ms, again, options);
  return { cancel: () => timer.cancel() };
}

/** Resolves after `ms`, or at once when the signal is aborted. Never rejects: the caller looks at the signal. */
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

/** What the promise resolves to, or null when that takes longer than `ms`. Rejects as the promise does. */
export async function within<T>(time: Pick<Time, 'after'>, promise: Promise<T>, ms: number): Promise<T | null> {
  let timer: Timer | undefined;
  const timeout = new Promise<null>((resolve) => (timer = time.after(ms, () => resolve(null))));
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    timer?.cancel();
  }
}

/** Aborts after `ms` with a `TimeoutError`, as what `AbortSignal.timeout` returns; does not keep the process alive. */
export function timeLimit(time: Pick<Time, 'after'>, ms: number): AbortSignal {
  const limit = new AbortController();
  time.after(ms, () => limit.abort(new DOMException('The operation was aborted due to timeout', 'TimeoutError')), { unref: true });
  return limit.signal;
}

export interface BackOffLimits {
  /** The longest pause after the first failure. */
  readonly initialMs: number;
  /** The longest of all. */
  readonly maxMs: number;
  /** Part of a pause that is not left to chance. Default 0.1, so that a retry is never immediate. */
  readonly leastShare?: number;
}

/**
 * How long to wait before trying again: up to twice as long after each failure, and a random part of that, so that those who
 * failed together do not come back together. `failures` counts from 1.
 */
export function backOffMs({ initialMs, maxMs, leastShare = 0.1 }: BackOffLimits, failures: number, time: Pick<Time, 'random'>): number {
  const ceilingMs = Math.min(maxMs, initialMs * 2 ** Math.min(failures - 1, 30));
  return Math.ceil(ceilingMs * (leastShare + (1 - leastShare) * time.random()));
}

export interface Patience {
  readonly time: Time;
  readonly signal?: AbortSignal;
  /** Default: no limit. */
  readonly timeoutMs?: number;
  /** The longest pause between two questions. Default 200. */
  readonly maxPauseMs?: number;
  readonly onUnavailable?: (error: UnavailableError) => void;
}

/**
 * Repeats a call as long as what it asks is merely unavailable; only for calls that may be repeated.
 * @throws UnavailableError when it is still unavailable after `timeoutMs`, or once `signal` is aborted.
 */
export async function patiently<T>(ask: () => Promise<T>, patience: Patience): Promise<T> {
  const { time, signal, timeoutMs = Number.POSITIVE_INFINITY, maxPauseMs = 200, onUnavailable } = patience;
  const deadlineMs = time.nowMs() + timeoutMs;
  for (let failures = 1; ; failures++) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof UnavailableError) || signal?.aborted || time.nowMs() > deadlineMs) throw error;
      onUnavailable?.(error);
      await sleep(time, backOffMs({ initialMs: 200, maxMs: maxPauseMs }, failures, time), signal);
    }
  }
}

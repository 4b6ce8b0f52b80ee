/**
 * Exponential back-off with jitter: the n-th pause is a random part of `initialMs * 2^(n-1)`, at most
 * `maxMs`, and never less than a tenth of it, so that a retry is never immediate.
 */

export interface BackOffLimits {
  readonly initialMs: number;
  readonly maxMs: number;
}

/** `failures` counts from 1; `random` is in [0, 1). */
export function backOffMs(limits: BackOffLimits, failures: number, random: () => number): number {
  const ceilingMs = Math.min(limits.maxMs, limits.initialMs * 2 ** Math.min(failures - 1, 30));
  return Math.ceil(ceilingMs * (0.1 + 0.9 * random()));
}

/** Resolves after `ms`, or at once when the signal is aborted. Never rejects: the caller looks at the signal. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const finish = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal.addEventListener('abort', finish, { once: true });
  });
}

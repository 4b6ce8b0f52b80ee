/**
 * How long to wait before trying again: twice as long after each failure up to a limit, and a random part of that
 * (at least half), so that many clients of one broker do not come back at the same time.
 */

export interface BackOffLimits {
  readonly firstMs: number;
  readonly lastMs: number;
}

/** `failures` counts from 1. */
export function backOffMs({ firstMs, lastMs }: BackOffLimits, failures: number): number {
  const ceilingMs = Math.min(lastMs, firstMs * 2 ** Math.min(failures - 1, 30));
  return ceilingMs * (0.5 + Math.random() / 2);
}

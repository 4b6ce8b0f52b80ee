/** Waiting for a condition of the outside world by asking again and again, with a bound and a readable failure. */
import { setTimeout as sleep } from 'node:timers/promises';

export interface WaitOptions {
  /** How long to wait at most. */
  readonly timeoutMs: number;
  /** Completes the sentence "waited … ms for"; a function, if it says how things stand at the end. */
  readonly what: string | (() => string);
  /** Pause between two questions. Default 25. */
  readonly intervalMs?: number;
}

const defaultIntervalMs = 25;

/**
 * Asks until the answer is neither false, null nor undefined, and returns it.
 * An exception thrown by the condition ends the waiting; a time-out throws an `Error` that says what was waited for.
 */
export async function waitUntil<T>(condition: () => T | Promise<T>, options: WaitOptions): Promise<Exclude<T, false | null | undefined>> {
  const deadline = performance.now() + options.timeoutMs;
  for (;;) {
    const answer = await condition();
    if (answer !== false && answer !== null && answer !== undefined) return answer as Exclude<T, false | null | undefined>;
    if (performance.now() >= deadline) {
      const what = typeof options.what === 'string' ? options.what : options.what();
      throw new Error(`waited ${options.timeoutMs} ms for ${what}`);
    }
    await sleep(options.intervalMs ?? defaultIntervalMs);
  }
}

/**
 * An expensive reading for many browsers: done at most once per interval, once for all concurrent requests, and less often
 * the longer it takes. A failure is kept for the same time.
 */
import { messageOf } from '../errors.ts';
import type { Time } from '../time.ts';

export interface SharedReadingOptions<T> {
  readonly read: () => Promise<T>;
  /** The pause between two readings, in milliseconds. */
  readonly minAgeMs: number;
  readonly time: Time;
}

export type Reading<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: Error };

/** The shortest pause as a multiple of the reading's duration. */
const pauseFactor = 10;

export class SharedReading<T> {
  readonly #options: SharedReadingOptions<T>;
  #last: Reading<T> | null = null;
  #endedMs = Number.NEGATIVE_INFINITY;
  #nextMs = Number.NEGATIVE_INFINITY;
  #underWay: Promise<Reading<T>> | null = null;

  constructor(options: SharedReadingOptions<T>) {
    this.#options = options;
  }

  /** The last result, if it is recent enough; otherwise a new reading. */
  get(): Promise<Reading<T>> {
    if (this.#underWay !== null) return this.#underWay;
    if (this.#last !== null && this.#options.time.nowMs() < this.#nextMs) return Promise.resolve(this.#last);
    this.#underWay = this.#read();
    return this.#underWay;
  }

  /** Marks the result as outdated: the next request gets a new reading, at the earliest `pauseMs` after the last one. */
  forget(pauseMs = 0): void {
    this.#nextMs = Math.min(this.#nextMs, this.#endedMs + pauseMs);
  }

  async #read(): Promise<Reading<T>> {
    const { read, minAgeMs, time } = this.#options;
    const startedMs = time.nowMs();
    const reading: Reading<T> = await read().then(
      (value) => ({ ok: true, value }) as const,
      (error: unknown) => ({ ok: false, error: error instanceof Error ? error : new Error(messageOf(error)) }) as const,
    );
    this.#last = reading;
    this.#endedMs = time.nowMs();
    this.#nextMs = this.#endedMs + Math.max(minAgeMs, pauseFactor * (this.#endedMs - startedMs));
    this.#underWay = null;
    return reading;
  }
}

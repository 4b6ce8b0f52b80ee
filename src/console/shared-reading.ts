/**
 * Something that many browsers ask for and that costs somebody something to read: read at most so often, once for all
 * that ask meanwhile, and the more rarely the longer it takes. A reading that fails is an answer too, for as long.
 */
import type { Time } from '../time.ts';

export interface SharedReadingOptions<T> {
  readonly read: () => Promise<T>;
  /** From the end of one reading to the beginning of the next, in milliseconds. */
  readonly minAgeMs: number;
  readonly time: Time;
}

export type Reading<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: Error };

/** The pause after a reading is at least so many times as long as the reading. */
const pauseFactor = 10;

export class SharedReading<T> {
  readonly #options: SharedReadingOptions<T>;
  #last: Reading<T> | null = null;
  #nextMs = 0;
  #underWay: Promise<Reading<T>> | null = null;

  constructor(options: SharedReadingOptions<T>) {
    this.#options = options;
  }

  /** What was read last, when that is young enough; otherwise what is read now. */
  get(): Promise<Reading<T>> {
    if (this.#underWay !== null) return this.#underWay;
    if (this.#last !== null && this.#options.time.nowMs() < this.#nextMs) return Promise.resolve(this.#last);
    this.#underWay = this.#read();
    return this.#underWay;
  }

  /** What is known is out of date: the next to ask gets a new reading. */
  forget(): void {
    this.#nextMs = 0;
  }

  async #read(): Promise<Reading<T>> {
    const { read, minAgeMs, time } = this.#options;
    const startedMs = time.nowMs();
    const reading: Reading<T> = await read().then(
      (value) => ({ ok: true, value }) as const,
      (error: unknown) => ({ ok: false, error: error instanceof Error ? error : new Error(String(error)) }) as const,
    );
    this.#last = reading;
    this.#nextMs = time.nowMs() + Math.max(minAgeMs, pauseFactor * (time.nowMs() - startedMs));
    this.#underWay = null;
    return reading;
  }
}

/**
 * Spreads events evenly over time: the n-th is due n / rate seconds after the first, to the millisecond. Time
 * lost while the broker blocked is not made up for in a burst.
 */
import { sleep, type Time } from '../time.ts';

/** A delay up to this is made up for, in milliseconds. */
const catchUpMs = 20;

export class Pacer {
  readonly #intervalMs: number;
  #dueMs: number | null = null;

  constructor(ratePerSecond: number) {
    this.#intervalMs = 1_000 / ratePerSecond;
  }

  /** How long to wait before the next event, in whole milliseconds; call it once for each. `nowMs` is monotonic. */
  delayMs(nowMs: number): number {
    const dueMs = Math.max(this.#dueMs ?? nowMs, nowMs - catchUpMs);
    this.#dueMs = dueMs + this.#intervalMs;
    return Math.max(0, Math.floor(dueMs - nowMs));
  }
}

/** Yields the elements of a stream at a rate per second; once `stop` aborts, without pauses. */
export async function* paced<T>(source: AsyncIterable<T>, ratePerSecond: number, stop: AbortSignal, time: Time): AsyncGenerator<T> {
  const pacer = new Pacer(ratePerSecond);
  for await (const element of source) {
    const delayMs = pacer.delayMs(time.nowMs());
    if (delayMs > 0) await sleep(time, delayMs, stop);
    yield element;
  }
}

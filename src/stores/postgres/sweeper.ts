/**
 * Removes what has expired, as fast as it comes: for every row that is written two may be removed at once, however fast that is, so
 * that no table grows for ever; what is left beyond that, as after a pause, goes with pauses in which commits have the server to
 * themselves. One batch at a time in each process; batches of several processes pass over each other's rows.
 *
 *   idle ──▶ rows were written, or a minute is over ──▶ batch ─┬─▶ it was full ──▶ pause, unless rows are owed ──▶ batch …
 *     ▲                                                        └─▶ it was not: nothing is left, for at least a second ──┐
 *     └────────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
 *
 * What has expired is not seen any more; this only makes room. Nobody waits for it, and a failure is made up for by the next.
 */
import { every, sleep, type Time, type Timer } from '../../time.ts';

export interface SweeperOptions {
  /** Removes at most so many expired rows of each table and says how many were removed of the fullest. */
  readonly remove: (rows: number) => Promise<number>;
  readonly time: Time;
  /** Rows of a table that are removed together. Default 1000: some milliseconds for whoever waits for one of them. */
  readonly batchRows?: number;
}

const defaultBatchRows = 1_000;
const removedPerRow = 2;
/** A pause is so many times as long as the batch before it. */
const pauseShare = 3;
const leastPauseMs = 20;
const emptyPauseMs = 1_000;
const everyMs = 60_000;

export class Sweeper {
  readonly #options: SweeperOptions;
  readonly #batchRows: number;
  readonly #end = new AbortController();
  /** Rows that may be removed without a pause. */
  #owed = 0;
  #running: Promise<void> | null = null;
  #timer: Timer | null = null;

  constructor(options: SweeperOptions) {
    this.#options = options;
    this.#batchRows = options.batchRows ?? defaultBatchRows;
  }

  /** So many rows were written that will expire. */
  wrote(rows: number): void {
    this.#owed += removedPerRow * rows;
    // Whoever only reads, as most commands do, sweeps nothing; whoever writes goes on with it also when events cease.
    this.#timer ??= every(this.#options.time, everyMs, () => this.#begin(), { unref: true });
    if (this.#owed >= this.#batchRows) this.#begin();
  }

  /** Resolves when the batch under way is done. */
  async close(): Promise<void> {
    this.#end.abort();
    this.#timer?.cancel();
    await this.#running;
  }

  #begin(): void {
    if (this.#end.signal.aborted) return;
    this.#running ??= this.#run()
      .catch(() => this.#pause(emptyPauseMs))
      .finally(() => (this.#running = null));
  }

  async #run(): Promise<void> {
    const { time } = this.#options;
    while (!this.#end.signal.aborted) {
      const startedMs = time.nowMs();
      const removed = await this.#options.remove(this.#batchRows);
      const tookMs = time.nowMs() - startedMs;
      if (removed < this.#batchRows) {
        this.#owed = 0;
        return this.#pause(emptyPauseMs);
      }
      this.#owed = Math.max(0, this.#owed - removed);
      if (this.#owed < this.#batchRows) await this.#pause(Math.max(leastPauseMs, pauseShare * tookMs));
    }
  }

  #pause(ms: number): Promise<void> {
    return sleep(this.#options.time, ms, this.#end.signal, { unref: true });
  }
}

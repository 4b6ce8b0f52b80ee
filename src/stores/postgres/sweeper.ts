/**
 * Removes expired rows as fast as rows are written: for each written row two may be removed without a pause, so that no table
 * grows for ever. A larger backlog, as after a downtime, is removed with pauses that leave the server to the commits. Each
 * process runs one batch at a time; concurrent batches skip each other's rows.
 *
 *   idle ──▶ rows were written, or a minute is over ──▶ batch ─┬─▶ it was full ──▶ pause, unless rows are owed ──▶ batch …
 *     ▲                                                        └─▶ it was not: nothing is left, for at least a second ──┐
 *     └────────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
 *
 * Expired rows are already ignored; this only frees space. Nothing waits for it, and the next batch makes up for a failed one.
 */
import { every, sleep, type Time, type Timer } from '../../time.ts';

export interface SweeperOptions {
  /** Removes up to `rows` expired rows of each table; returns the largest number removed from one table. */
  readonly remove: (rows: number) => Promise<number>;
  readonly time: Time;
  /** Rows of a table per batch. Default 1000, which blocks others for some milliseconds. */
  readonly batchRows?: number;
}

const defaultBatchRows = 1_000;
const removedPerRow = 2;
/** Length of a pause as a multiple of the previous batch. */
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

  /** Call when rows that will expire were written. */
  wrote(rows: number): void {
    this.#owed += removedPerRow * rows;
    // A process that only reads, as most commands do, sweeps nothing; one that writes continues when no more events come.
    this.#timer ??= every(this.#options.time, everyMs, () => this.#begin(), { unref: true });
    if (this.#owed >= this.#batchRows) this.#begin();
  }

  /** Resolves when the running batch is done. */
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

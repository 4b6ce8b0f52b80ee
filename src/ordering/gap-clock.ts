/**
 * The time that counts for the gaps of a shard: it runs only while a missing event could come. Time itself is an input.
 *
 *   runs ──store unavailable, or the window full of work──▶ stands ──both over──▶ grace ──▶ runs
 *
 * - When the store turns out unavailable, what was counted since its last answer is taken back: it had gone by then.
 * - Nothing counts beyond the moment at which the sequencer asked to be called. Who calls late (a blocked event loop, a
 *   stopped process) has not read meanwhile what the broker sent.
 * - After it stood, a tenth of that time, at most a second, goes by uncounted: the broker fills the window first.
 * - Before a gap ends the broker has a turn: it is asked, and what it sent before it answers is taken in. A turn during
 *   which a missing event could not come proves nothing; there is another one.
 *
 * It counts whole milliseconds, so that sums are exact. Which gap ends when is gap-watch.ts's business.
 */

const graceShare = 0.1;
const longestGraceMs = 1_000;

/** What decides whether a missing event could come. */
export interface DeliveryRoom {
  readonly storeAnswers: boolean;
  /** The broker can deliver: neither the prefetch window nor the memory for deliveries is full. */
  readonly hasRoom: boolean;
  /** Something that is here is being worked on: there will be room. Where all of it is held, nothing but the end of a gap makes room. */
  readonly hasWork: boolean;
}

export class GapClock {
  #nowMs = 0;
  #countedMs = 0;
  #runs = true;
  #stoodSinceMs = 0;
  #graceMs = 0;
  #answeredMs = 0;
  #answeredAtMs = 0;
  #turn = 0;
  #turnIsUnderWay = false;
  #turnIsSpoilt = false;

  /** Milliseconds counted so far. */
  get countedMs(): number {
    return this.#countedMs;
  }

  /** The same as it will be at `nowMs` when nothing happens until then. */
  countedAt(nowMs: number): number {
    return this.#runs ? this.#countedMs + Math.max(0, Math.floor(nowMs) - this.#nowMs - this.#graceMs) : this.#countedMs;
  }

  /** Time has come to `nowMs`; the sequencer was to be called by `dueMs`. */
  advance(nowMs: number, dueMs: number): void {
    const untilMs = Math.floor(Math.min(nowMs, dueMs));
    const passedMs = this.#runs ? Math.max(0, untilMs - this.#nowMs) : 0;
    this.#nowMs = Math.max(this.#nowMs, Math.floor(nowMs));
    const graceMs = Math.min(this.#graceMs, passedMs);
    this.#graceMs -= graceMs;
    this.#countedMs += passedMs - graceMs;
  }

  storeAnswered(): void {
    this.#answeredMs = this.#countedMs;
    this.#answeredAtMs = this.#nowMs;
  }

  storeIsUnavailable(): void {
    this.#countedMs = this.#answeredMs;
  }

  /** How things are until something happens. */
  observe({ storeAnswers, hasRoom, hasWork }: DeliveryRoom): void {
    const runs = storeAnswers && (hasRoom || !hasWork);
    if (runs && !this.#runs) {
      this.#graceMs = Math.min(longestGraceMs, this.#graceMs + Math.floor((this.#nowMs - this.#stoodSinceMs) * graceShare));
    } else if (!runs && this.#runs) {
      this.#stoodSinceMs = storeAnswers ? this.#nowMs : this.#answeredAtMs;
    }
    this.#runs = runs;
    if (!runs) this.#turnIsSpoilt = true;
  }

  /** The number of the turn that the broker is to have now, or null: one is under way, or would prove nothing. */
  askForTurn(): number | null {
    if (this.#turnIsUnderWay || !this.#runs || this.#graceMs > 0) return null;
    this.#turnIsUnderWay = true;
    this.#turnIsSpoilt = false;
    return ++this.#turn;
  }

  /** The broker has had that turn. True when gaps may end now. */
  turned(turn: number): boolean {
    if (!this.#turnIsUnderWay || turn !== this.#turn) return false;
    this.#turnIsUnderWay = false;
    return !this.#turnIsSpoilt;
  }

  /** When so much will have been counted, or with `awaitsTurn` when a turn may be asked for; null while nobody can say. */
  whenMs(countedMs: number | null, awaitsTurn: boolean): number | null {
    if (!this.#runs) return null;
    if (awaitsTurn && this.#graceMs > 0) return this.#nowMs + this.#graceMs;
    return countedMs === null ? null : this.#nowMs + this.#graceMs + Math.max(0, countedMs - this.#countedMs);
  }

  /** The channel is gone, and every gap with it. */
  reset(): void {
    this.#runs = true;
    this.#graceMs = 0;
    this.#turnIsUnderWay = false;
  }
}

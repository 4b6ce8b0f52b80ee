/**
 * The time that counts for the gaps of a shard. Time itself is an input. One rule says when it runs:
 *
 *   the store is unavailable ───────────────────────────────────────────────────────▶ stands
 *   there is room: the broker can deliver what is missing ──────────────────────────▶ runs
 *   no room, and something in work may make some (work.ts: it is not stuck) ────────▶ stands
 *   no room, nothing but stuck work, and what is held has reached its limit ────────▶ runs: only the end of a gap makes room
 *   no room, nothing but stuck work, and less than that is held ────────────────────▶ stands
 *
 * There is no room while the prefetch window is full, or while deliveries wait outside for want of memory: the missing event
 * may be among these. In the last case, if memory is short, src/worker/intake.ts lets one of them in at a time: it is settled, or
 * more is held. If the window is full, handlers fill more of it than the limit on held events leaves them, and no event
 * is given up for that.
 *
 * - When the store proves unavailable, the time since its last answer is not counted: it was gone by then.
 * - Nothing counts beyond the moment at which the sequencer asked to be called. A process that calls late (its event loop was
 *   blocked, or it was stopped) has not read what the broker sent meanwhile.
 * - After it stood, a tenth of that time, at most a second, goes by uncounted: the broker fills the window first.
 * - Before a gap ends the broker has a turn: it is asked, and what it sent before it answers is taken in. A turn during
 *   which a missing event could not come proves nothing; there is another one. The answer comes from the channel and
 *   the deliveries from the queue, which takes a moment to fill the room it was given: the broker is asked only
 *   when it has delivered nothing for that moment, or when it has had a second of room while a gap waited to end.
 *
 * It counts whole milliseconds, so that sums are exact. Which gap ends when is gap-watch.ts's business.
 */

const graceShare = 0.1;
const longestGraceMs = 1_000;

/** Within so long the queue fills the room that it was given. */
const fillingMs = 100;

/** What decides whether the clock runs. */
export interface DeliveryRoom {
  readonly storeAnswers: boolean;
  /** The broker can deliver: neither the prefetch window nor the memory for deliveries is full. */
  readonly hasRoom: boolean;
  /** Where there is no room, nothing but the end of a gap makes some. */
  readonly onlyGapsMakeRoom: boolean;
}

export class GapClock {
  #nowMs = 0;
  #countedMs = 0;
  #runs = true;
  #stoodSinceMs = 0;
  #graceMs = 0;
  /** Until the queue has had the time to fill the room that it was last given. */
  #fillingMs = 0;
  /** What has run while a gap waits for its turn. */
  #askedForMs = 0;
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

  /** Time has come to `nowMs`; the sequencer was to be called by `dueMs`. Returns how much of it the process saw. */
  advance(nowMs: number, dueMs: number): number {
    const seenMs = Math.max(0, Math.floor(Math.min(nowMs, dueMs)) - this.#nowMs);
    this.#nowMs = Math.max(this.#nowMs, Math.floor(nowMs));
    if (!this.#runs) return seenMs;
    const graceMs = Math.min(this.#graceMs, seenMs);
    this.#graceMs -= graceMs;
    this.#fillingMs = Math.max(0, this.#fillingMs - seenMs);
    this.#askedForMs += seenMs;
    this.#countedMs += seenMs - graceMs;
    return seenMs;
  }

  /** The broker has delivered something: where it was filling the room, it may go on. */
  delivered(): void {
    if (this.#fillingMs > 0) this.#fillingMs = fillingMs;
  }

  storeAnswered(): void {
    this.#answeredMs = this.#countedMs;
    this.#answeredAtMs = this.#nowMs;
  }

  storeIsUnavailable(): void {
    this.#countedMs = this.#answeredMs;
  }

  /** How things are until the next fact. */
  observe({ storeAnswers, hasRoom, onlyGapsMakeRoom }: DeliveryRoom): void {
    const runs = storeAnswers && (hasRoom || onlyGapsMakeRoom);
    if (runs && !this.#runs) {
      this.#fillingMs = fillingMs;
      this.#graceMs = Math.min(longestGraceMs, this.#graceMs + Math.floor((this.#nowMs - this.#stoodSinceMs) * graceShare));
    } else if (!runs && this.#runs) {
      this.#stoodSinceMs = storeAnswers ? this.#nowMs : this.#answeredAtMs;
    }
    this.#runs = runs;
    if (!runs) this.#turnIsSpoilt = true;
  }

  /** No gap waits for its turn. */
  noneWaits(): void {
    this.#askedForMs = 0;
  }

  /** The number of the turn that the broker is to have now, or null: one is under way, or would prove nothing. */
  askForTurn(): number | null {
    if (this.#turnIsUnderWay || !this.#runs || this.#toTurnMs > 0) return null;
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

  /**
   * When `countedMs` will be reached; with `awaitsTurn` when the broker may be asked, where it is still left alone. Null while the
   * clock stands.
   */
  whenMs(countedMs: number | null, awaitsTurn: boolean): number | null {
    if (!this.#runs) return null;
    if (awaitsTurn && this.#toTurnMs > 0) return this.#nowMs + this.#toTurnMs;
    return countedMs === null ? null : this.#nowMs + this.#graceMs + Math.max(0, countedMs - this.#countedMs);
  }

  /** The channel is gone, and every gap with it. */
  reset(): void {
    this.#runs = true;
    this.#graceMs = 0;
    this.#fillingMs = 0;
    this.#turnIsUnderWay = false;
  }

  /** How long the broker is left alone before it is asked. */
  get #toTurnMs(): number {
    return Math.max(this.#graceMs, Math.min(this.#fillingMs, longestGraceMs - this.#askedForMs));
  }
}

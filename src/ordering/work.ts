/**
 * What of a shard is in work, and whether it can still be waited for.
 *
 * A lane has work while something of it is neither held nor settled: it is asked for at the store, its handler runs, or it
 * waits behind that. The lane is *stuck* when it got no answer for as long as a missing event is waited for: a handler that
 * never succeeds, keys that stay unusable. Time counts while the store answers and the process runs. What is stuck is
 * still tried, but no gap waits for the room that it takes.
 *
 * Looking goes through the lanes as far as the first that is not stuck, and only where there is no room: in a busy shard
 * that is one step.
 */
import type { Lane } from './lane.ts';

export class Work {
  readonly #patienceMs: number;
  #countedMs = 0;
  /** The store was unavailable before this: no lane was stuck. */
  #fromMs = 0;
  /** Found at the last look. */
  #moving: Lane | null = null;
  #stuck = 0;

  /** @param patienceMs How long a lane may go without an answer before it is stuck. */
  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs;
  }

  /** Deliveries that are stuck, if nothing else is in work; otherwise 0. */
  get stuck(): number {
    return this.#stuck;
  }

  advance(seenMs: number): void {
    this.#countedMs += seenMs;
  }

  /** Call before the lane is given more. */
  arrives(lane: Lane): void {
    if (inWork(lane) === 0) lane.workSinceMs = this.#countedMs;
  }

  answered(lane: Lane): void {
    lane.workSinceMs = this.#countedMs;
  }

  /** There is room, or the store does not answer: nothing is stuck. */
  forget(storeAnswers: boolean): void {
    if (!storeAnswers) this.#fromMs = this.#countedMs;
    this.#moving = null;
    this.#stuck = 0;
  }

  /** Whether something is in work that may make room before long. */
  look(lanes: Iterable<Lane>): boolean {
    this.#stuck = 0;
    if (this.#moving !== null && this.#moves(this.#moving)) return true;
    this.#moving = null;
    let stuck = 0;
    for (const lane of lanes) {
      if (this.#moves(lane)) {
        this.#moving = lane;
        return true;
      }
      stuck += inWork(lane);
    }
    this.#stuck = stuck;
    return false;
  }

  /** When, at the latest, what moved at the last look is stuck unless it is answered, from now; null when nothing moved. */
  get movesForMs(): number | null {
    return this.#moving === null ? null : Math.max(0, this.#endMs(this.#moving) - this.#countedMs);
  }

  #moves(lane: Lane): boolean {
    return inWork(lane) > 0 && this.#countedMs < this.#endMs(lane);
  }

  #endMs(lane: Lane): number {
    return Math.max(lane.workSinceMs, this.#fromMs) + this.#patienceMs;
  }
}

/** Deliveries of the lane that are neither held nor settled. */
function inWork({ op, arrivals, lookingUp, parking }: Lane): number {
  return (op?.slots.length ?? 0) + arrivals.length + lookingUp + (parking?.delivery ? 1 : 0);
}

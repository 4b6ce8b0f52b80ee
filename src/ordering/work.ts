/**
 * What of a shard is in work, and whether it can still be waited for.
 *
 * A lane has work while something of it is neither held nor settled: it is asked for at the store, its handler runs, or it
 * waits behind that. The lane is *stuck* when nothing has been answered to it for as long as a missing event is waited for: a
 * handler that never succeeds, keys that stay unusable. Time counts while the store answers, as far as the process
 * saw it. What is stuck is still tried; only, nobody waits for the room that it takes.
 *
 * Looking goes through the lanes as far as the first that is not stuck, and only where there is no room: in a busy shard
 * that is one step.
 */
import type { Lane } from './lane.ts';

export class Work {
  readonly #patienceMs: number;
  #countedMs = 0;
  /** Nothing was waited for in vain before this. */
  #fromMs = 0;
  /** Found at the last look. */
  #moving: Lane | null = null;
  #stuck = 0;

  /** @param patienceMs How long a lane may go without an answer before it is stuck. */
  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs;
  }

  /** Deliveries in work that are stuck, where nothing but these is in work; otherwise 0. */
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

  /** For how long, at most, what moved at the last look does without an answer; null when nothing did. */
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
function inWork({ op, arrivals, lookingUp, verdict }: Lane): number {
  return (op?.slots.length ?? 0) + arrivals.length + lookingUp + (verdict?.delivery ? 1 : 0);
}

/**
 * Watches the gaps of a shard: when to claim and read, when a gap's time is over, and how much is held.
 *
 *   something held, predecessor missing ──read──▶ claimed ──(every gapRereadMs: read)──▶ deadline ──read──▶ the broker's turn ──▶ park
 *                                                                                                                      └▶ skip ahead
 *
 * A reading that moves the version ends the gap, and a new one begins if something is still held; one that finds the entity
 * parked ends it for good. The deadline counts, by gap-clock.ts, from the delivery that has waited longest, and for an entity that is
 * being replayed from the last move of its version. Reaching a limit on what is held brings the deadline forward: so the missing event
 * finds room in the prefetch window.
 */
import { InvariantError } from '../errors.ts';
import type { RejectionReason } from '../events/reasons.ts';
import { Deadlines } from './heap.ts';
import { GapClock } from './gap-clock.ts';
import type { Lane, Gap } from './lane.ts';
import { longestReplayStallMs, type SequencerLimits } from './facts.ts';

const notOpened = { aboveVersion: null, overflow: false, final: false, nextReadMs: Number.NEGATIVE_INFINITY };

export type GapStep =
  | { readonly kind: 'wait'; readonly untilMs: number }
  | { readonly kind: 'read' }
  | { readonly kind: 'skip-ahead' }
  | { readonly kind: 'park'; readonly sequence: number; readonly reason: RejectionReason; readonly detail: string };

/** An open gap, as status and metrics show it. */
export interface OpenGap {
  readonly lane: Lane;
  /** For how long the first of what is held has waited, and until the gap ends; only time that counts. */
  readonly waitedMs: number;
  readonly endsInMs: number;
}

export class GapWatch {
  readonly clock = new GapClock();
  readonly #limits: SequencerLimits;
  /** When gaps end, in the time of the clock. */
  readonly #ends = new Deadlines<Lane>();
  /** Their time is over; the broker has a turn before they end. */
  readonly #awaitTurn = new Set<Lane>();
  /** In the order in which their gaps were opened. */
  readonly #lanes = new Set<Lane>();
  #held = 0;
  #heldBytes = 0;
  /** The part of it that leaves with the gaps that end early. */
  #ending = 0;
  #endingBytes = 0;

  constructor(limits: SequencerLimits) {
    this.#limits = limits;
  }

  /** Deliveries held in all lanes. */
  get held(): number {
    return this.#held;
  }

  /** What is held has reached a limit of the shard. */
  get isFull(): boolean {
    return this.#fills(0, 0);
  }

  /** Open gaps. */
  get size(): number {
    return this.#lanes.size;
  }

  /** Counts what the lane holds now; call it whenever that may have changed. */
  note(lane: Lane): void {
    const { count, bytes } = lane.held;
    if (count === 0 && lane.gap === null) return;
    lane.gap ??= { held: 0, heldBytes: 0, ...notOpened };
    const more = count - lane.gap.held;
    const moreBytes = bytes - lane.gap.heldBytes;
    lane.gap.held = count;
    lane.gap.heldBytes = bytes;
    this.#held += more;
    this.#heldBytes += moreBytes;
    if (lane.gap.overflow) this.#noteEnding(more, moreBytes);
    if (count > 0) return;
    lane.gap = null;
    this.#lanes.delete(lane);
    this.#ends.delete(lane);
    this.#awaitTurn.delete(lane);
  }

  /** What the gap of a lane that cannot go on asks for now. */
  watch(lane: Lane, nowMs: number, brokerHadTurn: boolean): GapStep {
    const gap = this.#gapOf(lane);
    const deadlineMs = this.#deadlineMs(lane);
    const full = gap.overflow || lane.held.count >= this.#limits.maxHeldPerEntity;
    const readOrWait: GapStep = nowMs >= gap.nextReadMs ? { kind: 'read' } : { kind: 'wait', untilMs: gap.nextReadMs };
    if (!full && this.clock.countedMs < deadlineMs) {
      gap.final = false;
      this.#ends.set(lane, deadlineMs);
      return readOrWait;
    }
    if (!gap.final) {
      gap.final = true;
      return { kind: 'read' };
    }
    if (!brokerHadTurn) {
      this.#awaitTurn.add(lane);
      return readOrWait;
    }
    // In a replay it would leap over the letters that are under way.
    if (this.#limits.gapTimeoutAction === 'skip-ahead' && lane.known.state !== 'replaying') return { kind: 'skip-ahead' };
    return this.#park(lane, full);
  }

  /** Lanes whose gap has come to its end by now, each once. */
  takeDue(): readonly Lane[] {
    return this.#ends.takeDue(this.clock.countedMs);
  }

  /** Asks for a turn of the broker, if a gap could end after it. Returns its number, or null. */
  askForTurn(): number | null {
    if (this.#oneCouldEnd) return this.clock.askForTurn();
    this.clock.noneWaits();
    return null;
  }

  /** Lanes whose gaps may end at once, for the broker has had a turn; those that are busy wait for the next. */
  takeTurned(turn: number): readonly Lane[] {
    if (!this.clock.turned(turn)) return [];
    const lanes = [...this.#awaitTurn].filter(({ op }) => op === null);
    for (const lane of lanes) this.#awaitTurn.delete(lane);
    return lanes;
  }

  /** When time that counts brings something about, or null. */
  nextDeadlineMs(): number | null {
    return this.clock.whenMs(this.#ends.nextMs, this.#oneCouldEnd);
  }

  /** The lane was claimed and read. */
  noteRead(lane: Lane, nowMs: number): void {
    if (lane.gap === null) return;
    lane.gap.nextReadMs = nowMs + this.#limits.gapRereadMs;
  }

  /** When the shard holds too much: brings forward the end of the gap that is nearest to it, and returns its lane. */
  hastenNearestWhenFull(): Lane | null {
    if (!this.#fills(this.#ending, this.#endingBytes)) return null;
    let nearest: Lane | null = null;
    for (const lane of this.#lanes) {
      if (lane.gap?.overflow === false && (nearest === null || this.#deadlineMs(lane) < this.#deadlineMs(nearest))) nearest = lane;
    }
    if (nearest?.gap == null) return null;
    nearest.gap.overflow = true;
    this.#noteEnding(nearest.gap.held, nearest.gap.heldBytes);
    return nearest;
  }

  heldByEntityType(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (const { entity, held } of this.#lanes) {
      counts.set(entity.entityType, (counts.get(entity.entityType) ?? 0) + held.count);
    }
    return counts;
  }

  /** The open gaps that have waited longest, at most `limit`. */
  oldest(limit: number, nowMs: number): readonly OpenGap[] {
    const countedMs = this.clock.countedAt(nowMs);
    return [...this.#lanes]
      .map((lane) => ({
        lane,
        waitedMs: Math.max(0, countedMs - (lane.held.oldestMs() ?? countedMs)),
        endsInMs: Math.max(0, this.#deadlineMs(lane) - countedMs),
      }))
      .sort((a, b) => b.waitedMs - a.waitedMs)
      .slice(0, limit);
  }

  clear(): void {
    this.#lanes.clear();
    this.#ends.clear();
    this.#awaitTurn.clear();
    this.#held = 0;
    this.#heldBytes = 0;
    this.#ending = 0;
    this.#endingBytes = 0;
    this.clock.reset();
  }

  /** A lane that is busy goes on by itself: for it the broker is not asked. */
  get #oneCouldEnd(): boolean {
    for (const { op } of this.#awaitTurn) if (op === null) return true;
    return false;
  }

  #noteEnding(count: number, bytes: number): void {
    this.#ending += count;
    this.#endingBytes += bytes;
  }

  #fills(ending: number, endingBytes: number): boolean {
    const { maxHeld, maxHeldBytes } = this.#limits;
    return this.#held - ending >= maxHeld || this.#heldBytes - endingBytes >= maxHeldBytes;
  }

  #gapOf(lane: Lane): Gap {
    const { gap, known } = lane;
    if (gap === null) throw new InvariantError('a lane that holds nothing has a gap');
    if (gap.aboveVersion === known.version) return gap;
    if (gap.overflow) this.#noteEnding(-gap.held, -gap.heldBytes);
    this.#awaitTurn.delete(lane);
    this.#lanes.delete(lane);
    this.#lanes.add(lane);
    return Object.assign(gap, notOpened, { aboveVersion: known.version });
  }

  #deadlineMs(lane: Lane): number {
    const { gapTimeoutMs } = this.#limits;
    const { state, heldFromMs } = lane.known;
    const waitsFromMs = Math.max(lane.held.oldestMs() ?? Number.POSITIVE_INFINITY, heldFromMs);
    return waitsFromMs + (state === 'replaying' ? longestReplayStallMs : gapTimeoutMs);
  }

  #park(lane: Lane, full: boolean): GapStep {
    const first = lane.known.version + 1;
    const lowest = lane.held.lowest() ?? first + 1;
    const missing = first === lowest - 1 ? `sequence ${first}` : `sequences ${first} to ${lowest - 1}`;
    if (lane.gap?.overflow === true) {
      const detail = `waited for ${missing} in a shard that had no more room for held events, and was nearest to the end of its time; ${lane.held.count} were its own`;
      return { kind: 'park', sequence: lowest, reason: 'buffer_overflow', detail };
    }
    if (full) {
      const detail = `waited for ${missing} until ${lane.held.count} events of the entity were held, which is the limit`;
      return { kind: 'park', sequence: lowest, reason: 'buffer_overflow', detail };
    }
    const { countedMs } = this.clock;
    const waitedMs = Math.max(0, countedMs - (lane.held.oldestMs() ?? countedMs));
    return { kind: 'park', sequence: lowest, reason: 'gap_timeout', detail: `waited ${waitedMs} ms for ${missing}` };
  }
}

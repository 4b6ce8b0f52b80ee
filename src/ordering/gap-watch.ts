/**
 * Watches the gaps of a shard: when to claim and read, when a gap's time is over, and how much is held.
 *
 *   something held, predecessor missing ──read──▶ claimed ──(every gapRereadMs: read)──▶ deadline ──read──▶ park
 *                                                                                                      └▶ skip ahead
 *
 * Each reading that moves the version ends the gap; if something is still held, a new one begins. The
 * deadline counts from the delivery that has waited longest. Reaching a limit on what is held brings the
 * deadline forward, so that the missing event always finds room in the prefetch window.
 */
import type { RejectionReason } from '../events/reasons.ts';
import type { Gap, Lane } from './lane.ts';
import type { SequencerLimits } from './limits.ts';

export type GapStep =
  | { readonly kind: 'wait'; readonly untilMs: number }
  | { readonly kind: 'read' }
  | { readonly kind: 'skip-ahead' }
  | { readonly kind: 'park'; readonly sequence: number; readonly reason: RejectionReason; readonly detail: string };

export class GapWatch {
  readonly #limits: SequencerLimits;
  /** In the order in which their gaps were opened. */
  readonly #lanes = new Set<Lane>();
  #held = 0;
  #heldBytes = 0;

  constructor(limits: SequencerLimits) {
    this.#limits = limits;
  }

  /** Deliveries held in all lanes. */
  get held(): number {
    return this.#held;
  }

  /** Open gaps. */
  get size(): number {
    return this.#lanes.size;
  }

  /** Counts what the lane holds now; call it whenever that may have changed. */
  note(lane: Lane): void {
    this.#held += lane.held.count - lane.heldNoted;
    lane.heldNoted = lane.held.count;
    this.#heldBytes += lane.held.bytes - lane.heldBytesNoted;
    lane.heldBytesNoted = lane.held.bytes;
    if (lane.held.count > 0) return;
    lane.gap = null;
    this.#lanes.delete(lane);
  }

  /** What the gap of a lane that cannot go on asks for now. */
  watch(lane: Lane, nowMs: number): GapStep {
    const gap = this.#gapOf(lane);
    const deadlineMs = this.#deadlineMs(lane);
    const full = gap.overflow || lane.held.count >= this.#limits.maxHeldPerEntity;
    if (!full && nowMs < deadlineMs) {
      return nowMs >= gap.nextReadMs ? { kind: 'read' } : { kind: 'wait', untilMs: Math.min(deadlineMs, gap.nextReadMs) };
    }
    if (!gap.final) {
      gap.final = true;
      return { kind: 'read' };
    }
    if (this.#limits.gapTimeoutAction === 'skip-ahead') return { kind: 'skip-ahead' };
    return this.#park(lane, nowMs, full);
  }

  /** The lane was claimed and read. */
  read(lane: Lane, nowMs: number): void {
    if (lane.gap === null) return;
    lane.gap.nextReadMs = nowMs + this.#limits.gapRereadMs;
  }

  /** When the shard holds too much: ends the gap that has waited longest and returns its lane. */
  endOldestWhenFull(): Lane | null {
    if (!this.#isFull(0, 0)) return null;
    let leaving = 0;
    let leavingBytes = 0;
    let oldest: Lane | null = null;
    for (const lane of this.#lanes) {
      if (lane.gap?.overflow === true) {
        leaving += lane.held.count;
        leavingBytes += lane.held.bytes;
      } else if (oldest === null || this.#deadlineMs(lane) < this.#deadlineMs(oldest)) oldest = lane;
    }
    if (oldest?.gap == null || !this.#isFull(leaving, leavingBytes)) return null;
    oldest.gap.overflow = true;
    return oldest;
  }

  heldByEntityType(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (const { entity, held } of this.#lanes) {
      counts.set(entity.entityType, (counts.get(entity.entityType) ?? 0) + held.count);
    }
    return counts;
  }

  /** The open gaps that have waited longest, at most `limit`. */
  oldest(limit: number): readonly { readonly lane: Lane; readonly sinceMs: number }[] {
    return [...this.#lanes]
      .map((lane) => ({ lane, sinceMs: lane.held.oldestMs() ?? 0 }))
      .sort((a, b) => a.sinceMs - b.sinceMs)
      .slice(0, limit);
  }

  clear(): void {
    this.#lanes.clear();
    this.#held = 0;
    this.#heldBytes = 0;
  }

  #isFull(leaving: number, leavingBytes: number): boolean {
    const { maxHeld, maxHeldBytes } = this.#limits;
    return this.#held - leaving >= maxHeld || this.#heldBytes - leavingBytes >= maxHeldBytes;
  }

  #gapOf(lane: Lane): Gap {
    if (lane.gap !== null && lane.gap.aboveVersion === lane.version) return lane.gap;
    this.#lanes.delete(lane);
    this.#lanes.add(lane);
    lane.gap = { aboveVersion: lane.version, overflow: false, final: false, nextReadMs: Number.NEGATIVE_INFINITY };
    return lane.gap;
  }

  #deadlineMs(lane: Lane): number {
    return (lane.held.oldestMs() ?? Number.POSITIVE_INFINITY) + this.#limits.gapTimeoutMs;
  }

  #park(lane: Lane, nowMs: number, full: boolean): GapStep {
    const lowest = lane.held.lowest() ?? lane.version + 2;
    const first = lane.version + 1;
    const missing = first === lowest - 1 ? `sequence ${first}` : `sequences ${first} to ${lowest - 1}`;
    const waitedMs = Math.round(nowMs - (lane.held.oldestMs() ?? nowMs));
    return {
      kind: 'park',
      sequence: lowest,
      reason: full ? 'buffer_overflow' : 'gap_timeout',
      detail: full
        ? `waited for ${missing} until ${lane.held.count} events of the entity were held and the buffer was full`
        : `waited ${waitedMs} ms for ${missing}`,
    };
  }
}

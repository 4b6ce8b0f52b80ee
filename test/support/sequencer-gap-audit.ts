/**
 * Watches that no gap ends while its missing event could not have come. It knows what the broker and the store know, and
 * keeps a clock of its own: time counts while the store answers and the prefetch window has room, or is full of what only
 * the end of a gap can move: as much of it held as may be, and the rest there for as long as a gap waits.
 */
import assert from 'node:assert/strict';
import type { Delivery, Effect, Fact, RefusedDelivery, SequencerLimits } from '../../src/ordering/facts.ts';

export class GapAudit {
  readonly #limits: SequencerLimits;
  /** The last operation that was seen: those of a lower number are asked again. */
  #lastOp = 0;
  #nowMs = 0;
  #countedMs = 0;
  #storeAnswers = true;
  #hasRoom = true;
  /** Only the end of a gap makes room. */
  #isStuck = false;
  /** A slot is decided again, for its id is known: where it skips ahead, its gap had ended before. */
  #decidesAgain = false;
  /** The broker has had a turn since something last kept events from coming. */
  #hadTurn = false;
  #unsettled: readonly (Delivery | RefusedDelivery)[] = [];
  /** By delivery tag, in the time that counts. */
  #arrivedMs = new Map<number, number>();
  /** The same, in all time. */
  #cameMs = new Map<number, number>();

  constructor(limits: SequencerLimits) {
    this.#limits = limits;
  }

  before(nowMs: number, fact: Fact): void {
    if (this.#storeAnswers && (this.#hasRoom || this.#isStuck)) this.#countedMs += nowMs - this.#nowMs;
    this.#nowMs = nowMs;
    this.#decidesAgain = fact.kind === 'idConflict';
    if (fact.kind === 'delivered') {
      for (const { tag } of fact.deliveries) {
        this.#arrivedMs.set(tag, this.#countedMs);
        this.#cameMs.set(tag, nowMs);
      }
      this.#unsettled = [...this.#unsettled, ...fact.deliveries];
    } else if (fact.kind === 'storeUnavailable') this.#storeAnswers = this.#hadTurn = false;
    else if (fact.kind === 'turned') this.#hadTurn = true;
    else if (fact.kind === 'channelLost') this.#storeAnswers = true;
    else if ('op' in fact && fact.kind !== 'processing') this.#storeAnswers = true;
  }

  after(unsettled: readonly (Delivery | RefusedDelivery)[], held: number): void {
    this.#unsettled = unsettled;
    this.#hasRoom = unsettled.length < this.#limits.prefetch;
    const old = unsettled.filter(({ tag }) => this.#nowMs - (this.#cameMs.get(tag) ?? this.#nowMs) > this.#limits.gapTimeoutMs - 1).length;
    this.#isStuck = held >= this.#limits.maxHeld && old >= unsettled.length - held;
    if (!this.#hasRoom && !this.#isStuck) this.#hadTurn = false;
  }

  /** Judges an effect that ends a gap; every other one passes. */
  ends(effect: Effect): void {
    if (!('op' in effect) || effect.op <= this.#lastOp) return;
    this.#lastOp = effect.op;
    const isTimeout = effect.kind === 'park' && effect.reason === 'gap_timeout';
    const isOverflow = effect.kind === 'park' && effect.reason === 'buffer_overflow';
    const skipsAhead = effect.kind === 'commit' && this.#limits.strategy === 'buffer' && leaps(effect) && !this.#decidesAgain;
    if (!isTimeout && !isOverflow && !skipsAhead) return;
    assert.ok(this.#storeAnswers, 'a gap ends while the store does not answer');
    assert.ok(this.#hasRoom || this.#isStuck, 'a gap ends while the window is full');
    assert.ok(this.#hadTurn, 'a gap ends before the broker had a turn');
    if (!isTimeout) return;
    const { entityType, entityId } = effect.entity;
    const waits = this.#unsettled.flatMap((delivery) => {
      const isOfEntity = 'event' in delivery && delivery.event.entityType === entityType && delivery.event.entityId === entityId;
      return isOfEntity ? [this.#countedMs - (this.#arrivedMs.get(delivery.tag) ?? 0)] : [];
    });
    // The sequencer counts whole milliseconds.
    assert.ok(Math.max(...waits) > this.#limits.gapTimeoutMs - 1, `a gap ends after ${Math.max(...waits)} ms that count`);
  }
}

function leaps({ slots, expectedVersion, adopts }: Extract<Effect, { readonly kind: 'commit' }>): boolean {
  const [first] = slots;
  return !adopts && first?.action === 'apply' && first.sequence > expectedVersion + 1;
}

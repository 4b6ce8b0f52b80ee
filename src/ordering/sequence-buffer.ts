/**
 * The deliveries of one entity that wait for a predecessor, by sequence. Copies of a sequence leave together, so that no copy blocks
 * the buffer or is acknowledged before the event is settled.
 *
 * It also knows when the delivery that has waited longest arrived. A gap's deadline is counted from there, not from the lowest
 * sequence, which may have come last.
 */
import type { Delivery } from './facts.ts';
import { MinHeap } from './heap.ts';

interface Held {
  readonly sequence: number;
  readonly sinceMs: number;
  readonly copies: Delivery[];
}

/** Outdated index entries that are not worth the work of dropping them. */
const compactAbove = 16;

/** Most lanes never hold anything: theirs costs nothing. */
const noSlots: Map<number, Held> = new Map();
const noSequences = new MinHeap<number>((sequence) => sequence);

export class SequenceBuffer {
  #slots = noSlots;
  #bySequence = noSequences;
  /** In order of arrival; entries whose slot has left are skipped at the head. */
  #arrivals: Held[] = [];
  #head = 0;
  #count = 0;
  #bytes = 0;

  /** Deliveries held, copies included. */
  get count(): number {
    return this.#count;
  }

  /** What they take in memory. */
  get bytes(): number {
    return this.#bytes;
  }

  has(sequence: number): boolean {
    return this.#slots.has(sequence);
  }

  add(sequence: number, delivery: Delivery, countedMs: number): void {
    if (this.#slots === noSlots) {
      this.#slots = new Map();
      this.#bySequence = new MinHeap((sequence) => sequence);
    }
    this.#count++;
    this.#bytes += delivery.bytes ?? 0;
    const held = this.#slots.get(sequence);
    if (held !== undefined) {
      held.copies.push(delivery);
      return;
    }
    const slot: Held = { sequence, sinceMs: countedMs, copies: [delivery] };
    this.#slots.set(sequence, slot);
    this.#bySequence.push(sequence);
    this.#arrivals.push(slot);
  }

  /** Removes and returns every copy of `sequence`, or null. */
  take(sequence: number): readonly Delivery[] | null {
    const slot = this.#slots.get(sequence);
    if (slot === undefined) return null;
    this.#slots.delete(sequence);
    this.#count -= slot.copies.length;
    for (const { bytes = 0 } of slot.copies) this.#bytes -= bytes;
    if (this.#arrivals.length >= 2 * this.#slots.size + compactAbove) this.#compact();
    return slot.copies;
  }

  /** The lowest sequence held, or null. */
  lowest(): number | null {
    for (;;) {
      const sequence = this.#bySequence.peek();
      if (sequence === undefined) return null;
      if (this.#slots.has(sequence)) return sequence;
      this.#bySequence.pop();
    }
  }

  /** When the delivery that has waited longest arrived, or null. */
  oldestMs(): number | null {
    while (this.#head < this.#arrivals.length) {
      const slot = this.#arrivals[this.#head] as Held;
      if (this.#slots.get(slot.sequence) === slot) return slot.sinceMs;
      this.#head++;
    }
    return null;
  }

  /** Removes and returns everything, by sequence. */
  drain(): readonly Delivery[] {
    const all: Delivery[] = [];
    for (let sequence = this.lowest(); sequence !== null; sequence = this.lowest()) {
      all.push(...(this.take(sequence) ?? []));
    }
    return all;
  }

  /** Drops the outdated entries of both indexes, so that a buffer that is never quite empty does not grow. */
  #compact(): void {
    this.#arrivals = [...this.#slots.values()];
    this.#head = 0;
    this.#bySequence = new MinHeap((sequence) => sequence);
    for (const sequence of this.#slots.keys()) this.#bySequence.push(sequence);
  }

  /** The sequences held, as first and last of each run, in order. */
  runs(): readonly (readonly [first: number, last: number])[] {
    const runs: [number, number][] = [];
    for (const sequence of [...this.#slots.keys()].sort((a, b) => a - b)) {
      const run = runs.at(-1);
      if (run !== undefined && run[1] === sequence - 1) run[1] = sequence;
      else runs.push([sequence, sequence]);
    }
    return runs;
  }

  /** Every delivery held, in no order, left where it is. */
  *deliveries(): Iterable<Delivery> {
    for (const slot of this.#slots.values()) yield* slot.copies;
  }
}

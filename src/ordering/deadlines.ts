/**
 * When a lane is to be looked at again: at the end of its gap's time, for the next reading of its version, or for a
 * retry. A deadline of a lane with nothing due is harmless.
 */
import { MinHeap } from './heap.ts';

interface Entry<T> {
  readonly atMs: number;
  readonly item: T;
}

/** Outdated entries that are not worth the work of dropping them. */
const compactAbove = 64;

export class Deadlines<T> {
  #heap = new MinHeap<Entry<T>>((entry) => entry.atMs);
  /** The earliest entry per item: a later one is pushed only when this one comes up. */
  readonly #earliest = new Map<T, number>();

  get nextMs(): number | null {
    return this.#heap.peek()?.atMs ?? null;
  }

  set(item: T, atMs: number): void {
    const earliest = this.#earliest.get(item);
    if (earliest !== undefined && earliest <= atMs) return;
    this.#earliest.set(item, atMs);
    this.#heap.push({ atMs, item });
  }

  /** Nothing is due for the item any more. Its entry stays in the heap until such entries outnumber the others. */
  delete(item: T): void {
    if (!this.#earliest.delete(item) || this.#heap.size < 2 * this.#earliest.size + compactAbove) return;
    this.#heap = new MinHeap((entry) => entry.atMs);
    for (const [alive, atMs] of this.#earliest) this.#heap.push({ atMs, item: alive });
  }

  /** Removes and returns what is due. An item comes at most once. */
  takeDue(nowMs: number): readonly T[] {
    const due: T[] = [];
    for (let top = this.#heap.peek(); top !== undefined && top.atMs <= nowMs; top = this.#heap.peek()) {
      this.#heap.pop();
      if (this.#earliest.get(top.item) !== top.atMs) continue;
      this.#earliest.delete(top.item);
      due.push(top.item);
    }
    return due;
  }

  clear(): void {
    this.#heap = new MinHeap((entry) => entry.atMs);
    this.#earliest.clear();
  }
}

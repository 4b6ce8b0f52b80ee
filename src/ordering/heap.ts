/**
 * A binary min-heap by a numeric key, and the deadlines that are kept in one. Whoever uses a heap decides what an outdated entry
 * is and skips it.
 */

export class MinHeap<T> {
  readonly #items: T[] = [];
  readonly #keyOf: (item: T) => number;

  constructor(keyOf: (item: T) => number) {
    this.#keyOf = keyOf;
  }

  get size(): number {
    return this.#items.length;
  }

  peek(): T | undefined {
    return this.#items[0];
  }

  push(item: T): void {
    const items = this.#items;
    const key = this.#keyOf(item);
    let at = items.push(item) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      const parent = items[above] as T;
      if (this.#keyOf(parent) <= key) break;
      items[at] = parent;
      at = above;
    }
    items[at] = item;
  }

  pop(): T | undefined {
    const items = this.#items;
    const top = items[0];
    const last = items.pop();
    if (items.length > 0 && last !== undefined) this.#sink(last);
    return top;
  }

  #sink(item: T): void {
    const items = this.#items;
    const key = this.#keyOf(item);
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= items.length) break;
      if (below + 1 < items.length && this.#keyOf(items[below + 1] as T) < this.#keyOf(items[below] as T)) below++;
      const child = items[below] as T;
      if (key <= this.#keyOf(child)) break;
      items[at] = child;
      at = below;
    }
    items[at] = item;
  }
}

interface Entry<T> {
  readonly atMs: number;
  readonly item: T;
}

/** Outdated entries that are not worth the work of dropping them. */
const compactAbove = 64;

/**
 * When an item is to be looked at again: a lane at the end of its gap's time, for the next reading of its version, or for a
 * retry. A deadline of a lane with nothing due is harmless.
 */
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

  /** Nothing is due for the item any more. */
  delete(item: T): void {
    if (this.#earliest.delete(item)) this.#compact();
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
    this.#compact();
    return due;
  }

  /** Drops the outdated entries once they outnumber the others, or are all that is left: nobody is to be woken for them. */
  #compact(): void {
    const { size } = this.#earliest;
    if (this.#heap.size === size || (size > 0 && this.#heap.size < 2 * size + compactAbove)) return;
    this.#heap = new MinHeap((entry) => entry.atMs);
    for (const [alive, atMs] of this.#earliest) this.#heap.push({ atMs, item: alive });
  }

  clear(): void {
    this.#heap = new MinHeap((entry) => entry.atMs);
    this.#earliest.clear();
  }
}

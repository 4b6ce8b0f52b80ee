/**
 * Entries by key that together take no more than so many bytes: the least recently put go first. What an entry takes is
 * said by whoever keeps it; keys are counted here.
 *
 * Why not lru-cache: with entries that are taken out and put back at each commit, as a worker does, it takes 1.2 to 1.8 times the CPU
 * and 50 bytes more for each, and it looks at a clock, which nothing in a pure folder does.
 */

/** What an entry costs besides its value: its place in the map, and its key. Measured on Node 20 and 22, rounded up. */
export function entryBytes(key: string): number {
  return 72 + key.length;
}

export class ByteLru<V> {
  readonly #entries = new Map<string, V>();
  readonly #maxBytes: number;
  /** Of a value; the same each time it is asked for. */
  readonly #bytesOf: (value: V) => number;
  #bytes = 0;

  constructor(maxBytes: number, bytesOf: (value: V) => number) {
    this.#maxBytes = maxBytes;
    this.#bytesOf = bytesOf;
  }

  get size(): number {
    return this.#entries.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get(key: string): V | undefined {
    return this.#entries.get(key);
  }

  /** Removes and returns it. */
  take(key: string): V | undefined {
    const value = this.#entries.get(key);
    if (value === undefined) return undefined;
    this.#entries.delete(key);
    this.#bytes -= entryBytes(key) + this.#bytesOf(value);
    return value;
  }

  put(key: string, value: V): void {
    this.take(key);
    this.#entries.set(key, value);
    this.#bytes += entryBytes(key) + this.#bytesOf(value);
    if (this.#bytes > this.#maxBytes) this.#trim();
  }

  clear(): void {
    this.#entries.clear();
    this.#bytes = 0;
  }

  /** A tenth at a time, so that it is rare: each look for the oldest passes over the places of those that have left. */
  #trim(): void {
    const target = this.#maxBytes * 0.9;
    for (const key of this.#entries.keys()) {
      if (this.#bytes <= target) return;
      this.take(key);
    }
  }
}

/**
 * States of entities as they were last committed or read here, bounded by bytes for the process, least recently used
 * first out. Only an optimisation: an entry counts for exactly one version and one set of holes, and whatever is missing is read
 * from the store again. A state that a processor may have touched without its commit succeeding is dropped.
 */
import type { EntityRef } from '../events/event.ts';
import { entityKey } from '../events/identity.ts';
import { ByteLru } from '../ordering/byte-lru.ts';

export interface CachedState {
  readonly version: number;
  readonly holes: string;
  /** As the store has it; null before the first event. */
  readonly text: string | null;
  /** The same as the aggregate's `evolve` returned it, when that was here. */
  readonly parsed: { readonly state: unknown } | null;
}

/** What the states of all shards of a process may take together. */
export class StateMemory {
  readonly #entries: ByteLru<CachedState>;
  #caches = 0;

  constructor(maxBytes: number) {
    this.#entries = new ByteLru(maxBytes, cachedBytes);
  }

  get bytes(): number {
    return this.#entries.bytes;
  }

  /** A cache of its own: what another one has put in is not seen. */
  newCache(): StateCache {
    return new StateCache(this.#entries, ++this.#caches);
  }
}

export class StateCache {
  readonly #entries: ByteLru<CachedState>;
  readonly #number: number;
  #typicalBytes = 16_384;

  constructor(entries: ByteLru<CachedState>, number: number) {
    this.#entries = entries;
    this.#number = number;
  }

  /** What a state takes as text, of those put in lately; rather too much than too little. */
  get typicalBytes(): number {
    return this.#typicalBytes;
  }

  /** Takes the entry out when it is of this version; the caller puts the next one in after its commit. */
  take(entity: EntityRef, version: number, holes: string): CachedState | null {
    const cached = this.#entries.take(this.#keyOf(entity));
    return cached !== undefined && cached.version === version && cached.holes === holes ? cached : null;
  }

  put(entity: EntityRef, cached: CachedState): void {
    const bytes = 100 + (cached.text?.length ?? 0);
    this.#typicalBytes += (bytes - this.#typicalBytes) * (bytes > this.#typicalBytes ? 0.5 : 0.02);
    this.#entries.put(this.#keyOf(entity), cached);
  }

  #keyOf(entity: EntityRef): string {
    return `${this.#number} ${entityKey(entity)}`;
  }
}

/** A state as an object takes a few times what its text does. */
function cachedBytes({ text, holes }: CachedState): number {
  return 200 + holes.length + 4 * (text?.length ?? 0);
}

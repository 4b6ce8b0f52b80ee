/**
 * States of entities as they were last committed or read here, least recently used first out. Only an
 * optimisation: an entry counts for exactly one version and one set of holes, and whatever is missing is read
 * from the store again. A state that a processor may have touched without its commit succeeding is dropped.
 */
import type { EntityRef } from '../events/event.ts';

export interface CachedState {
  readonly version: number;
  readonly holes: string;
  /** As the store has it; null before the first event. */
  readonly text: string | null;
  /** The same as the aggregate's `evolve` returned it, when that was here. */
  readonly parsed: { readonly state: unknown } | null;
}

export class StateCache {
  readonly #entries = new Map<string, CachedState>();
  readonly #maxEntries: number;

  constructor(maxEntries: number) {
    this.#maxEntries = maxEntries;
  }

  /** Takes the entry out when it is of this version; the caller puts the next one in after its commit. */
  take(entity: EntityRef, version: number, holes: string): CachedState | null {
    const key = keyOf(entity);
    const cached = this.#entries.get(key);
    if (cached === undefined) return null;
    this.#entries.delete(key);
    return cached.version === version && cached.holes === holes ? cached : null;
  }

  put(entity: EntityRef, cached: CachedState): void {
    const key = keyOf(entity);
    this.#entries.delete(key);
    this.#entries.set(key, cached);
    if (this.#entries.size <= this.#maxEntries) return;
    for (const oldest of this.#entries.keys()) {
      this.#entries.delete(oldest);
      break;
    }
  }

  clear(): void {
    this.#entries.clear();
  }
}

function keyOf({ entityType, entityId }: EntityRef): string {
  return `${entityType}\0${entityId}`;
}

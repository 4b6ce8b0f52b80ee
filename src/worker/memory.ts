/**
 * How a worker's memory budget is divided: unsettled deliveries, the states of entities, and what is remembered of idle
 * entities. The budget covers everything that grows with traffic, not the base size of the process.
 *
 * The states are kept as last committed or read by this process, bounded in bytes, least recently used out first. That is only an
 * optimisation: an entry is valid for exactly one version and set of holes, and a missing one is read from the store. A state that a
 * processor may have changed without a successful commit is dropped.
 */
import { heldShare } from '../config/config.ts';
import type { EntityRef } from '../events/event.ts';
import { entityKey } from '../events/identity.ts';
import { ByteLru } from '../ordering/lane.ts';
import type { SequencerLimits } from '../ordering/facts.ts';
import { DeliveryMemory } from './intake.ts';

export interface WorkerMemory {
  readonly deliveries: DeliveryMemory;
  readonly states: StateMemory;
  /** Limit on the states that one shard reads or writes at a time, in bytes, all copies counted. */
  readonly maxStateWorkBytes: number;
  readonly limits: Pick<SequencerLimits, 'maxRememberedBytes' | 'maxHeldBytes'>;
}

const shares = { deliveries: 0.6, cachedStates: 0.16, statesInWork: 0.16, remembered: 0.08 };

export function shareOut(budgetBytes: number, shards: number): WorkerMemory {
  const forDeliveries = budgetBytes * shares.deliveries;
  return {
    deliveries: new DeliveryMemory(forDeliveries),
    states: new StateMemory(budgetBytes * shares.cachedStates),
    maxStateWorkBytes: (budgetBytes * shares.statesInWork) / shards,
    limits: {
      maxRememberedBytes: (budgetBytes * shares.remembered) / shards,
      // When all shards are busy, each gets as much as stays free.
      maxHeldBytes: (forDeliveries / (shards + 1)) * heldShare,
    },
  };
}

export interface CachedState {
  readonly version: number;
  readonly holes: string;
  /** As stored; null before the first event. */
  readonly text: string | null;
  /** As the aggregate's `evolve` returned it; null when it was read from the store. */
  readonly parsed: { readonly state: unknown } | null;
}

/** The memory for the states of all shards of a process. */
export class StateMemory {
  readonly #entries: ByteLru<CachedState>;
  #caches = 0;

  constructor(maxBytes: number) {
    this.#entries = new ByteLru(maxBytes, cachedBytes);
  }

  get bytes(): number {
    return this.#entries.bytes;
  }

  /** A separate cache: it does not see the entries of others. */
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

  /** The size of recent states as text; an upper estimate. */
  get typicalBytes(): number {
    return this.#typicalBytes;
  }

  /** Removes and returns the entry if it is of this version; the caller puts the next one in after its commit. */
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

/** An object takes a few times the memory of its text. */
function cachedBytes({ text, holes }: CachedState): number {
  return 200 + holes.length + 4 * (text?.length ?? 0);
}

/**
 * The lanes of one shard, by entity. A lane lives while something of its entity arrives, is held or is under way; at
 * rest only what is known of the entity is remembered, in tens of bytes, and the oldest of that is forgotten when it
 * takes too many: the entity is then read again.
 */
import type { EntityRef } from '../events/event.ts';
import { ByteLru } from './byte-lru.ts';
import { Lane, type Remembered } from './lane.ts';

export class Lanes {
  readonly #awake = new Map<string, Lane>();
  readonly #atRest: ByteLru<Remembered>;

  constructor(maxRememberedBytes: number) {
    this.#atRest = new ByteLru(maxRememberedBytes, rememberedBytes);
  }

  get size(): number {
    return this.#awake.size + this.#atRest.size;
  }

  /** For looking only: what is done to the lane of an entity at rest is lost. */
  look(entityType: string, entityId: string): Lane | undefined {
    const key = keyOf({ entityType, entityId });
    const remembered = this.#atRest.get(key);
    return remembered === undefined ? this.#awake.get(key) : new Lane({ entityType, entityId }, remembered);
  }

  /** Wakes it. Whoever does calls `rest` when the lane has gone as far as it can. */
  of({ entityType, entityId }: EntityRef): Lane {
    const key = keyOf({ entityType, entityId });
    let lane = this.#awake.get(key);
    if (lane === undefined) {
      lane = new Lane({ entityType, entityId }, this.#atRest.take(key) ?? null);
      this.#awake.set(key, lane);
    }
    return lane;
  }

  /** Lets go of the lane, where nothing of it is left but what is remembered. */
  rest(lane: Lane): void {
    if (!lane.idle) return;
    const key = keyOf(lane.entity);
    // A deadline may come up for a lane that has gone: its entity may have another one by now.
    if (this.#awake.get(key) !== lane) return;
    this.#awake.delete(key);
    const remembered = lane.remembered();
    if (remembered !== null) this.#atRest.put(key, remembered);
  }

  awake(): Iterable<Lane> {
    return this.#awake.values();
  }

  clear(): void {
    this.#awake.clear();
    this.#atRest.clear();
  }
}

function keyOf({ entityType, entityId }: EntityRef): string {
  return `${entityType}\0${entityId}`;
}

function rememberedBytes(remembered: Remembered): number {
  return typeof remembered === 'number' ? 0 : 120 + remembered.holes.toString().length * 2;
}

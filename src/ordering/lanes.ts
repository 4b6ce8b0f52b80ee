/**
 * The lanes of one shard, by entity. Idle ones hold nothing but a cached version, so they can be forgotten.
 */
import type { EntityRef } from '../events/event.ts';
import { Lane } from './lane.ts';

export class Lanes {
  readonly #lanes = new Map<string, Lane>();
  readonly #maxLanes: number;

  constructor(maxLanes: number) {
    this.#maxLanes = maxLanes;
  }

  get size(): number {
    return this.#lanes.size;
  }

  get(entityType: string, entityId: string): Lane | undefined {
    return this.#lanes.get(`${entityType}\0${entityId}`);
  }

  of({ entityType, entityId }: EntityRef): Lane {
    const key = `${entityType}\0${entityId}`;
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = new Lane({ entityType, entityId });
      this.#lanes.set(key, lane);
    }
    return lane;
  }

  values(): Iterable<Lane> {
    return this.#lanes.values();
  }

  /** Forgets idle lanes, the oldest first, when there are too many: a tenth at a time, so that it is rare. */
  trim(): void {
    if (this.#lanes.size <= this.#maxLanes) return;
    let surplus = this.#lanes.size - Math.floor(this.#maxLanes * 0.9);
    for (const [key, lane] of this.#lanes) {
      if (surplus <= 0) return;
      if (!lane.idle) continue;
      this.#lanes.delete(key);
      surplus--;
    }
  }

  clear(): void {
    this.#lanes.clear();
  }
}

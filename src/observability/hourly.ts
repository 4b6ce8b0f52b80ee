/** Says something of an entity once an hour, in bounded memory: of more entities than it remembers, those of long ago are told again. */
import type { EntityRef } from '../events/event.ts';
import { entityKey } from '../events/identity.ts';

const hourMs = 3_600_000;
const maxEntities = 1_000;

export class HourlyPerEntity {
  /** When it was said last, by entity; the oldest first. */
  readonly #saidMs = new Map<string, number>();

  /** True when it is to be said now. `nowMs` is monotonic. */
  isDue(entity: EntityRef, nowMs: number): boolean {
    const key = entityKey(entity);
    const saidMs = this.#saidMs.get(key);
    if (saidMs !== undefined && nowMs - saidMs < hourMs) return false;
    this.#saidMs.delete(key);
    this.#saidMs.set(key, nowMs);
    if (this.#saidMs.size > maxEntities) for (const oldest of this.#saidMs.keys()) return this.#saidMs.delete(oldest);
    return true;
  }
}

/**
 * Numbers the events of each entity 1, 2, 3… as they come, or from 0 if the stream counts from 0. Guarantees that the events of one
 * entity either are all numbered here or all came with numbers: a mixture would give one number to two events. Its entry
 * per entity is the only memory of publishing that grows with the input.
 */
import type { EntityRef } from '../events/event.ts';

export class SequenceNumbers {
  /** The number of numbered events; null for an entity whose events came with numbers. */
  readonly #counts = new Map<string, number | null>();
  readonly #first: number;

  constructor(first: 0 | 1 = 1) {
    this.#first = first;
  }

  /** The next number of an entity; null when its earlier events came with numbers: then this one is invalid. */
  next(entity: EntityRef): number | null {
    const key = keyOf(entity);
    const count = this.#counts.get(key);
    if (count === null) return null;
    this.#counts.set(key, (count ?? 0) + 1);
    return (count ?? 0) + this.#first;
  }

  /** Records that an event came with a number. False when others of its entity were numbered here. */
  came(entity: EntityRef): boolean {
    const key = keyOf(entity);
    const count = this.#counts.get(key);
    if (count === undefined) this.#counts.set(key, null);
    return typeof count !== 'number';
  }
}

/** The length separates type and id, which may contain any character. */
function keyOf({ entityType, entityId }: EntityRef): string {
  return `${entityType.length}:${entityType}${entityId}`;
}

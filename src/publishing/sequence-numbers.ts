/**
 * Numbers the events of each entity 1, 2, 3… as they come, or from 0 where the stream does. Guarantees that the events of one entity are either
 * all numbered here or all came with numbers: a mixture would give one number to two events. What it keeps of
 * an entity is the only thing in publishing that grows with the input.
 */
import type { EntityRef } from '../events/event.ts';

export class SequenceNumbers {
  /** How many were numbered; null for an entity whose events came with numbers. */
  readonly #counts = new Map<string, number | null>();
  readonly #first: number;

  constructor(first: 0 | 1 = 1) {
    this.#first = first;
  }

  /** The next number of an entity; null when its events came with numbers, and this one is without by mistake. */
  next(entity: EntityRef): number | null {
    const key = keyOf(entity);
    const count = this.#counts.get(key);
    if (count === null) return null;
    this.#counts.set(key, (count ?? 0) + 1);
    return (count ?? 0) + this.#first;
  }

  /** Notes that an event came with a number. False when others of its entity were numbered here. */
  came(entity: EntityRef): boolean {
    const key = keyOf(entity);
    const count = this.#counts.get(key);
    if (count === undefined) this.#counts.set(key, null);
    return typeof count !== 'number';
  }
}

/** The length tells where the type ends: both parts may hold any character. */
function keyOf({ entityType, entityId }: EntityRef): string {
  return `${entityType.length}:${entityType}${entityId}`;
}

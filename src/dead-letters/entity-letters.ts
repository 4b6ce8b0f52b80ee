/** Summaries of dead letters by entity, as a reading of the queue gathers them. */
import type { EntityRef } from '../events/event.ts';
import type { DeadLetter } from './dead-letter.ts';
import { type LettersOfEntity, summaryOf } from './replay-plan.ts';

export class EntityLetters {
  readonly #byName = new Map<string, LettersOfEntity>();

  /** `meant` says to which of the entity's lists it belongs. False when it has no entity, or no sequence in it. */
  add(letter: DeadLetter, meant: boolean): boolean {
    const { entityType, entityId, sequence } = letter;
    if (entityType === null || entityId === null || sequence === null) return false;
    const name = entityName({ entityType, entityId });
    let letters = this.#byName.get(name);
    if (letters === undefined) {
      letters = { entity: { entityType, entityId }, meant: [], others: [] };
      this.#byName.set(name, letters);
    }
    (meant ? letters.meant : letters.others).push(summaryOf(letter));
    return true;
  }

  of({ entityType, entityId }: Pick<DeadLetter, 'entityType' | 'entityId'>): LettersOfEntity | null {
    return entityType === null || entityId === null ? null : (this.#byName.get(entityName({ entityType, entityId })) ?? null);
  }

  all(): readonly LettersOfEntity[] {
    return [...this.#byName.values()];
  }
}

/** The same for the same entity, and for no other. */
export function entityName({ entityType, entityId }: EntityRef): string {
  return JSON.stringify([entityType, entityId]);
}

/**
 * Summaries of dead letters by entity, as a reading of the queue gathers them. A letter whose sequence cannot be read stands
 * beside every entity of its id: nobody can say whether it is what one of them waits for.
 */
import type { EntityRef } from '../events/event.ts';
import type { LettersOfEntity, LetterSummary } from './replay-plan.ts';

export class EntityLetters {
  readonly #byName = new Map<string, LettersOfEntity>();
  /** By entity id. */
  readonly #unread = new Map<string, LetterSummary[]>();

  /** `meant` says to which of the entity's lists it belongs. False when it has no entity, or no sequence in it. */
  add(letter: LetterSummary, meant: boolean): boolean {
    const { entityType, entityId, sequence } = letter;
    if (entityType === null || entityId === null || sequence === null) {
      if (entityId !== null) this.#unreadOf(entityId).push(letter);
      return false;
    }
    const name = entityName({ entityType, entityId });
    let letters = this.#byName.get(name);
    if (letters === undefined) {
      letters = { entity: { entityType, entityId }, meant: [], others: [], unread: this.#unreadOf(entityId) };
      this.#byName.set(name, letters);
    }
    (meant ? letters.meant : letters.others).push(letter);
    return true;
  }

  of({ entityType, entityId }: Pick<LetterSummary, 'entityType' | 'entityId'>): LettersOfEntity | null {
    return entityType === null || entityId === null ? null : (this.#byName.get(entityName({ entityType, entityId })) ?? null);
  }

  unreadOf(entityId: string): readonly LetterSummary[] {
    return this.#unread.get(entityId) ?? [];
  }

  all(): readonly LettersOfEntity[] {
    return [...this.#byName.values()];
  }

  #unreadOf(entityId: string): LetterSummary[] {
    const unread = this.#unread.get(entityId) ?? [];
    if (unread.length === 0) this.#unread.set(entityId, unread);
    return unread;
  }
}

/** The same for the same entity, and for no other. */
export function entityName({ entityType, entityId }: EntityRef): string {
  return JSON.stringify([entityType, entityId]);
}

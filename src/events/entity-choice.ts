/** Which entities something is for: one, those of a type, or all. */
import type { EntityRef } from './event.ts';

export interface EntityChoice {
  /** Null: all of the type. */
  readonly entityId: string | null;
  /** Null: of every type, where `entityId` is null as well. */
  readonly entityType: string | null;
}

/** As a command is given them: the default type is only that of an id. */
export function entityChoice(entityId: string | undefined, type: string | null, defaultType: string): EntityChoice {
  return { entityId: entityId ?? null, entityType: type ?? (entityId === undefined ? null : defaultType) };
}

/** Null where several are chosen. */
export function oneOf({ entityId, entityType }: EntityChoice): EntityRef | null {
  return entityId === null || entityType === null ? null : { entityType, entityId };
}

export function isChosen(choice: EntityChoice, { entityId, entityType }: EntityRef): boolean {
  return (choice.entityId === null || choice.entityId === entityId) && (choice.entityType === null || choice.entityType === entityType);
}

export function choiceText({ entityId, entityType }: EntityChoice): string {
  if (entityId !== null) return `${entityType} ${JSON.stringify(entityId)}`;
  return entityType === null ? 'all entities' : `all entities of type ${JSON.stringify(entityType)}`;
}

/** Dead letters counted by what they have in common. */
import type { DeadLetter } from './dead-letter.ts';

export const groupings = ['reason', 'type', 'entity', 'shard'] as const;
export type Grouping = (typeof groupings)[number];

export interface LetterGroup {
  /** What its letters have in common; null where it is not known of them. */
  readonly name: string | null;
  readonly count: number;
  /** When the first and the last of them were dead-lettered, ISO 8601; null where no time is known. */
  readonly first: string | null;
  readonly last: string | null;
}

type Counted = { -readonly [Field in keyof LetterGroup]: LetterGroup[Field] };

export class LetterGroups {
  readonly #by: Grouping;
  readonly #groups = new Map<string | null, Counted>();

  constructor(by: Grouping) {
    this.#by = by;
  }

  add(letter: DeadLetter): void {
    const name = this.#nameOf(letter);
    const at = letter.deadLetteredAt;
    const group = this.#groups.get(name);
    if (group === undefined) {
      this.#groups.set(name, { name, count: 1, first: at, last: at });
      return;
    }
    group.count++;
    if (at !== null && (group.first === null || at < group.first)) group.first = at;
    if (at !== null && (group.last === null || at > group.last)) group.last = at;
  }

  /** The largest first. */
  list(): readonly LetterGroup[] {
    return [...this.#groups.values()].sort((a, b) => b.count - a.count);
  }

  #nameOf({ reason, type, entityType, entityId, shard }: DeadLetter): string | null {
    switch (this.#by) {
      case 'reason':
        return reason;
      case 'type':
        return type;
      case 'entity':
        return entityId === null ? null : entityType === null ? entityId : `${entityType} ${entityId}`;
      case 'shard':
        return shard === null ? null : String(shard);
    }
  }
}

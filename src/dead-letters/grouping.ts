/** Dead letters counted by what they have in common. */
import type { DeadLetter } from './dead-letter.ts';

export const groupings = ['reason', 'type', 'entity', 'shard', 'detail'] as const;
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

  #nameOf({ reason, type, entityType, entityId, shard, detail }: DeadLetter): string | null {
    switch (this.#by) {
      case 'reason':
        return reason;
      case 'type':
        return type;
      case 'entity':
        return entityId === null ? null : entityType === null ? entityId : `${entityType} ${entityId}`;
      case 'shard':
        return shard === null ? null : String(shard);
      case 'detail':
        return causeOf(detail);
    }
  }
}

const longestCause = 200;

/** A detail without what differs from letter to letter of one cause: quoted values, addresses, numbers, times, ids. */
export function causeOf(detail: string): string {
  const cause = detail
    .slice(0, 1_024)
    .replaceAll(/"(?:[^"\\]|\\.)*"|`[^`]*`|(?<!\w)'[^']*'(?!\w)/g, '"…"')
    .replaceAll(/\d{4}-\d\d-\d\d[T ]\d\d:\d\d[\d:.,]*(?:Z| ?[+-]\d\d:?\d\d)?/g, '#')
    .replaceAll(/[^\s"'<>()]+@[^\s"'<>()]+/g, '…@…')
    // Also 17, order-17, 0x1f, 3fa85f64-…, ab12: whatever has a digit names one of many.
    .replaceAll(/(?<![\p{L}\p{N}_.-])[\p{L}\p{N}_.-]*\p{N}[\p{L}\p{N}_-]*(?:\.[\p{L}\p{N}_-]+)*/gu, '#')
    .replaceAll(/\b[0-9a-f]{12,}\b/gi, '#');
  return cause.length <= longestCause ? cause : `${cause.slice(0, longestCause)}…`;
}

/** The search for dead letters: every given field must match, and the words may be anywhere. Pure. */
import { type DeadLetter, type DeadLetterReason, deadLetterReasons, type LetterFilter, matches } from '../dead-letters/dead-letter.ts';
import { ConfigError } from '../errors.ts';

export interface LetterSearch {
  readonly filter: LetterFilter;
  /** In lower case; the empty string matches every letter. */
  readonly words: string;
}

/** The fields, named as in `list --json`. */
const fields = ['message_id', 'entity_type', 'entity_id', 'type', 'reason', 'shard', 'words'] as const;
type Field = (typeof fields)[number];

const longestField = 4_096;

/** @throws ConfigError with all problems. */
export function searchOf(given: Readonly<Record<string, unknown>>): LetterSearch {
  const problems: string[] = [];
  const texts: Partial<Record<Field, string>> = {};
  for (const [name, value] of Object.entries(given)) {
    const field = fields.find((known) => known === name);
    if (field === undefined) problems.push(`there is no field ${JSON.stringify(name.slice(0, 50))}: there are ${fields.join(', ')}`);
    else if (typeof value !== 'string' || value.length > longestField)
      problems.push(`${field} must be a text of at most ${longestField} characters`);
    else texts[field] = value;
  }
  const reason = texts.reason === undefined ? undefined : reasonOf(texts.reason);
  if (reason === null) problems.push(`reason must be one of ${deadLetterReasons.join(', ')}`);
  const shard = texts.shard === undefined ? undefined : shardOf(texts.shard);
  if (shard === null) problems.push('shard must be a whole number');
  if (problems.length > 0) throw new ConfigError(problems);
  return {
    filter: {
      ids: texts.message_id === undefined ? undefined : [texts.message_id],
      entityType: texts.entity_type,
      entityId: texts.entity_id,
      type: texts.type,
      reason: reason ?? undefined,
      shard: shard ?? undefined,
    },
    words: (texts.words ?? '').trim().toLowerCase(),
  };
}

export function isFound(letter: DeadLetter, { filter, words }: LetterSearch): boolean {
  if (!matches(letter, filter)) return false;
  if (words === '') return true;
  const { messageId, fingerprint, entityType, entityId, type, reason, detail } = letter;
  return [messageId, fingerprint, entityType, entityId, type, reason, detail].some((text) => text?.toLowerCase().includes(words));
}

function reasonOf(text: string): DeadLetterReason | null {
  return deadLetterReasons.find((reason) => reason === text) ?? null;
}

function shardOf(text: string): number | null {
  return /^\d{1,9}$/.test(text) ? Number(text) : null;
}

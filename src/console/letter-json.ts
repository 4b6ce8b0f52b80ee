/**
 * Dead letters between the browser and the console: how it searches for them, and the JSON that it gets, with headers and body only
 * for one letter on request.
 */
import {
  type Grouping,
  groupings,
  letterFields,
  textOf,
  type DeadLetter,
  type DeadLetterReason,
  deadLetterReasons,
  type LetterFilter,
  matches,
} from '../dead-letters/dead-letter.ts';
import type { LetterStatus, LetterSummary } from '../dead-letters/replay-plan.ts';
import { ConfigError } from '../errors.ts';
import { entityFields, type EntityRef, type RawMessage } from '../events/event.ts';
import { layOutJson, utf8, valueText } from '../printable.ts';
import type { Catalogue, KeptLetter } from './letter-catalogue.ts';
import type { Group, Letter, LetterDetail, Letters, Payload } from './page/answers.d.ts';

/** The most bytes of a body for the browser; `inorder dead-letters show --json` prints all. */
const shownBytes = 131_072;

/** The most groups to list, the largest first. */
const maxGroups = 100;

/** The groups, each with the search that finds its letters. */
export function groupFields({ groups, entities }: Catalogue): Letters['groups'] {
  const named = new Map(entities.all().map(({ entity }) => [`${entity.entityType} ${entity.entityId}`, entity]));
  return Object.fromEntries(
    groupings.map((by) => {
      const rows = groups[by].slice(0, maxGroups).map((group) => ({ ...group, search: searchFor(by, group.name, named) }));
      return [by, { rows, total: groups[by].length }];
    }),
  );
}

function searchFor(by: Grouping, name: string | null, entities: ReadonlyMap<string, EntityRef>): Group['search'] {
  if (name === null) return null;
  // The common part of several details is the text of none.
  if (by === 'detail') return null;
  if (by !== 'entity') return { [by]: name };
  const entity = entities.get(name);
  return entity === undefined ? null : entityFields(entity);
}

export function listFields(letter: KeptLetter): Letter {
  return { ...letterFields(letter), fingerprint: letter.fingerprint };
}

export function detailFields(letter: KeptLetter, copies: number, status: LetterStatus | null): Omit<LetterDetail, 'payload'> {
  const { meaning, cause, remedy } = textOf(letter.reason);
  return {
    ...listFields(letter),
    copies,
    meaning,
    cause,
    remedy,
    stack: letter.stack,
    replayed_at: letter.replayedAt,
    status: status?.text ?? null,
    entity_version: status?.version ?? null,
    entity_parked: status?.parked ?? null,
    missing: status?.missing ?? null,
    content_type: letter.message.contentType ?? null,
    body_bytes: letter.bodyBytes,
  };
}

/** The parts of a message that may contain payload: headers, routing key and body. */
export function payloadFields({ headers, routingKey, body }: RawMessage): Payload {
  const shown = body.subarray(0, shownBytes);
  return {
    headers: Object.entries(headers).map(([name, value]) => [name, valueText(value)]),
    routing_key: routingKey,
    ...bodyFields(shown),
    cut_bytes: body.byteLength - shown.byteLength,
  };
}

export function summaryFields({ messageId, sequence, reason }: LetterSummary) {
  return { message_id: messageId, sequence, reason };
}

function bodyFields(body: Uint8Array): Pick<Payload, 'body_kind' | 'body'> {
  const text = utf8(body, body.byteLength === shownBytes);
  if (text === null) return { body_kind: 'base64', body: Buffer.from(body).toString('base64') };
  const layout = layOutJson(text);
  return layout === null ? { body_kind: 'text', body: text } : { body_kind: 'json', body: layout };
}

/** Every given field must match, and the words may be anywhere. */
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

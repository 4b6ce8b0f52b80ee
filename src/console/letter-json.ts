/** Dead letters as the browser gets them: in lists without headers and body, and those only of one letter, on request. */
import { textOf } from '../dead-letters/dead-letter.ts';
import { type Grouping, groupings } from '../dead-letters/grouping.ts';
import { layOutJson } from '../dead-letters/json-layout.ts';
import type { LetterSummary } from '../dead-letters/replay-plan.ts';
import type { Standing } from '../dead-letters/standing.ts';
import type { EntityRef, RawMessage } from '../events/event.ts';
import type { Catalogue, KeptLetter } from './letter-catalogue.ts';

/** Bytes of a body that a browser is given; `inorder dead-letters show --json` has all of them. */
const shownBytes = 131_072;

/** Groups that are told one by one, the largest. */
const maxGroups = 100;

/** By grouping, with what to search for to find a group's letters. */
export function groupFields({ groups, entities }: Catalogue): object {
  const named = new Map(entities.all().map(({ entity }) => [`${entity.entityType} ${entity.entityId}`, entity]));
  return Object.fromEntries(
    groupings.map((by) => {
      const rows = groups[by].slice(0, maxGroups).map((group) => ({ ...group, search: searchFor(by, group.name, named) }));
      return [by, { rows, total: groups[by].length }];
    }),
  );
}

function searchFor(by: Grouping, name: string | null, entities: ReadonlyMap<string, EntityRef>): object | null {
  if (name === null) return null;
  // What is common of several details is the text of none.
  if (by === 'detail') return null;
  if (by !== 'entity') return { [by]: name };
  const entity = entities.get(name);
  return entity === undefined ? null : { entity_type: entity.entityType, entity_id: entity.entityId };
}

export function listFields(letter: KeptLetter): object {
  return {
    message_id: letter.messageId,
    fingerprint: letter.fingerprint,
    entity_type: letter.entityType,
    entity_id: letter.entityId,
    sequence: letter.sequence,
    type: letter.type,
    reason: letter.reason,
    detail: letter.detail,
    shard: letter.shard,
    dead_lettered_at: letter.deadLetteredAt,
    replays: letter.replayedAt.length,
  };
}

export function detailFields(letter: KeptLetter, copies: number, standing: Standing | null): object {
  const { meaning, cause, remedy } = textOf(letter.reason);
  return {
    ...listFields(letter),
    copies,
    meaning,
    cause,
    remedy,
    stack: letter.stack,
    replayed_at: letter.replayedAt,
    standing: standing?.text ?? null,
    entity_version: standing?.version ?? null,
    entity_parked: standing?.parked ?? null,
    missing: standing?.missing ?? null,
    content_type: letter.message.contentType ?? null,
    body_bytes: letter.bodyBytes,
  };
}

/** What a payload may be hidden in: the headers, the routing key and the body. */
export function payloadFields({ headers, routingKey, body }: RawMessage): object {
  const shown = body.subarray(0, shownBytes);
  return {
    headers: Object.entries(headers).map(([name, value]) => [name, headerText(value)]),
    routing_key: routingKey,
    ...bodyFields(shown),
    cut_bytes: body.byteLength - shown.byteLength,
  };
}

export function summaryFields({ messageId, sequence, reason }: LetterSummary): object {
  return { message_id: messageId, sequence, reason };
}

function bodyFields(body: Uint8Array): object {
  const text = utf8(body);
  if (text === null) return { body_kind: 'base64', body: Buffer.from(body).toString('base64') };
  const layout = layOutJson(text);
  return layout === null ? { body_kind: 'text', body: text } : { body_kind: 'json', body: layout };
}

/** Null when it is not text; where it was cut, a last character may lack its end. */
function utf8(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes, { stream: bytes.byteLength === shownBytes });
  } catch {
    return null;
  }
}

function headerText(value: unknown): string {
  if (typeof value === 'string') return value;
  return JSON.stringify(value, (_, inner: unknown) => (typeof inner === 'bigint' ? String(inner) : inner)) ?? 'undefined';
}

/** Dead letters as JSON for the browser: without headers and body in lists, with them for one letter on request. */
import { type Grouping, groupings, letterFields, textOf } from '../dead-letters/dead-letter.ts';
import type { LetterStatus, LetterSummary } from '../dead-letters/replay-plan.ts';
import { layOutJson } from '../events/json-layout.ts';
import { entityFields, type EntityRef, type RawMessage } from '../events/event.ts';
import { utf8, valueText } from '../printable.ts';
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

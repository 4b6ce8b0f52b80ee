/** Dead letters as the browser gets them: in lists without headers and body, and those only of one letter, on request. */
import { type Grouping, groupings, textOf } from '../dead-letters/dead-letter.ts';
import { letterFields } from '../dead-letters/letter-copy.ts';
import type { LetterStatus, LetterSummary } from '../dead-letters/replay-plan.ts';
import { layOutJson } from '../events/json-layout.ts';
import { entityFields, type EntityRef, type RawMessage } from '../events/event.ts';
import { utf8, valueText } from '../printable.ts';
import type { Catalogue, KeptLetter } from './letter-catalogue.ts';
import type { Group, Letter, LetterDetail, Letters, Payload } from './page/answers.d.ts';

/** Bytes of a body that a browser is given; `inorder dead-letters show --json` has all of them. */
const shownBytes = 131_072;

/** Groups that are told one by one, the largest. */
const maxGroups = 100;

/** By grouping, with what to search for to find a group's letters. */
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
  // What is common of several details is the text of none.
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

/** What a payload may be hidden in: the headers, the routing key and the body. */
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

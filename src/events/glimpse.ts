/**
 * What can still be made out of a message that is refused: whose event it is, its sequence, its id and its type, for the
 * record of the dead letter. Reads also what no decoder may take for an event: under a wrong content type or encoding,
 * behind a byte-order mark, around a NaN, cut off. What it finds is checked like every other field, and says nothing for
 * which the text has two answers.
 */
import { constants, unzipSync } from 'node:zlib';
import { type RawFields, noRawFields } from './raw-fields.ts';
import { attributeHeaders, hasAttributes } from './cloudevents-headers.ts';
import { attributeNames, attributesOf, rawFieldsOf, isStructured } from './cloudevents.ts';
import { memberNames } from './envelope.ts';
import type { EventLimits, RawMessage } from './event.ts';

/** The members of an envelope, or the attributes of a CloudEvent, that a record names. */
const wanted: ReadonlySet<string> = new Set([
  'id',
  'type',
  'sequence',
  'entity_type',
  'entity_id',
  'specversion',
  'source',
  'subject',
  'entitytype',
]);

/** In place of fields that could not be read. */
export function glimpsed({ problem }: RawFields, message: RawMessage, limits: EventLimits): RawFields {
  if (hasAttributes(message.headers)) return { ...rawFieldsOf(attributesOf(attributeHeaders(message.headers))), problem };
  const { members, isWhole } = glimpseMembers(textOf(message, limits.maxBodyBytes));
  const found = Object.fromEntries(members);
  if (isStructured(found)) return { ...rawFieldsOf(found), names: attributeNames, problem, isWhole };
  const { id, type, sequence, entity_id: entityId, entity_type: entityType } = found;
  return {
    ...noRawFields(memberNames),
    problem,
    isWhole,
    id,
    type,
    entityId,
    entityType,
    sequence: typeof sequence === 'number' ? sequence : null,
  };
}

/** Bytes that are no UTF-8 become a character that no name is taken with. */
const utf8 = new TextDecoder('utf-8');
const replacement = '\ufffd';

function textOf({ body, contentEncoding }: RawMessage, maxBytes: number): string {
  const start = body.subarray(0, maxBytes);
  if (!/gzip|deflate/i.test(contentEncoding ?? '')) return utf8.decode(start);
  // Also of truncated data, as far as they go. Of data that are too large only the first bytes: one unpacks to at most 1,032.
  for (const packed of [start, start.subarray(0, 1_024)]) {
    try {
      const options = { maxOutputLength: Math.max(maxBytes, 1_024 * 1_032), finishFlush: constants.Z_SYNC_FLUSH };
      return utf8.decode(unzipSync(packed, options).subarray(0, maxBytes));
    } catch {
      // The next one, or the text as it stands.
    }
  }
  return utf8.decode(start);
}

interface Glimpse {
  readonly members: ReadonlyMap<string, unknown>;
  /** The end of the object was seen. */
  readonly isWhole: boolean;
}

/** The top-level members of what may be an object, in one pass and without recursion, however deep it is. */
export function glimpseMembers(text: string): Glimpse {
  const members = new Map<string, unknown>();
  let [at, depth, key, isValue] = [text.search(/\S/), 0, '', false];
  if (text[at] !== '{') return { members, isWhole: false };
  const found = (value: unknown) => {
    // Twice, and not the same: nobody can say which is meant.
    if (wanted.has(key)) members.set(key, members.has(key) && members.get(key) !== value ? undefined : value);
  };
  for (let start = at; start < text.length; start = at) {
    const character = text[start]!;
    at = endOfToken(text, start);
    if (at > text.length) break;
    if (character <= ' ') continue;
    if (character === '}' || character === ']') {
      if (--depth === 0) return { members, isWhole: true };
    } else if (character === '{' || character === '[') {
      if (depth++ === 1) found(undefined);
    } else if (depth > 1) continue;
    else if (character === ':') isValue = true;
    else if (character === ',') isValue = false;
    else if (isValue) found(readValue(text.slice(start, at)));
    else key = String(readValue(text.slice(start, at)));
  }
  return { members, isWhole: false };
}

/** Beyond the text where a string is cut off. */
function endOfToken(text: string, start: number): number {
  let at = start + 1;
  if (text[start] === '"') {
    while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
    return at + 1;
  }
  if (isDelimiter(text, start)) return at;
  while (at < text.length && text[at] !== '"' && !isDelimiter(text, at)) at++;
  return at;
}

function isDelimiter(text: string, at: number): boolean {
  return text[at]! <= ' ' || '{}[]:,'.includes(text[at]!);
}

/** Undefined where it is neither a string nor a number that is what it says. */
function readValue(token: string): unknown {
  // A hundred thousand errors that are thrown for nothing would take a second.
  if (!/^["\d-]/.test(token)) return undefined;
  try {
    const value: unknown = JSON.parse(token);
    return (typeof value === 'string' && !value.includes(replacement)) || (typeof value === 'number' && String(value) === token)
      ? value
      : undefined;
  } catch {
    return undefined;
  }
}

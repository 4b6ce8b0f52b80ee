/**
 * Reads what it can of a refused message (entity, sequence, id and type) for the record of the dead letter. Unlike the decoder it
 * accepts a wrong content type or encoding, a byte-order mark, NaN, and truncated text. The fields it finds are checked like all
 * others; a field with two different values is left out.
 */
import { constants, unzipSync } from 'node:zlib';
import { memberNames, noRawFields, type RawFields } from './raw-fields.ts';
import { attributeHeaders, hasAttributes, attributeNames, attributesOf, rawFieldsOf, isStructured } from './cloudevents.ts';
import type { EventLimits, RawMessage } from './event.ts';

/** The members of an envelope, or the attributes of a CloudEvent, for the record. */
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

/** Replaces fields that could not be read. */
export function glimpsed({ problem }: RawFields, message: RawMessage, limits: EventLimits): RawFields {
  if (hasAttributes(message.headers)) return { ...rawFieldsOf(attributesOf(attributeHeaders(message.headers))), problem };
  const { members, isComplete } = glimpseMembers(textOf(message, limits.maxBodyBytes));
  const found = Object.fromEntries(members);
  if (isStructured(found)) return { ...rawFieldsOf(found), names: attributeNames, problem, isComplete };
  const { id, type, sequence, entity_id: entityId, entity_type: entityType } = found;
  return {
    ...noRawFields(memberNames),
    problem,
    isComplete,
    id,
    type,
    entityId,
    entityType,
    sequence: typeof sequence === 'number' ? sequence : null,
  };
}

/** Invalid UTF-8 becomes a character that no name may contain. */
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
      // Try the next decoding, or take the text as it is.
    }
  }
  return utf8.decode(start);
}

interface Glimpse {
  readonly members: ReadonlyMap<string, unknown>;
  /** The end of the object was seen. */
  readonly isComplete: boolean;
}

/** The top-level members of a possible object, in one pass and without recursion. */
export function glimpseMembers(text: string): Glimpse {
  const members = new Map<string, unknown>();
  let [at, depth, key, isValue] = [text.search(/\S/), 0, '', false];
  if (text[at] !== '{') return { members, isComplete: false };
  const found = (value: unknown) => {
    // Two different values: ambiguous.
    if (wanted.has(key)) members.set(key, members.has(key) && members.get(key) !== value ? undefined : value);
  };
  for (let start = at; start < text.length; start = at) {
    const character = text[start]!;
    at = endOfToken(text, start);
    if (at > text.length) break;
    if (character <= ' ') continue;
    if (character === '}' || character === ']') {
      if (--depth === 0) return { members, isComplete: true };
    } else if (character === '{' || character === '[') {
      if (depth++ === 1) found(undefined);
    } else if (depth > 1) continue;
    else if (character === ':') isValue = true;
    else if (character === ',') isValue = false;
    else if (isValue) found(readValue(text.slice(start, at)));
    else key = String(readValue(text.slice(start, at)));
  }
  return { members, isComplete: false };
}

/** The end of the string; beyond the text if it is truncated. */
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

/** Undefined unless it is a string or a number that JavaScript holds exactly. */
function readValue(token: string): unknown {
  // Throwing a hundred thousand needless errors would take a second.
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

/**
 * Parses bytes as JSON: strict UTF-8 without a byte-order mark, and one JSON value. Errors name only the
 * position, because the parser's messages quote the payload.
 */
import type { EventLimits } from './event.ts';
import { type JsonMember, scanMembers } from './json-scanner.ts';

export type JsonBody =
  | { readonly ok: true; readonly text: string; readonly value: unknown }
  | { readonly ok: false; readonly detail: string };

/** Keeps the byte-order mark, so that it is seen and refused: JSON does not allow it (RFC 8259, 8.1). */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export function readJsonBody(body: Uint8Array): JsonBody {
  if (body.length === 0) return { ok: false, detail: 'the body is empty' };
  let text: string;
  try {
    text = utf8.decode(body);
  } catch {
    return { ok: false, detail: 'the body is not UTF-8' };
  }
  if (text.charCodeAt(0) === 0xfeff) return { ok: false, detail: 'the body begins with a byte-order mark' };
  try {
    return { ok: true, text, value: JSON.parse(text) };
  } catch (error) {
    return { ok: false, detail: syntaxDetail(text, error) };
  }
}

function syntaxDetail(text: string, error: unknown): string {
  if (text.trim() === '') return 'the body is blank';
  const position = /at position (\d+)/.exec((error as Error).message)?.[1];
  return position === undefined ? 'the body is not JSON' : `the body is not JSON: it goes wrong at character ${position}`;
}

export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** In quotes, and cut if it is long. */
export function quoted(text: string, maxLength = 60): string {
  return JSON.stringify(text.length > maxLength ? `${text.slice(0, maxLength)}…` : text);
}

/** The kind of a value for messages, never the value. */
export function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

/** A message's body as one JSON object: its value, and its members as written. */
export interface JsonDocument {
  readonly ok: true;
  readonly value: Readonly<Record<string, unknown>>;
  readonly members: readonly JsonMember[];
}

export type ReadDocument = JsonDocument | { readonly ok: false; readonly detail: string };

export function readDocument(body: Uint8Array, limits: EventLimits): ReadDocument {
  const json = readJsonBody(body);
  if (!json.ok) return json;
  const { value } = json;
  if (Array.isArray(value))
    return { ok: false, detail: 'the body is an array, not an object: a batch has to be published as one message for each event' };
  if (!isJsonObject(value)) return { ok: false, detail: `the body is ${kindOf(value)}, not an object` };
  const scan = scanMembers(json.text, limits.maxJsonDepth);
  return scan.ok ? { ok: true, value, members: scan.found } : { ok: false, detail: `the body is refused: ${scan.detail}` };
}

export function memberOf(members: readonly JsonMember[], key: string): JsonMember | undefined {
  return members.find((member) => member.key === key);
}

/** The exact value of a number's text: 9007199254740991.4 is not 9007199254740991, although both are equal in JavaScript. */
export function exactNumber(value: unknown, member: JsonMember | undefined): number {
  return typeof value === 'number' && member?.canonical === String(value) ? value : Number.NaN;
}

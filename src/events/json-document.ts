/** A message's body as one JSON object: its value, and its members as they were written. */
import type { EventLimits } from './event.ts';
import { isJsonObject, kindOf, readJsonBody } from './json-body.ts';
import { type JsonMember, scanMembers } from './json-scan.ts';

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

/** A number as it was written: 9007199254740991.4 is not 9007199254740991, though a JavaScript number says so. */
export function exactNumber(value: unknown, member: JsonMember | undefined): number {
  return typeof value === 'number' && member?.canonical === String(value) ? value : Number.NaN;
}

/**
 * What `JSON.parse` does not say of a text: whether it is strict (no duplicate keys, no own `__proto__` keys, no lone
 * surrogates, not too deep), the source of each top-level member, in which large integers and `1.0` survive,
 * and the canonical text from which ids and hashes are made.
 */
import { type JsonMember, JsonScanner } from './json-scanner.ts';

export type { JsonMember } from './json-scanner.ts';

export type Scanned<T> = { readonly ok: true; readonly found: T } | { readonly ok: false; readonly detail: string };

/** The canonical text of any JSON value. `text` must be valid JSON. */
export function scanJson(text: string, maxDepth: number): Scanned<string> {
  const scanner = new JsonScanner(text, maxDepth);
  const found = scanner.whole();
  return scanner.problem === null ? { ok: true, found } : { ok: false, detail: scanner.problem };
}

/** The members of a JSON object, in the order of writing. `text` must be valid JSON and an object. */
export function scanMembers(text: string, maxDepth: number): Scanned<readonly JsonMember[]> {
  const scanner = new JsonScanner(text, maxDepth);
  const found = scanner.topLevel();
  return scanner.problem === null ? { ok: true, found } : { ok: false, detail: scanner.problem };
}

/** Canonical text of the object that has these members. */
export function canonicalObject(members: readonly Pick<JsonMember, 'key' | 'canonical'>[]): string {
  const sorted = members.toSorted((a, b) => (a.key < b.key ? -1 : 1));
  return `{${sorted.map(({ key, canonical }) => `${JSON.stringify(key)}:${canonical}`).join(',')}}`;
}

/** Canonical text of a value: what `JSON.stringify` says of it, with sorted keys. */
export function canonicalJson(value: unknown): string {
  const scan = scanJson(JSON.stringify(value) ?? 'null', Number.POSITIVE_INFINITY);
  if (!scan.ok) throw new TypeError(`there is no canonical JSON for this: ${scan.detail}`);
  return scan.found;
}

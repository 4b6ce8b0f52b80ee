/**
 * Scans a text that `JSON.parse` has accepted, once. Finds what `JSON.parse` hides (duplicate keys, own `__proto__`
 * keys, lone surrogates, depth), and makes the canonical text (RFC 8785: keys sorted at every depth, no spaces).
 *
 * Most producers already write canonical text. Then a value's canonical text is its source, and nothing is
 * copied. The scan runs for every event, so the members of all open objects share one stack.
 */

const quote = 34;
const comma = 44;
const minus = 45;
const dot = 46;
const backslash = 92;
const closeBracket = 93;
const closeBrace = 125;

/** A member of the top-level object. */
export interface JsonMember {
  readonly key: string;
  /** As it was written. */
  readonly source: string;
  readonly canonical: string;
}

/** Requires valid JSON: on other text it may not terminate. */
class JsonScanner {
  /** The first problem; the other results are then invalid. */
  problem: string | null = null;
  readonly #text: string;
  readonly #maxDepth: number;
  readonly #hasEscapes: boolean;
  #at = 0;
  #spaces = 0;
  /** The members of all open objects, the innermost last, `#size` of them, as parallel lists. */
  #size = 0;
  readonly #keys: string[] = [];
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  /** Null if the source is canonical. */
  readonly #canonical: (string | null)[] = [];

  constructor(text: string, maxDepth: number) {
    this.#text = text;
    this.#maxDepth = maxDepth;
    this.#hasEscapes = text.includes('\\');
  }

  whole(): string {
    this.#skipSpace();
    const start = this.#at;
    return this.#value(0) ?? this.#text.slice(start, this.#at);
  }

  topLevel(): readonly JsonMember[] {
    this.#skipSpace();
    this.#members(1);
    if (this.problem !== null) return [];
    const keys = this.#keys.slice(0, this.#size);
    if (hasRepeats(keys)) this.#fail('a key occurs twice in one object');
    return keys.map((key, i) => {
      const source = this.#text.slice(this.#starts[i], this.#ends[i]);
      return { key, source, canonical: this.#canonical[i] ?? source };
    });
  }

  /** Reads the value at `#at`; returns its canonical text, or null if the source is canonical. */
  #value(depth: number): string | null {
    switch (this.#text.charCodeAt(this.#at)) {
      case quote:
        return this.#string();
      case 123:
        return this.#object(depth + 1);
      case 91:
        return this.#array(depth + 1);
      case 116: // true
      case 110: // null
        this.#at += 4;
        return null;
      case 102: // false
        this.#at += 5;
        return null;
      default:
        return this.#number();
    }
  }

  #object(depth: number): string | null {
    const spacesBefore = this.#spaces;
    const first = this.#size;
    const inForm = this.#members(depth);
    const canonical = this.problem !== null || (inForm && this.#spaces === spacesBefore) ? null : this.#inOrder(first);
    this.#size = first;
    return canonical;
  }

  /** The canonical text of the innermost object, whose members begin at `first`. */
  #inOrder(first: number): string {
    let text = '';
    let last: string | null = null;
    for (const i of sortedPlaces(this.#keys, first, this.#size)) {
      const key = this.#keys[i]!;
      if (key === last) this.#fail('a key occurs twice in one object');
      text += `${last === null ? '' : ','}${this.#quoted(key)}:${this.#canonical[i] ?? this.#text.slice(this.#starts[i], this.#ends[i])}`;
      last = key;
    }
    return `{${text}}`;
  }

  /** Pushes the members of an object. True if the keys ascend, and keys and values are canonical. */
  #members(depth: number): boolean {
    let inForm = true;
    this.#enter(depth);
    let last: string | null = null;
    for (;;) {
      this.#skipSpace();
      if (this.problem !== null || this.#text.charCodeAt(this.#at) === closeBrace) break;
      const keyStart = this.#at;
      if (this.#string() !== null) inForm = false;
      const key = this.#keyFrom(keyStart);
      this.#skipSpace();
      this.#at++;
      this.#skipSpace();
      const start = this.#at;
      const canonical = this.#value(depth);
      if (canonical !== null || (last !== null && key <= last)) inForm = false;
      last = key;
      const place = this.#size++;
      this.#keys[place] = key;
      this.#starts[place] = start;
      this.#ends[place] = this.#at;
      this.#canonical[place] = canonical;
      this.#skipSpace();
      if (this.#text.charCodeAt(this.#at) === comma) this.#at++;
    }
    this.#at++;
    return inForm;
  }

  /** The key whose string was just read. */
  #keyFrom(start: number): string {
    const key = this.#hasEscapes ? (JSON.parse(this.#text.slice(start, this.#at)) as string) : this.#text.slice(start + 1, this.#at - 1);
    if (key === '__proto__') this.#fail('a key is "__proto__"');
    return key;
  }

  #array(depth: number): string | null {
    const spacesBefore = this.#spaces;
    const starts: number[] = [];
    const ends: number[] = [];
    const canonical: (string | null)[] = [];
    let inForm = true;
    this.#enter(depth);
    for (;;) {
      this.#skipSpace();
      if (this.problem !== null || this.#text.charCodeAt(this.#at) === closeBracket) break;
      starts.push(this.#at);
      const element = this.#value(depth);
      if (element !== null) inForm = false;
      canonical.push(element);
      ends.push(this.#at);
      this.#skipSpace();
      if (this.#text.charCodeAt(this.#at) === comma) this.#at++;
    }
    this.#at++;
    if (this.problem !== null || (inForm && this.#spaces === spacesBefore)) return null;
    return `[${canonical.map((element, i) => element ?? this.#text.slice(starts[i], ends[i])).join(',')}]`;
  }

  #string(): string | null {
    if (!this.#hasEscapes) {
      this.#at = this.#text.indexOf('"', this.#at + 1) + 1;
      return null;
    }
    const start = this.#at++;
    let escaped = false;
    for (let code = this.#text.charCodeAt(this.#at); code !== quote; code = this.#text.charCodeAt(this.#at)) {
      if (code === backslash) {
        escaped = true;
        this.#at++;
      }
      this.#at++;
    }
    this.#at++;
    if (!escaped) return null;
    const source = this.#text.slice(start, this.#at);
    const value = JSON.parse(source) as string;
    if (loneSurrogate.test(value)) this.#fail('a string has a lone surrogate');
    const canonical = JSON.stringify(value);
    return canonical === source ? null : canonical;
  }

  #number(): string | null {
    const start = this.#at;
    let digitsOnly = true;
    for (let code = this.#text.charCodeAt(this.#at); isOfNumber(code); code = this.#text.charCodeAt(this.#at)) {
      if (code > 57 || code < 48) digitsOnly = false;
      this.#at++;
    }
    if (digitsOnly && this.#at - start <= 15) return null;
    const source = this.#text.slice(start, this.#at);
    const canonical = canonicalNumber(source);
    return canonical === source ? null : canonical;
  }

  #quoted(key: string): string {
    return this.#hasEscapes ? JSON.stringify(key) : `"${key}"`;
  }

  #skipSpace(): void {
    const start = this.#at;
    // Tab, line feed, carriage return and space are all that JSON has below 33.
    while (this.#text.charCodeAt(this.#at) <= 32) this.#at++;
    this.#spaces += this.#at - start;
  }

  #enter(depth: number): void {
    if (depth > this.#maxDepth) this.#fail(`it is nested deeper than ${this.#maxDepth} levels`);
    this.#at++;
  }

  #fail(problem: string): void {
    this.problem ??= problem;
  }
}

const fewKeys = 16;

/** The indexes from `first` to before `end`, sorted by key; by insertion for a few keys, as most objects have. */
function sortedPlaces(keys: readonly string[], first: number, end: number): readonly number[] {
  const order: number[] = [];
  for (let place = first; place < end; place++) order.push(place);
  if (order.length > fewKeys) return order.sort((a, b) => (keys[a]! < keys[b]! ? -1 : 1));
  for (let next = 1; next < order.length; next++) {
    const place = order[next]!;
    let rank = next;
    for (; rank > 0 && keys[order[rank - 1]!]! > keys[place]!; rank--) order[rank] = order[rank - 1]!;
    order[rank] = place;
  }
  return order;
}

function hasRepeats(keys: readonly string[]): boolean {
  if (keys.length > fewKeys) return new Set(keys).size < keys.length;
  return keys.some((key, i) => keys.indexOf(key, i + 1) !== -1);
}

const loneSurrogate = /[\ud800-\udfff]/u;

/** Digits, sign, point and exponent mark. */
function isOfNumber(code: number): boolean {
  return (code >= 48 && code <= 57) || code === dot || code === minus || code === 43 || code === 101 || code === 69;
}

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

/** Canonical text of a value: `JSON.stringify` with sorted keys. */
export function canonicalJson(value: unknown): string {
  const scan = scanJson(JSON.stringify(value) ?? 'null', Number.POSITIVE_INFINITY);
  if (!scan.ok) throw new TypeError(`there is no canonical JSON for this: ${scan.detail}`);
  return scan.found;
}

/** Decimals with this many digits survive the conversion to a double and back. */
const safeDigits = 15;

/**
 * The canonical text of a JSON number: as JavaScript prints it (RFC 8785) if a JavaScript number holds its
 * decimal value, else the decimal value itself, so that 9007199254740992 and 9007199254740993, which are
 * equal in JavaScript, stay different. Equal values have equal texts, different values different ones.
 * `source` is a valid JSON number token.
 */
export function canonicalNumber(source: string): string {
  const printed = String(Number(source));
  if (source === printed && source.length <= safeDigits) return source;
  const exact = decimalOf(source);
  return exact === decimalOf(printed) ? printed : exact;
}

/** `digits` `e` `exponent` without zeros at either end of the digits: a unique text per value. */
function decimalOf(source: string): string {
  const parts = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(source);
  if (parts === null) return source;
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = parts;
  const digits = withoutLeadingZeros(whole + fraction);
  if (digits === '') return '0';
  const significant = withoutTrailingZeros(digits);
  return `${sign}${significant}e${sumText(exponent, digits.length - significant.length - fraction.length)}`;
}

/** Adds only at the end of a large exponent: it may have a million digits, for which a BigInt would take about a second. */
function sumText(exponent: string, delta: number): string {
  const isNegative = exponent.startsWith('-');
  const digits = withoutLeadingZeros(exponent.replace(/^[+-]/, ''));
  if (digits.length <= safeDigits) return String(Number(exponent) + delta);
  const low = Number(digits.slice(-safeDigits)) + (isNegative ? -delta : delta);
  const carry = Math.floor(low / 10 ** safeDigits);
  const end = String(low - carry * 10 ** safeDigits).padStart(safeDigits, '0');
  return `${isNegative ? '-' : ''}${withoutLeadingZeros(`${carried(digits.slice(0, -safeDigits), carry)}${end}`)}`;
}

/** `carry` is -1, 0 or 1, and `digits` are more than 0. */
function carried(digits: string, carry: number): string {
  if (carry === 0) return digits;
  const passed = carry > 0 ? '9' : '0';
  let at = digits.length - 1;
  while (at >= 0 && digits[at] === passed) at--;
  const turned = (carry > 0 ? '0' : '9').repeat(digits.length - 1 - at);
  return at < 0 ? `1${turned}` : `${digits.slice(0, at)}${Number(digits[at]) + carry}${turned}`;
}

function withoutLeadingZeros(digits: string): string {
  let start = 0;
  while (start < digits.length && digits.charCodeAt(start) === 48) start++;
  return digits.slice(start);
}

function withoutTrailingZeros(digits: string): string {
  let end = digits.length;
  while (end > 0 && digits.charCodeAt(end - 1) === 48) end--;
  return digits.slice(0, end);
}

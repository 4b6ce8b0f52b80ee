/**
 * Makes foreign text safe for a terminal: a dead letter may contain bytes that move the cursor,
 * rename the window or reverse the direction of a line. Visible characters are not changed.
 *
 * Also lays out JSON, and removes credentials from text that is printed or stored: any URL may contain a password.
 */

// Control characters (C0, C1), invisible formatting such as bidirectional overrides, and the two line separators.
const unprintable = /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu;
const unprintableButLines = /[^\P{Cc}\n]|[\p{Cf}\p{Cs}\u2028\u2029]/gu;

/** Escaped, on one line. */
export function printable(text: string): string {
  return text.replace(unprintable, escaped);
}

/** Escaped, except line feeds. */
export function printableLines(text: string): string {
  return text.replace(unprintableButLines, escaped);
}

/** The same for JSON, with JSON's escapes. */
export function printableJson(json: string): string {
  return json.replace(unprintable, jsonEscaped);
}

/** `13710` → `13,710`, independent of the locale. */
export function grouped(value: number): string {
  return value.toLocaleString('en-US');
}

/** An entity on one line; quoted, because an id may contain spaces. */
export function entityText({ entityType, entityId }: { readonly entityType: string; readonly entityId: string }): string {
  return printable(`${entityType} ${JSON.stringify(entityId)}`);
}

/** One object as a line of NDJSON; values that JSON cannot express are written as text. */
export function printableJsonLine(fields: object): string {
  return `${printableJson(jsonText(fields) ?? 'null')}\n`;
}

/** A value of any kind on one line, not escaped. */
export function valueText(value: unknown): string {
  return typeof value === 'string' ? value : (jsonText(value) ?? 'undefined');
}

/** Null when the bytes are not UTF-8. `isCut`: the last character may be incomplete. */
export function utf8(bytes: Uint8Array, isCut = false): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes, { stream: isCut });
  } catch {
    return null;
  }
}

function jsonText(value: unknown): string | undefined {
  return JSON.stringify(value, (_, inner: unknown) => (typeof inner === 'bigint' ? String(inner) : inner));
}

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (character === '\n') return '\\n';
  if (character === '\r') return '\\r';
  if (character === '\t') return '\\t';
  return code <= 0xff ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
}

function jsonEscaped(character: string): string {
  // By code units, because JSON escapes characters beyond 16 bits as a pair.
  return Array.from({ length: character.length }, (_, at) => {
    return `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`;
  }).join('');
}

/**
 * Replaces user and password of every URL in a text, even if they contain an `@`, or the password a `/` or a quote; a quote before
 * what may follow a string ends the URL.
 */
export function redactUrls(text: string): string {
  return text.replace(/:\/\/(?:[^\s"'/:@]*:(?!\/\/)(?:(?!:\/\/|["'](?:[\s\\,;:)}\]>]|$))\S)*@|[^\s"'/]*@)/g, '://***@');
}

const secretName =
  '(?<![\\w-])(?:[\\w-]*(?:password|passwd|passphrase|pwd|secret|token|(?:api|access|private|secret)[_-]?key|credential|signature)s?' +
  // nodemailer's `pass: '…'`, and not `does not pass: the amount`
  '|(?:[\\w-]*[_-])?pass(?!\\s*:\\s+[^\\\\"\'\\s]))';
/** Between name and value: also of JSON within JSON (`\"token\":\"…\"`), and of a printed map (`'token' => '…'`). */
const becomes = '\\\\*["\']?\\s*[=:]+>?\\s*';
const quoted = '"(?:[^"\\\\]|\\\\[^])*"?|\'(?:[^\'\\\\]|\\\\[^])*\'?|(?<quote>\\\\+["\'])(?:(?!(?<!\\\\)\\k<quote>)[^])*(?:\\k<quote>)?';
const bracketed = '\\{(?:[^{}]|\\{[^{}]*\\}?)*\\}?|\\[(?:[^[\\]]|\\[[^[\\]]*\\]?)*\\]?';
const secrets: readonly (readonly [RegExp, string])[] = [
  // `password=…`, `"token": "…"`, `?api_key=…`, `secret: { … }`
  [new RegExp(`(${secretName}${becomes})(?:${quoted}|${bracketed}|[^\\s,;&)}\\]]+)`, 'gi'), '$1***'],
  // `password is hunter2`, and not `password is wrong`
  [new RegExp(`(${secretName}\\s+(?:is|was)\\s+)(?:${quoted}|(?=\\S*\\d)\\S+)`, 'gi'), '$1***'],
  [
    new RegExp(
      `(\\bauthorization${becomes}(?:\\[\\s*)?\\\\*["']?)(?:(?:basic|bearer|digest|token|apikey|negotiate)\\s+)?[^\\s"',;]+`,
      'gi',
    ),
    '$1***',
  ],
  [new RegExp(`(\\bcookies?${becomes})(?:${quoted}|${bracketed}|[^\\s;]+(?:;\\s*[^\\s;]+)*)`, 'gi'), '$1***'],
  [/\b(bearer|basic)\s+(?=\S*[\d._~+/=-])[\w.~+/=-]{6,}/gi, '$1 ***'],
  // A JSON Web Token
  [/\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?/g, '***'],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*-----|$)/g, '***'],
];

/** Also replaces labelled secrets (passwords, tokens, keys). For messages of foreign code. */
export function redactSecrets(text: string): string {
  return secrets.reduce((redacted, [pattern, to]) => redacted.replace(pattern, to), redactUrls(text));
}

/** The most characters to examine, so that no text takes long. */
export const maxExamined = 16_384;

/** Text of foreign code that may be logged and stored: without secrets, and of at most so many characters. */
export function withoutSecrets(text: string, maxLength = 800): string {
  const redacted = redactSecrets(text.slice(0, maxExamined));
  return redacted.length > maxLength ? `${redacted.slice(0, maxLength)}…` : redacted;
}

const deepestIndent = 40;

/** Strings, empty pairs of brackets, numbers and words, and the text between them. */
const tokens = /"(?:[^"\\]|\\.)*"|[[{]\s*[\]}]|[^\s[\]{},:"]+|[[\]{},:]/g;

/**
 * Formats JSON text without interpreting it: numbers, escapes in strings, duplicate keys and the order
 * stay as the producer wrote them. Null when the text is not JSON.
 */
export function layOutJson(text: string): string | null {
  if (!isJson(text)) return null;
  const out: string[] = [];
  let depth = 0;
  // Deeper levels are not indented further, or lines would be mostly indentation.
  const newLine = () => `\n${'  '.repeat(Math.min(depth, deepestIndent))}`;
  for (const [token] of text.matchAll(tokens)) {
    if (token === '{' || token === '[') {
      depth++;
      out.push(token, newLine());
    } else if (token === '}' || token === ']') {
      depth--;
      out.push(newLine(), token);
    } else if (token === ',') out.push(token, newLine());
    else if (token === ':') out.push(': ');
    else if (token.startsWith('{') || token.startsWith('[')) out.push(token.charAt(0), token.slice(-1));
    else out.push(token);
  }
  return out.join('');
}

/** On one line, without the spaces between its parts. Null when the text is not JSON. */
export function compactJson(text: string): string | null {
  if (!isJson(text)) return null;
  return Array.from(text.matchAll(tokens), ([token]) => (token.startsWith('"') ? token : token.replace(/\s+/g, ''))).join('');
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

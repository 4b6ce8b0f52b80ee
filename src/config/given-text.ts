/**
 * Reads the values of variables and of the files that they name, and finds what people get wrong in them and in names. Values come from
 * files, forms and shells: white space around one, also invisible, is removed, for no variable needs it; invisible characters within
 * it, and quotes around it, are reported and not removed: they may be part of a secret. A misspelt name is reported with the one that
 * it probably stands for.
 */
import { readFileSync } from 'node:fs';

/** White space and invisible characters: zero-width ones, marks of direction, the byte-order mark. */
const around = /[\s\u00ad\u200b-\u200f\u2028-\u202e\u2060\ufeff]/;

const quotes: readonly (readonly [open: string, close: string])[] = [
  ['"', '"'],
  ["'", "'"],
  ['`', '`'],
  ['“', '”'],
  ['‘', '’'],
  ['„', '“'],
  ['«', '»'],
];

/** Zero-width joiners are allowed: some scripts, and emoji, need them. */
const within: readonly (readonly [character: RegExp, name: string])[] = [
  [/[\0\ufffd]/, 'a character that is not UTF-8'],
  [/[\r\n\u2028\u2029]/, 'a line end'],
  [/\t/, 'a tab'],
  [/\u00a0/, 'a no-break space (U+00A0)'],
  [/\u00ad/, 'a soft hyphen (U+00AD)'],
  [/\u200b/, 'a zero-width space (U+200B)'],
  [/\u2060/, 'a word joiner (U+2060)'],
  [/\ufeff/, 'a byte-order mark (U+FEFF)'],
];

/** Not by one pattern for both ends: it would begin anew at each white space within. */
export function trimmed(text: string): string {
  let [start, end] = [0, text.length];
  while (start < end && around.test(text[start]!)) start++;
  while (end > start && around.test(text[end - 1]!)) end--;
  return text.slice(start, end);
}

/** What is wrong with a trimmed value, as the rest of the sentence "NAME: …"; null if nothing is. */
export function blemishOf(text: string): string | null {
  const quoted = text.length > 1 && quotes.some(([open, close]) => text.startsWith(open) && text.endsWith(close));
  if (quoted) return 'it stands in quotes, which belong to where it was copied from: remove them';
  const found = within.find(([character]) => character.test(text));
  return found === undefined ? null : `it has ${found[1]} in it: remove it`;
}

/** The text of the file that a variable names; null if there is none. */
export function readGiven(variable: string, path: string, problems: string[]): string | null {
  try {
    const text = trimmed(readFileSync(path, 'utf8'));
    if (text !== '') return text;
    problems.push(`${variable} is ${quoted(path)}: the file is empty`);
  } catch (error) {
    const why = blemishOf(path) ?? `the file cannot be read (${(error as NodeJS.ErrnoException).code})`;
    // Without a slash it may be the secret itself.
    problems.push(path.includes('/') ? `${variable} is ${quoted(path)}: ${why}` : `${variable}: its value is not shown; ${why}`);
  }
  return null;
}

/** In quotes, on one line, without invisible characters, and cut to a line. */
export function quoted(text: string): string {
  const shown = JSON.stringify(text).replace(/[\u007f-\u00a0\u00ad\u200b-\u200f\u2028-\u202e\u2060\ufeff]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
  return shown.length <= 80 ? shown : `${shown.slice(0, 77)}…"`;
}

/** Names of other programs that are one letter from ours. */
const strangers = new Set(['HTTPS_PORT', 'HTTPS_HOST', 'LOGLEVEL', 'AMQPS_URL', 'REDIS_URI', 'AMQP_URI', 'SHARD']);

/** Units that people omit or confuse. */
const unit = /_(MS|MILLIS|SECS?|SECONDS|MINUTES|BYTES|KB|MB)$/;

/** What the files of TLS are called elsewhere: `AMQP_CA`, `REDIS_SSL_CERT`, `AMQP_CACERTFILE`, `REDIS_TLS_KEY_PATH`. */
const tlsFile = /^(AMQP|REDIS)_(TLS_|SSL_)?(?:CLIENT_|ROOT_)?(CA|CERT|KEY|SERVER_?NAME|SNI)((?:_?(?:CERTS?|CRT|BUNDLE|FILE|PATH|PEM))*)$/;

/** Two edits in a long name do not make another word; in a short one only one edit is allowed. */
const longName = 12;

/**
 * The one of `names` that `name` misspells, or null, also for a correct name. A worker shares its environment with
 * shells, container platforms and other programs, so their names must pass: only close names count, not
 * similar ones. `HTTP_PROXY`, `SMTP_HOST`, `LOGNAME` and `REDIS_SERVICE_PORT` are no misspellings.
 */
export function nearMiss(name: string, names: readonly string[]): string | null {
  if (names.includes(name) || strangers.has(name)) return null;
  const plain = trimmed(name)
    .replace(/^export\s+/, '')
    .replace(/^["']|["']$/g, '')
    .replace(/^INORDER_/, '')
    .replaceAll('-', '_');
  if (names.includes(plain)) return plain;
  const upper = name.toUpperCase();
  const spelledInLowerCase = names.find((own) => own === upper);
  if (spelledInLowerCase !== undefined) return spelledInLowerCase;
  if (name !== upper) return null;
  const otherUnit = names.find((own) => unit.test(own) && own.replace(unit, '') === name.replace(unit, ''));
  if (otherUnit !== undefined) return otherUnit;
  const [, service, prefix, what, rest] = tlsFile.exec(name) ?? [];
  // Another program's REDIS_KEY is a key of its data.
  if (service !== undefined && what !== undefined && (what !== 'KEY' || prefix || rest)) {
    const field = /^S/.test(what) ? 'SERVER_NAME' : `${what}_FILE`;
    return names.find((own) => own === `${service}_TLS_${field}`) ?? null;
  }
  // People notice a wrong first letter; other programs' names often differ only there.
  return names.find((own) => own[0] === name[0] && editDistance(name, own) <= (own.length >= longName ? 2 : 1)) ?? null;
}

/**
 * The number of insertions, deletions, replacements and swaps of neighbours between two texts.
 *
 * Why not fastest-levenshtein: it counts `PREFECTH` as two edits from `PREFETCH`, as far as another word may be. Here a swap of
 * neighbours is one edit.
 */
export function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return Infinity;
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const replaced = last[column - 1]! + (a[row - 1] === b[column - 1] ? 0 : 1);
      let best = Math.min(last[column]! + 1, current[column - 1]! + 1, replaced);
      const swapped = a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      if (row > 1 && column > 1 && swapped) best = Math.min(best, beforeLast[column - 2]! + 1);
      current.push(best);
    }
    beforeLast = last;
    last = current;
  }
  return last[b.length]!;
}

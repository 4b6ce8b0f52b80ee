/**
 * Finds invisible damage to a value from files, forms and shells. White space around a value, also invisible, is
 * removed: no variable needs it. Invisible characters within it, and quotes around it, are reported and not
 * removed: they may be part of a secret.
 */

/** White space and invisible characters: zero-width ones, marks of direction, the byte-order mark. */
const around = /^[\s\u00ad\u200b-\u200f\u2028-\u202e\u2060\ufeff]+|[\s\u00ad\u200b-\u200f\u2028-\u202e\u2060\ufeff]+$/gu;

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

export function trimmed(text: string): string {
  return text.replace(around, '');
}

/** What is wrong with a trimmed value, as the rest of the sentence "NAME: …"; null if nothing is. */
export function blemishOf(text: string): string | null {
  const quoted = text.length > 1 && quotes.some(([open, close]) => text.startsWith(open) && text.endsWith(close));
  if (quoted) return 'it stands in quotes, which belong to where it was copied from: remove them';
  const found = within.find(([character]) => character.test(text));
  return found === undefined ? null : `it has ${found[1]} in it: remove it`;
}

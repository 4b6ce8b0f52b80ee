/**
 * Text from outside, made fit for a terminal: a dead letter is the likeliest place for bytes that move the cursor,
 * rename the window or turn the line's direction round. What is visible stays as it is.
 */

// Control characters (C0, C1), invisible formatting such as bidirectional overrides, and the two line separators.
const unprintable = /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu;
const unprintableButLines = /[^\P{Cc}\n]|[\p{Cf}\p{Cs}\u2028\u2029]/gu;

/** On one line. */
export function printable(text: string): string {
  return text.replace(unprintable, escaped);
}

/** Line feeds stay. */
export function printableLines(text: string): string {
  return text.replace(unprintableButLines, escaped);
}

/** The same for JSON, in which the escapes mean what they replace. */
export function printableJson(json: string): string {
  return json.replace(unprintable, jsonEscaped);
}

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (character === '\n') return '\\n';
  if (character === '\r') return '\\r';
  if (character === '\t') return '\\t';
  return code <= 0xff ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
}

function jsonEscaped(character: string): string {
  // By code units, because JSON writes what lies beyond 16 bits as a pair.
  return Array.from({ length: character.length }, (_, at) => {
    return `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`;
  }).join('');
}

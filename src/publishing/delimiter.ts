/** The delimiter of a CSV table: given, named by the table's first line (`sep=;`), or detected from its header. */
import { parse } from 'csv-parse/sync';
import { ConfigError } from '../errors.ts';
import { quoted } from '../events/json-body.ts';
import type { FieldMap } from './field-map.ts';

const candidates = [',', ';', '\t', '|'] as const;

/** `;` or `tab`: one character that is no letter, digit, quote or line end. `says` names the source. @throws ConfigError */
export function parseDelimiter(text: string, says = '--delimiter is'): string {
  const character = /^(tab|\\t)$/i.test(text) ? '\t' : text;
  if (/^[^\p{L}\p{N}"'\r\n]$/u.test(character)) return character;
  throw new ConfigError([`${says} ${quoted(text)}: it must be one character such as ";" or "|", or the word tab`]);
}

export interface Separated {
  readonly delimiter: string;
  /** The length of a `sep=` line, with its end and blank lines before it; 0 if there is none. */
  readonly skippedBytes: number;
  readonly skippedLines: number;
}

const blankLines = '(?:[^\\S\\r\\n]*(?:\\r\\n|\\n|\\r))*';
const sayingLine = new RegExp(`^${blankLines}("?)sep=(.*?)\\1(?:\\r\\n|\\n|\\r|$)`, 'i');

/** `given` takes precedence over the `sep=` line, and that over the header. @throws ConfigError for an invalid `sep=` line. */
export function delimiterOf(name: string, head: string, map: FieldMap, given: string | null): Separated {
  const [skipped, , said] = sayingLine.exec(head) ?? ['', '', undefined];
  const delimiter = given ?? (said === undefined ? found(head, map) : parseDelimiter(said, `${name}: the line with sep= says`));
  return { delimiter, skippedBytes: Buffer.byteLength(skipped), skippedLines: skipped.split(/\r\n|\n|\r/).length - 1 };
}

/** The delimiter that yields the most mapped columns in the header; of several the one with the most columns. */
function found(head: string, map: FieldMap): string {
  const wanted = new Set([...map.values(), 'entity_id', 'type'].map(asWanted));
  const ranked = candidates.map((delimiter) => {
    const header = headerOf(head, delimiter);
    return { delimiter, rank: header.filter((name) => wanted.has(asWanted(name))).length * 10_000 + header.length };
  });
  return ranked.toSorted((a, b) => b.rank - a.rank)[0]!.delimiter;
}

/** Names that differ only in case count as well: they are proposed in a message. */
function asWanted(name: string): string {
  return name.trim().toLowerCase();
}

function headerOf(head: string, delimiter: string): readonly string[] {
  try {
    const rows = parse(head, {
      delimiter,
      to: 1,
      record_delimiter: ['\r\n', '\n', '\r'],
      relax_column_count: true,
      skip_empty_lines: true,
    }) as string[][];
    return (rows[0] ?? []).map((name) => name.trim());
  } catch {
    // With a quote in the middle of a field, this is not the delimiter.
    return [];
  }
}

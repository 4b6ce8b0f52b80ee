/** What separates the fields of a CSV table: as it is said, as the table's first line says it (`sep=;`), or found by looking at its header. */
import { parse } from 'csv-parse/sync';
import { ConfigError } from '../errors.ts';
import { type FieldMap } from './field-map.ts';

const candidates = [',', ';', '\t', '|'] as const;

/** `;`, `tab`: one character that is neither a letter, a digit, a quote nor the end of a line. @throws ConfigError */
export function parseDelimiter(text: string): string {
  const character = /^(tab|\\t)$/i.test(text) ? '\t' : text;
  if (/^[^\p{L}\p{N}"'\r\n]$/u.test(character)) return character;
  throw new ConfigError([`--delimiter is ${JSON.stringify(text)}: it must be one character such as ";" or "|", or the word tab`]);
}

export interface Separated {
  readonly delimiter: string;
  /** Of a first line that says it, with its end; 0 where there is none. */
  readonly skippedBytes: number;
}

/** `given` wins over what the table says, and that over what its header looks like. */
export function delimiterOf(head: string, map: FieldMap, given: string | null): Separated {
  const [line, said] = /^"?sep=(.)"?(?:\r\n|\n|\r|$)/.exec(head) ?? ['', undefined];
  return { delimiter: given ?? said ?? found(head, map), skippedBytes: Buffer.byteLength(line) };
}

/** The one with which the header has the most of the columns that are asked for; of several the one with the most columns. */
function found(head: string, map: FieldMap): string {
  const wanted = new Set([...map.values(), 'entity_id', 'type'].map((name) => name.trim()));
  const ranked = candidates.map((delimiter) => {
    const header = headerOf(head, delimiter);
    return { delimiter, rank: header.filter((name) => wanted.has(name)).length * 10_000 + header.length };
  });
  return ranked.toSorted((a, b) => b.rank - a.rank)[0]!.delimiter;
}

function headerOf(head: string, delimiter: string): readonly string[] {
  try {
    const rows = parse(head, { delimiter, to: 1, record_delimiter: ['\r\n', '\n', '\r'], relax_column_count: true, skip_empty_lines: true }) as string[][];
    return (rows[0] ?? []).map((name) => name.trim());
  } catch {
    // A quote in the middle of a field: with this delimiter it is no header.
    return [];
  }
}

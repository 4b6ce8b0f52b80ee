/**
 * Turns the rows of a CSV table with a header into the JSON text of events. A map assigns columns to
 * fields; every other column goes into `data`, except columns without a name. Nothing is guessed or changed:
 * values stay text (also a time such as `2012-04-03 16:55:38`, which Inorder reads as UTC). A row with more or
 * fewer fields than the header is a problem of its line, and reading continues. Only a stray quote
 * ends the reading, because the start of the next row is then unknown.
 */
import { pipeline, Readable } from 'node:stream';
import { type CsvError, type Info, parse } from 'csv-parse';
import { ConfigError } from '../errors.ts';
import { type FieldMap, type MappableField, mapHint, mappableFields } from './field-map.ts';
import { maxLineBytes, notUtf8, type TextLine } from './text-lines.ts';
import { parse as parseAtOnce } from 'csv-parse/sync';
import { quoted } from '../events/json-body.ts';

export interface CsvOptions {
  readonly map: FieldMap;
  /** The delimiter between the fields of a row. */
  readonly delimiter: string;
  /** The number of lines before the header. */
  readonly linesBefore: number;
}

interface CsvRow {
  readonly record: readonly string[];
  readonly info: Pick<Info, 'lines' | 'records' | 'empty_lines'>;
}

/** Each text has the number of the line on which its row ends. @throws ConfigError when header and map do not fit. */
export async function* readCsv(source: AsyncIterable<Uint8Array>, { map, delimiter, linesBefore }: CsvOptions): AsyncGenerator<TextLine> {
  let failure: CsvError | null = null;
  const parser = parse({
    delimiter,
    info: true,
    // By default the parser expects the first line's end everywhere: then a last value may keep a carriage return.
    record_delimiter: ['\r\n', '\n', '\r'],
    relax_column_count: true,
    skip_empty_lines: true,
    max_record_size: maxLineBytes,
    // A thrown error would discard the good rows before it.
    skip_records_with_error: true,
    on_skip: (error) => {
      failure ??= error ?? null;
      return undefined;
    },
  });
  // Errors of the source come out of the parser.
  pipeline(Readable.from(source, { objectMode: false }), parser, () => undefined);
  let columns: Columns | null = null;
  for await (const { record, info } of parser as AsyncIterable<CsvRow>) {
    const stopped = failure as CsvError | null;
    if (stopped !== null && info.records > Number(stopped['records'])) break;
    if (columns === null) columns = new Columns(record, map);
    else yield columns.toEvent(record, info.lines + linesBefore);
  }
  const stopped = failure as CsvError | null;
  if (stopped !== null) yield { line: Number(stopped['lines']) + linesBefore, text: null, problem: describe(stopped) };
}

function describe(error: CsvError): string {
  const what: Partial<Record<string, string>> = {
    CSV_INVALID_CLOSING_QUOTE: 'a quote stands within a field that is not quoted as a whole',
    CSV_QUOTE_NOT_CLOSED: 'a quote is opened and never closed',
    CSV_MAX_RECORD_SIZE: `a row is longer than ${maxLineBytes} characters`,
  };
  return `${what[error.code] ?? error.message}; nothing from here on was read`;
}

class Columns {
  readonly #width: number;
  /** Position of each field that has a column. */
  readonly #fields = new Map<MappableField, number>();
  readonly #data: readonly (readonly [name: string, at: number])[];

  constructor(cells: readonly string[], map: FieldMap) {
    const header = cells.map((cell) => cell.trim());
    const problems = headerProblems(header, map);
    if (problems.length > 0) throw new ConfigError(problems);
    this.#width = header.length;
    for (const field of mappableFields) {
      const at = header.indexOf(map.get(field)?.trim() ?? field);
      if (at !== -1) this.#fields.set(field, at);
    }
    const taken = new Set(this.#fields.values());
    this.#data = header.map((name, at) => [name, at] as const).filter(([name, at]) => name !== '' && !taken.has(at));
  }

  toEvent(row: readonly string[], line: number): TextLine {
    const problem = this.#problemOf(row);
    if (problem !== null) return { line, text: null, problem };
    const fields = [...this.#fields].flatMap(([field, at]) => {
      const json = fieldJson(field, row[at]!);
      return json === null ? [] : [`"${field}":${json}`];
    });
    const data = JSON.stringify(Object.fromEntries(this.#data.map(([name, at]) => [name, row[at]!])));
    return { line, text: `{${fields.join(',')},"data":${data}}`, problem: null };
  }

  #problemOf(row: readonly string[]): string | null {
    if (row.length !== this.#width) {
      return `it has ${row.length} fields where the header has ${this.#width}`;
    }
    // The parser replaces bytes that are not UTF-8 by the replacement character: two ids could become one.
    if (row.some((value) => value.includes('\ufffd'))) return notUtf8;
    const sequence = row[this.#fields.get('sequence') ?? -1]?.trim() ?? '';
    return /^(|0|[1-9][0-9]{0,15})$/.test(sequence) ? null : `its sequence ${JSON.stringify(sequence)} is not a whole number`;
  }
}

/** Null for an empty optional field. */
function fieldJson(field: MappableField, value: string): string | null {
  if (field === 'entity_id' || field === 'type') return JSON.stringify(value);
  const text = value.trim();
  if (text === '') return null;
  return field === 'sequence' ? text : JSON.stringify(value);
}

function headerProblems(header: readonly string[], map: FieldMap): string[] {
  const names = header.filter((name) => name !== '');
  if (names.some((name) => name.includes('\ufffd'))) return [`the header: ${notUtf8}`];
  const problems: string[] = [];
  for (const [field, column] of map) {
    if (!header.includes(column.trim()))
      problems.push(`--map ${field}=${column}: there is no such column; there are ${names.map((name) => JSON.stringify(name)).join(', ')}`);
  }
  const missing = (['entity_id', 'type'] as const).filter((field) => !map.has(field) && !header.includes(field));
  if (missing.length > 0 && problems.length === 0) problems.push(`no column is called ${missing.join(' or ')}: ${mapHint(missing, names)}`);
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) problems.push(`the column ${JSON.stringify(twice)} occurs twice in the header`);
  return problems;
}

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
    const rows = parseAtOnce(head, {
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

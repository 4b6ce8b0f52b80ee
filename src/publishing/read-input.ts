/**
 * Turns an input of any format into the texts of its events. Guarantees that a problem of the whole input
 * (empty, no text, another format or encoding, a missing column) is found before anything is done with it.
 *
 * The beginning of the input is looked at first: a byte-order mark is removed, and the beginning is part of what is read. No further
 * is looked than necessary: on a pipe the next bytes may take long to come.
 */
import { ConfigError, InputError } from '../errors.ts';
import { quoted } from '../events/json-body.ts';
import { delimiterOf, readCsv } from './csv-events.ts';
import type { FieldMap } from './field-map.ts';
import { jsonTexts } from './json-texts.ts';
import type { LineFormat } from './line-events.ts';
import type { Input } from './open-input.ts';
import { readLines, type TextLine } from './text-lines.ts';

export const inputFormats = ['ndjson', 'csv', 'cloudevents'] as const;
export type InputFormat = (typeof inputFormats)[number];

export interface ReadingRequest {
  readonly format: InputFormat;
  /** Maps columns, or members of JSON objects. */
  readonly map: FieldMap;
  /** The delimiter of CSV; null: detected. */
  readonly delimiter: string | null;
  /** The remedy in the message for a table instead of JSON. Default: `--format csv`. */
  readonly remedy?: string;
}

/** The format of an input's texts and of the published messages, and the map that is left to apply to them. */
export function textsOf({ format, map }: ReadingRequest): { readonly format: LineFormat; readonly map: FieldMap } {
  return { format: format === 'cloudevents' ? 'cloudevents' : 'envelope', map: format === 'csv' ? new Map() : map };
}

/** The format by a file's extension, also before `.gz`; null if unknown. Standard input is NDJSON. */
export function guessFormat(path: string): InputFormat | null {
  if (path === '-') return 'ndjson';
  const name = path.replace(/\.gz$/i, '');
  if (/\.(csv|tsv|tab)$/i.test(name)) return 'csv';
  if (/[.-]cloudevents?(\.(nd)?jsonl?)?$/i.test(name)) return 'cloudevents';
  return /\.(ndjson|jsonl|json)$/i.test(name) ? 'ndjson' : null;
}

/** The name of a line in messages. */
export function placeOf({ name }: Pick<Input, 'name'>, line: number): string {
  return `${name}, line ${line}`;
}

/**
 * Empty if a signal came before the first line.
 * @throws ConfigError when the input is empty, has another format, or lacks a mapped column.
 */
export async function readInput(input: Input, { format, map, delimiter, remedy }: ReadingRequest): Promise<AsyncIterable<TextLine>> {
  // Two lines of a table, because the first may name the delimiter; one of JSON, because the next may take long to come.
  const { head, bytes } = await lookAt(input.name, input.bytes, format === 'csv' ? 2 : 1);
  const problem = input.isStopped() ? null : formatProblem(head, format, remedy);
  if (problem !== null) throw new ConfigError([`${input.name}: ${problem}`]);
  const texts = format === 'csv' ? readTable(input.name, bytes, head, map, delimiter) : jsonTexts(readLines(bytes));
  const first = await texts.next().catch((error: unknown) => {
    if (input.isStopped()) return { done: true, value: undefined } as const;
    throw error instanceof ConfigError
      ? new ConfigError(
          error.problems.map((one) => `${input.name}: ${one}`),
          { cause: error },
        )
      : error;
  });
  if (first.done && input.isStopped()) return texts;
  if (first.done) throw new ConfigError([`${input.name}: there are no events in it`]);
  return startingWith(first.value, texts);
}

/** A damaged input ends with a problem on the next line. */
async function* startingWith(first: TextLine, rest: AsyncGenerator<TextLine>): AsyncGenerator<TextLine> {
  let { line } = first;
  yield first;
  try {
    for await (const text of rest) {
      ({ line } = text);
      yield text;
    }
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    yield { line: line + 1, text: null, problem: `${error.message}; nothing from here on was read` };
  }
}

function readTable(
  name: string,
  bytes: AsyncGenerator<Uint8Array>,
  head: string,
  map: FieldMap,
  given: string | null,
): AsyncGenerator<TextLine> {
  const { delimiter, skippedBytes, skippedLines } = delimiterOf(name, head, map, given);
  return readCsv(skippedBytes === 0 ? bytes : without(skippedBytes, bytes), { map, delimiter, linesBefore: skippedLines });
}

async function* without(count: number, bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let left = count;
  for await (const chunk of bytes) {
    if (chunk.length > left) yield chunk.subarray(left);
    left = Math.max(0, left - chunk.length);
  }
}

/** Finds a wrong format once, instead of a problem for every line. */
function formatProblem(head: string, format: InputFormat, remedy = 'for a table with a header give --format csv'): string | null {
  const line = /^\s*([^\r\n]*)/.exec(head)?.[1] ?? '';
  const shown = quoted(line, 40);
  if (format === 'csv')
    return /^\s*(\{\s*("|$)|\[\s*(\{|$))/.test(line) ? `it begins with ${shown}, which is JSON and no header: give --format ndjson` : null;
  const isTable = !/[{[]/.test(line) && /^[^,;\t|]+([,;\t|][^,;\t|]*)+$/.test(line);
  return isTable ? `it begins with ${shown}, which is no JSON: ${remedy}` : null;
}

interface LookedAt {
  /** The beginning as text; bytes that are not UTF-8 are replacement characters. */
  readonly head: string;
  /** The whole input, without the byte-order mark. */
  readonly bytes: AsyncGenerator<Uint8Array>;
}

const maxHeadBytes = 65_536;

/** Formats that people mistake for text files, by their first bytes. */
const signatures: readonly (readonly [bytes: string, what: string])[] = [
  ['fffe', 'UTF-16: save it as UTF-8, or convert it with `iconv -f UTF-16 -t UTF-8`'],
  ['feff', 'UTF-16: save it as UTF-8, or convert it with `iconv -f UTF-16 -t UTF-8`'],
  ['504b0304', 'a ZIP archive or a workbook (.xlsx, .ods): unpack it, or save it as CSV in UTF-8'],
  ['d0cf11e0', 'an Excel workbook: save it as CSV in UTF-8'],
  ['28b52ffd', 'packed with zstd: unpack it (gzip is read as it is)'],
  ['425a68', 'packed with bzip2: unpack it (gzip is read as it is)'],
  ['fd377a585a00', 'packed with xz: unpack it (gzip is read as it is)'],
  ['50415231', 'a Parquet file: write it as NDJSON or CSV'],
  ['4f626a01', 'an Avro file: write it as NDJSON or CSV'],
];

const mark = Buffer.from('\ufeff');

/** `lines`: how many non-blank lines to look at. @throws ConfigError naming the format if it is no text. */
async function lookAt(name: string, source: AsyncIterable<Uint8Array>, lines: number): Promise<LookedAt> {
  const iterator = source[Symbol.asyncIterator]();
  const pieces: Uint8Array[] = [];
  let [size, seen] = [0, 0];
  while (size < maxHeadBytes && seen < lines) {
    const { done, value } = await iterator.next();
    if (done) break;
    pieces.push(value);
    size += value.length;
    // Counted at line ends only; blank lines do not count.
    if (value.includes(10))
      seen = Buffer.concat(pieces)
        .toString('latin1')
        .split('\n')
        .slice(0, -1)
        .filter((line) => line.trim() !== '').length;
  }
  const head = Buffer.concat(pieces);
  const start = head.subarray(0, mark.length).equals(mark) ? head.subarray(mark.length) : head;
  const foreign = foreignIn(head);
  if (foreign !== null) {
    await iterator.return?.();
    throw new ConfigError([`${name}: it is ${foreign}`]);
  }
  return { head: start.subarray(0, maxHeadBytes).toString(), bytes: again(start, iterator) };
}

function foreignIn(head: Buffer): string | null {
  const found = signatures.find(([bytes]) => head.toString('hex', 0, bytes.length / 2) === bytes);
  if (found !== undefined) return found[1];
  if (!head.includes(0)) return null;
  // In UTF-16 half of the bytes of Latin text are zero.
  const zeros = head.subarray(0, 64).filter((byte) => byte === 0).length;
  return zeros * 3 > Math.min(head.length, 64) ? signatures[0]![1] : null;
}

async function* again(start: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    if (start.length > 0) yield start;
    for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

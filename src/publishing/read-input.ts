/**
 * Turns an input of any format into the texts of its events. Guarantees that a problem of the whole input
 * (empty, another format or encoding, a missing column) is found before anything is done with it.
 */
import { ConfigError, InputError } from '../errors.ts';
import { quoted } from '../events/json-body.ts';
import { readCsv, delimiterOf } from './csv-events.ts';
import type { FieldMap } from './field-map.ts';
import { lookAt } from './first-look.ts';
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

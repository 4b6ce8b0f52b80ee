/**
 * From an input to the texts of its events, whatever its format. Guarantees that what is wrong with the input as a
 * whole (nothing in it, a column that is not there) is found before anything is published.
 */
import { ConfigError } from '../errors.ts';
import { type ColumnMap, type CsvField, csvFields, readCsv } from './csv-events.ts';
import { jsonTexts } from './json-texts.ts';
import type { LineFormat } from './line-events.ts';
import type { Input } from './open-input.ts';
import { readLines, type TextLine } from './text-lines.ts';

export const inputFormats = ['ndjson', 'csv', 'cloudevents'] as const;
export type InputFormat = (typeof inputFormats)[number];

/** The form in which the texts of an input are, and in which they are published. */
export function lineFormatOf(format: InputFormat): LineFormat {
  return format === 'cloudevents' ? 'cloudevents' : 'envelope';
}

/** By the end of a file's name; null when that says nothing. Standard input is taken for NDJSON. */
export function guessFormat(path: string): InputFormat | null {
  if (path === '-') return 'ndjson';
  if (/\.csv$/i.test(path)) return 'csv';
  if (/[.-]cloudevents?(\.(nd)?jsonl?)?$/i.test(path)) return 'cloudevents';
  return /\.(ndjson|jsonl|json)$/i.test(path) ? 'ndjson' : null;
}

/** `entity_id=Case,type=Activity`. @throws ConfigError with everything that is wrong with it. */
export function parseColumnMap(text: string): ColumnMap {
  const map = new Map<CsvField, string>();
  const problems: string[] = [];
  for (const pair of text.split(',')) {
    const [, name = '', column = ''] = /^\s*([^=]*?)\s*=(.*)$/.exec(pair) ?? [];
    const field = csvFields.find((candidate) => candidate === name);
    if (field === undefined || column === '') {
      problems.push(`--map ${JSON.stringify(pair)}: it must be FIELD=Column, with a field of ${csvFields.join(', ')}`);
    } else if (map.has(field)) problems.push(`--map names ${field} twice`);
    else map.set(field, column);
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return map;
}

/** @throws ConfigError when the input has no events in it, or not the columns that the map names. */
export async function readInput(input: Input, format: InputFormat, map: ColumnMap): Promise<AsyncIterable<TextLine>> {
  const texts = format === 'csv' ? readCsv(input.bytes, map) : jsonTexts(readLines(input.bytes));
  const first = await texts.next();
  if (first.done) throw new ConfigError([`${input.name}: there are no events in it`]);
  return startingWith(first.value, texts);
}

async function* startingWith(first: TextLine, rest: AsyncGenerator<TextLine>): AsyncGenerator<TextLine> {
  yield first;
  yield* rest;
}

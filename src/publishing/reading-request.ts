/** What was said on the command line of how an input is to be read, from text to values. */
import { ConfigError } from '../errors.ts';
import { parseDelimiter } from './delimiter.ts';
import { type FieldMap, parseFieldMap } from './field-map.ts';
import { guessFormat, type InputFormat, inputFormats, type ReadingRequest } from './read-input.ts';

/** The options as they were written; null: not given. */
export interface ReadingTexts {
  readonly format: string | null;
  readonly map: string | null;
  readonly delimiter: string | null;
}

/** Adds what is wrong to `problems`; the request is then of no use. */
export function readingRequest(path: string, texts: ReadingTexts, problems: string[]): ReadingRequest {
  const format = formatOf(path, texts, problems);
  const map = or<FieldMap>(new Map(), problems, () => (texts.map === null ? new Map() : parseFieldMap(texts.map)));
  const delimiter = or(null, problems, () => (texts.delimiter === null ? null : parseDelimiter(texts.delimiter)));
  if (delimiter !== null && format !== null && format !== 'csv')
    problems.push(`--delimiter is for tables, and the format is ${format}: give --format csv`);
  return { format: format ?? 'ndjson', map, delimiter };
}

function formatOf(path: string, { format }: ReadingTexts, problems: string[]): InputFormat | null {
  const given = inputFormats.find((name) => name === format) ?? null;
  if (format !== null && given === null) {
    problems.push(`--format is ${JSON.stringify(format)}: it must be one of ${inputFormats.join(', ')}`);
    return null;
  }
  const found = given ?? guessFormat(path);
  if (found === null) problems.push(`${path}: its name does not tell its format; give --format, one of ${inputFormats.join(', ')}`);
  return found;
}

function or<T>(otherwise: T, problems: string[], parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    problems.push(...error.problems);
    return otherwise;
  }
}

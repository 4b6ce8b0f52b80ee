/** Parses the options of `publish`; all problems are reported at once. */
import { wholeNumber, type ValueKind } from '../config/parsers.ts';
import { ConfigError } from '../errors.ts';
import { type ReadingRequest, guessFormat, type InputFormat, inputFormats } from './read-input.ts';
import { parseDelimiter } from './csv-events.ts';
import { type FieldMap, parseFieldMap } from './field-map.ts';

/** The options as text; null: not given. */
export interface PublishTexts extends ReadingTexts {
  readonly shuffle: string | null;
  readonly duplicate: string | null;
  readonly drop: string | null;
  readonly rate: string | null;
  readonly seed: string | null;
  readonly 'entity-type': string | null;
}

export interface PublishRequest extends ReadingRequest {
  readonly window: number;
  readonly duplicate: number;
  readonly drop: number;
  /** Messages per second, or null. */
  readonly ratePerSecond: number | null;
  /** Null: any. */
  readonly seed: number | null;
  readonly entityType: string | null;
}

const probability: ValueKind<number> = {
  allowed: 'a number from 0 to 1, such as 0.05',
  parse: (text) => decimalWithin(text, 0, 1),
};

const maxRate = 1_000_000;

export const ratePerSecond: ValueKind<number> = {
  allowed: 'a number of messages per second, from 0.01 to 1,000,000',
  parse: (text) => decimalWithin(text, 0.01, maxRate),
};

/** @throws ConfigError */
export function parseRequest(path: string, texts: PublishTexts): PublishRequest {
  const problems: string[] = [];
  const number = (option: 'shuffle' | 'duplicate' | 'drop' | 'rate' | 'seed', kind: ValueKind<number>) => {
    const text = texts[option];
    const value = text === null ? null : kind.parse(text);
    if (text !== null && value === null) problems.push(`--${option} is ${JSON.stringify(text)}: it must be ${kind.allowed}`);
    return value;
  };
  const request = {
    ...readingRequest(path, texts, problems),
    window: number('shuffle', wholeNumber(0, 1_000_000)) ?? 0,
    duplicate: number('duplicate', probability) ?? 0,
    drop: number('drop', probability) ?? 0,
    ratePerSecond: number('rate', ratePerSecond),
    seed: number('seed', wholeNumber(0, 2 ** 32 - 1)),
    entityType: texts['entity-type'],
  };
  if (texts['entity-type'] === '') problems.push('--entity-type is empty');
  if (problems.length > 0) throw new ConfigError(problems);
  return request;
}

function decimalWithin(text: string, min: number, max: number): number | null {
  if (!/^(\d{1,9})?(\.\d{1,9})?$/.test(text) || text === '' || text === '.') return null;
  const value = Number(text);
  return value >= min && value <= max ? value : null;
}

/** The options as text; null: not given. */
export interface ReadingTexts {
  readonly format: string | null;
  readonly map: string | null;
  readonly delimiter: string | null;
}

/** Adds to `problems`; with a problem the request must not be used. */
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

/**
 * Describes an error of a processor for the record of a dead letter: its reason, class and message as the detail, and the
 * stack. Bounded, without credentials, and without parts of the event's data that the message repeats.
 */
import type { Event } from '../events/event.ts';
import { maxExamined, redactSecrets, withoutSecrets } from '../printable.ts';

export interface Thrown {
  /** On one line: `TypeError: order has no items`. */
  readonly detail: string;
  /** The frames, followed by those of its causes; null if there are none. */
  readonly stack: string | null;
}

const maxFrames = 16;
const maxFrameLength = 240;
const maxCauses = 3;

/** JSON in the message that is longer than this counts as data. */
const maxJsonLength = 200;
/** This many characters of JSON, without white space, identify the event's data. */
const knownByLength = 12;
const maxFragments = 64;
const unprintable = 'something that cannot be printed';

/** By code and not by class: a processor's module may have its own copy of the package. */
export function codeOf(thrown: unknown): unknown {
  return read(thrown, 'code');
}

/** The reason that an `EventError` gives, if a processor may give it; the others say what a worker finds by itself. */
export function reasonOf(thrown: unknown): 'refused' | 'invalid_data' | 'handler_failed' {
  const reason = codeOf(thrown) === 'EVENT' ? read(thrown, 'reason') : null;
  return reason === 'refused' || reason === 'invalid_data' ? reason : 'handler_failed';
}

/**
 * Never throws: the error may be any value, also one without a text, and a handler may have changed the data. `events` are all
 * whose data may be in the message.
 */
export function describeThrown(thrown: unknown, ...events: readonly Event[]): Thrown {
  try {
    const lines: string[] = [];
    let cause = thrown;
    for (let depth = 0; depth <= maxCauses && cause instanceof Error; depth++) {
      const frames = framesOf(cause);
      if (depth > 0) lines.push(`caused by ${wordsOf(cause, events)}`);
      lines.push(...frames);
      cause = read(cause, 'cause') ?? firstOf(read(cause, 'errors'));
    }
    return { detail: wordsOf(thrown, events), stack: lines.length === 0 ? null : lines.join('\n') };
  } catch {
    return { detail: unprintable, stack: null };
  }
}

function wordsOf(thrown: unknown, events: readonly Event[]): string {
  const words = withoutData(textOf(thrown).slice(0, maxExamined), events);
  return withoutSecrets(words.replaceAll(/\s+/g, ' ').trim());
}

/** Removes data from the message: all of them or an object in them, pretty-printed or not, also if it is truncated. */
function withoutData(words: string, events: readonly Event[]): string {
  const written = events.flatMap(({ dataJson, data }) => [dataJson, jsonOf(data)]);
  const payloads = [...new Set(written)].filter((payload) => payload.length > 2);
  let compacted: readonly string[] | null = null;
  let rest = payloads.reduce((text, payload) => text.replaceAll(payload, '[data]'), words);
  let kept = '';
  for (let looked = 0; ; looked++) {
    const at = rest.search(/[{[]\s*(?:["'{[]|[\w-]+\s*:)/);
    if (at === -1) return kept + rest;
    kept += rest.slice(0, at);
    rest = rest.slice(at);
    if (looked === maxFragments) return `${kept}[data]`;
    const length = fragmentLength(rest);
    const begins = compact(rest.slice(0, length)).slice(0, knownByLength);
    const isKnown = () => (compacted ??= payloads.map(compact)).some((payload) => payload.includes(begins));
    const isData = length > maxJsonLength || (begins.length > 4 && isKnown());
    kept += isData ? '[data]' : rest[0];
    rest = rest.slice(isData ? length : 1);
  }
}

/** The length up to the bracket that closes the first one; all of it if none does. */
function fragmentLength(text: string): number {
  let depth = 0;
  for (const { 0: token, index } of text.matchAll(/"(?:[^"\\]|\\.)*"?|[{}[\]]/gs)) {
    if (token === '{' || token === '[') depth++;
    else if ((token === '}' || token === ']') && --depth === 0) return index + 1;
  }
  return text.length;
}

function compact(json: string): string {
  return json.replaceAll(/\s+/g, '');
}

/** Empty if a handler has put a value into the data that JSON cannot express. */
function jsonOf(data: unknown): string {
  try {
    return JSON.stringify(data) ?? '';
  } catch {
    return '';
  }
}

function textOf(thrown: unknown): string {
  try {
    if (!(thrown instanceof Error)) return String(thrown);
    const { name, message } = thrown;
    // A class without a `name` property still has a name.
    const named = name === 'Error' ? thrown.constructor.name : name;
    return message === '' ? String(named) : `${named}: ${message}`;
  } catch {
    return unprintable;
  }
}

/** The lines after the message, which may itself look like frames. */
function framesOf(error: Error): string[] {
  const stack = read(error, 'stack');
  const message = read(error, 'message');
  if (typeof stack !== 'string') return [];
  const at = typeof message === 'string' ? stack.indexOf(message) : -1;
  const behind = at === -1 ? stack : stack.slice(at + String(message).length);
  const frames = behind
    .slice(0, maxExamined)
    .split('\n')
    .filter((line) => /^\s+at /.test(line));
  return frames.slice(0, maxFrames).map((line) => redactSecrets(line).trim().slice(0, maxFrameLength));
}

/** Of an `AggregateError`, which says nothing itself. */
function firstOf(errors: unknown): unknown {
  return Array.isArray(errors) ? errors[0] : undefined;
}

function read(thrown: unknown, property: 'stack' | 'message' | 'cause' | 'code' | 'reason' | 'errors'): unknown {
  try {
    return thrown instanceof Error ? (thrown as Error & { readonly [key: string]: unknown })[property] : undefined;
  } catch {
    return undefined;
  }
}

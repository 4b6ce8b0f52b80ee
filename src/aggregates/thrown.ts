/**
 * What is kept of something that a processor threw: its class and its words for the detail of a dead letter, and the
 * places that it came from. Bounded, without credentials, and without the event's data where the words repeat them.
 */
import type { Event } from '../events/event.ts';
import { redactSecrets } from '../printable.ts';

export interface Thrown {
  /** On one line: `TypeError: order has no items`. */
  readonly detail: string;
  /** The frames, those of its causes behind them; null where it has none. */
  readonly stack: string | null;
}

const maxDetailLength = 800;
/** Looked at, so that nothing which is thrown takes long to be told. */
const maxLookedAt = 16_384;
const maxFrames = 16;
const maxFrameLength = 240;
const maxCauses = 3;

/** JSON in the words that is longer than this is taken for data, wherever it comes from. */
const maxJsonLength = 200;
/** That many characters of JSON, white space aside, are enough to know the event's data by. */
const knownByLength = 12;
const maxFragments = 64;
const unprintable = 'something that cannot be printed';

/** Anything can be thrown, also what cannot be made into text, and the data may be what a handler made of them: it never throws. */
export function describeThrown(thrown: unknown, event: Event): Thrown {
  try {
    const lines: string[] = [];
    let cause = thrown;
    for (let depth = 0; depth <= maxCauses && cause instanceof Error; depth++) {
      const frames = framesOf(cause);
      if (depth > 0) lines.push(`caused by ${wordsOf(cause, event)}`);
      lines.push(...frames);
      cause = read(cause, 'cause');
    }
    return { detail: wordsOf(thrown, event), stack: lines.length === 0 ? null : lines.join('\n') };
  } catch {
    return { detail: unprintable, stack: null };
  }
}

function wordsOf(thrown: unknown, event: Event): string {
  const words = withoutData(textOf(thrown).slice(0, maxLookedAt), event);
  const oneLine = redactSecrets(words).replaceAll(/\s+/g, ' ').trim();
  return oneLine.length > maxDetailLength ? `${oneLine.slice(0, maxDetailLength)}…` : oneLine;
}

/** What the words repeat of the data goes: all of them or an object in them, pretty-printed or not, also where it is cut off. */
function withoutData(words: string, { dataJson, data }: Event): string {
  const payloads = [dataJson, jsonOf(data)].filter((payload) => payload.length > 2);
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
    const isData = length > maxJsonLength || (begins.length > 4 && payloads.some((payload) => compact(payload).includes(begins)));
    kept += isData ? '[data]' : rest[0];
    rest = rest.slice(isData ? length : 1);
  }
}

/** Up to the bracket that closes the first one; everything, where none does. */
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

/** Empty where a handler has put something into them that JSON does not know. */
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
    // A class that sets no name of its own still has one.
    const named = name === 'Error' ? thrown.constructor.name : name;
    return message === '' ? String(named) : `${named}: ${message}`;
  } catch {
    return unprintable;
  }
}

/** The lines behind the message, which may look like frames itself. */
function framesOf(error: Error): string[] {
  const stack = read(error, 'stack');
  const message = read(error, 'message');
  if (typeof stack !== 'string') return [];
  const at = typeof message === 'string' ? stack.indexOf(message) : -1;
  const behind = at === -1 ? stack : stack.slice(at + String(message).length);
  const frames = behind
    .slice(0, maxLookedAt)
    .split('\n')
    .filter((line) => /^\s+at /.test(line));
  return frames.slice(0, maxFrames).map((line) => redactSecrets(line).trim().slice(0, maxFrameLength));
}

function read(error: Error, property: 'stack' | 'message' | 'cause'): unknown {
  try {
    return error[property];
  } catch {
    return undefined;
  }
}

/**
 * What is kept of something that a processor threw: its class and its words for the detail of a dead letter, and the
 * places that it came from. Bounded, without credentials, and without the event's data where the words repeat them.
 */
import type { Event } from '../events/event.ts';
import { redactSecrets } from '../redaction.ts';

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

/** Anything can be thrown, also what cannot be made into text. */
export function describeThrown(thrown: unknown, event: Event): Thrown {
  const lines: string[] = [];
  let cause = thrown;
  for (let depth = 0; depth <= maxCauses && cause instanceof Error; depth++) {
    const frames = framesOf(cause);
    if (depth > 0) lines.push(`caused by ${wordsOf(cause, event)}`);
    lines.push(...frames);
    cause = read(cause, 'cause');
  }
  return { detail: wordsOf(thrown, event), stack: lines.length === 0 ? null : lines.join('\n') };
}

function wordsOf(thrown: unknown, { dataJson, data }: Event): string {
  let words = textOf(thrown).slice(0, maxLookedAt);
  for (const payload of [dataJson, JSON.stringify(data)]) if (payload.length > 2) words = words.replaceAll(payload, '[data]');
  words = redactSecrets(words).replaceAll(/\s+/g, ' ').trim();
  return words.length > maxDetailLength ? `${words.slice(0, maxDetailLength)}…` : words;
}

function textOf(thrown: unknown): string {
  try {
    if (!(thrown instanceof Error)) return String(thrown);
    const { name, message } = thrown;
    // A class that sets no name of its own still has one.
    const named = name === 'Error' ? thrown.constructor.name : name;
    return message === '' ? String(named) : `${named}: ${message}`;
  } catch {
    return 'something that cannot be printed';
  }
}

/** The lines behind the message, which may look like frames itself. */
function framesOf(error: Error): string[] {
  const stack = read(error, 'stack');
  const message = read(error, 'message');
  if (typeof stack !== 'string') return [];
  const at = typeof message === 'string' ? stack.indexOf(message) : -1;
  const behind = at === -1 ? stack : stack.slice(at + String(message).length);
  const frames = behind.slice(0, maxLookedAt).split('\n').filter((line) => /^\s+at /.test(line));
  return frames.slice(0, maxFrames).map((line) => redactSecrets(line).trim().slice(0, maxFrameLength));
}

function read(error: Error, property: 'stack' | 'message' | 'cause'): unknown {
  try {
    return error[property];
  } catch {
    return undefined;
  }
}

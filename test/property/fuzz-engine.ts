/**
 * A fuzzer for what reads foreign input. It takes inputs of a corpus apart and puts them together again, by a seed, and gives each to a
 * target, which says what came of it or throws. An outcome that was not seen before makes its input one of the corpus, so that the next
 * ones begin where it ended. A failing input is cut down to what it takes.
 *
 * Besides what a target finds wrong a run fails for an input that takes too much processor time, for heap that grows with the number
 * of inputs, and for an input that changes what all objects inherit.
 */
import { Chance } from '../simulation/virtual-time.ts';
import { heapBytes } from '../support/heap.ts';

/** Texts; of a target that takes bytes each character is one. */
export type Input = readonly string[];

export interface Target {
  readonly name: string;
  readonly takes: 'bytes' | 'text';
  /** Whether inputs have any number of parts. */
  readonly isList?: boolean;
  /** Whether an input has lines, each of which takes time. */
  readonly hasLines?: boolean;
  /** Of each part, in characters. */
  readonly maxLength: number;
  readonly corpus: readonly Input[];
  /** What is worth putting in anywhere. */
  readonly words: readonly string[];
  /** Says what came of it, in words that are the same for all inputs of a kind; throws if that must not be. */
  readonly run: (input: Input) => string | Promise<string>;
}

export interface FuzzOptions {
  readonly inputs: number;
  readonly seed: number;
  /** Of one input, or a hundred of its lines, at the second and third try as well. Default: any time. */
  readonly maxCpuMs?: number;
  /** How often less of an input that fails is tried. Default: 2,000 times. */
  readonly shrinkTries?: number;
}

export interface Failure {
  readonly symptom: string;
  readonly input: Input;
}

export interface FuzzResult {
  readonly inputs: number;
  /** Different outcomes. */
  readonly outcomes: number;
  readonly slowestMs: number;
  /** From the first fifth of the run to its end. */
  readonly grownBytes: number;
  readonly failure: Failure | null;
}

const maxKept = 500;
const tries = 3;
/** What a run may leave behind: compiled code, and what Node keeps. */
const maxGrownBytes = 4 * 2 ** 20;
/** Names of which an input may be full. */
const inherited = Object.getOwnPropertyNames(Object.prototype).join();

export async function fuzz(target: Target, options: FuzzOptions): Promise<FuzzResult> {
  const { inputs, seed, maxCpuMs = Infinity } = options;
  const chance = new Chance(seed, target.name);
  const corpus = [...target.corpus];
  const seen = new Set<string>();
  let [slowestMs, firstBytes, ran] = [0, 0, 0];
  let failure: Failure | null = null;
  for (; ran < inputs && failure === null; ran++) {
    // First the corpus as it is.
    const input = ran < target.corpus.length ? target.corpus[ran]! : mutated(target, corpus, chance);
    const { outcome, symptom, cpuMs } = await tried(target, input, maxCpuMs);
    slowestMs = Math.max(slowestMs, cpuMs);
    if (symptom !== null) failure = await shrunk(target, { symptom, input }, options);
    else if (seen.size < maxKept && !seen.has(outcome)) {
      seen.add(outcome);
      corpus.push(input);
    }
    if (ran === Math.floor(inputs / 5)) firstBytes = heapBytes();
  }
  const grownBytes = failure === null ? heapBytes() - firstBytes : 0;
  if (grownBytes > maxGrownBytes)
    failure = { symptom: `the heap grew by ${grownBytes} bytes with the number of inputs`, input: corpus.at(-1) ?? [] };
  return { inputs: ran, outcomes: seen.size, slowestMs, grownBytes, failure };
}

/** Runs one input and says what is wrong with what came of it; null: nothing. */
export async function symptomOf(target: Target, input: Input, maxCpuMs = Infinity): Promise<string | null> {
  return (await tried(target, input, maxCpuMs)).symptom;
}

interface Tried {
  readonly outcome: string;
  readonly symptom: string | null;
  readonly cpuMs: number;
}

async function tried(target: Target, input: Input, limitMs: number): Promise<Tried> {
  const hundreds = target.hasLines ? Math.max(1, (input.at(-1)?.match(/[\r\n]/g)?.length ?? 0) / 100) : 1;
  const maxCpuMs = limitMs * hundreds;
  let cpuMs = Infinity;
  let outcome = '';
  // Once may be the compiler or the garbage collector.
  for (let left = tries; left > 0 && (left === tries || cpuMs > maxCpuMs); left--) {
    const before = process.cpuUsage();
    try {
      const came = target.run(input);
      outcome = typeof came === 'string' ? came : await came;
    } catch (error) {
      const name = error instanceof Broken ? '' : `it throws ${error instanceof Error ? error.name : typeof error}: `;
      return { outcome, symptom: `${name}${(error as Error)?.message ?? String(error)}`, cpuMs: 0 };
    }
    const { user, system } = process.cpuUsage(before);
    cpuMs = Math.min(cpuMs, (user + system) / 1_000);
  }
  if (cpuMs > maxCpuMs) return { outcome, symptom: `it takes more than ${limitMs} ms of processor time`, cpuMs };
  const changed = Object.getOwnPropertyNames(Object.prototype).join();
  if (changed === inherited) return { outcome, symptom: null, cpuMs };
  for (const name of Object.getOwnPropertyNames(Object.prototype))
    if (!inherited.split(',').includes(name)) delete (Object.prototype as Record<string, unknown>)[name];
  return { outcome, symptom: 'it changes what all objects inherit', cpuMs };
}

/** What a target throws if an outcome must not be. */
export class Broken extends Error {}

export function expect(isSo: boolean, otherwise: () => string): asserts isSo {
  if (!isSo) throw new Broken(otherwise());
}

function mutated(target: Target, corpus: readonly Input[], chance: Chance): Input {
  let input = chance.pick(corpus);
  for (let changes = chance.between(1, 5); changes > 0; changes--) input = changed(target, input, corpus, chance);
  return input;
}

function changed(target: Target, input: Input, corpus: readonly Input[], chance: Chance): Input {
  if (target.isList && (input.length === 0 || chance.hits(0.3))) {
    const at = chance.between(0, input.length);
    if (chance.hits(0.4)) return input.toSpliced(at, 1);
    const other = chance.pick(corpus);
    return input.toSpliced(at, 0, other.length === 0 ? wordOf(target, chance) : chance.pick(other));
  }
  if (input.length === 0) return input;
  const at = chance.between(0, input.length - 1);
  const change = chance.pick(changes);
  return input.with(at, change(input[at]!, { target, chance, other: chance.pick(corpus)[at] ?? '' }).slice(0, target.maxLength));
}

interface Tools {
  readonly target: Target;
  readonly chance: Chance;
  /** The same part of another input. */
  readonly other: string;
}

type Change = (part: string, tools: Tools) => string;

/** Those that know of structure come more often than those that only know of characters. */
const changes: readonly Change[] = [
  ...[replaceToken, replaceToken, replaceToken, repeatToken, dropToken, swapTokens, nestToken],
  ...[putWord, putWord, replaceNumber, splice, splice],
  ...[flipCharacter, putCharacter, cut, cut, repeatPart],
];

/** Of JSON, of tables, of URLs and of options alike: names and numbers, texts in quotes, and what stands between. */
const token = /"(?:[^"\\]|\\.)*"|[\p{L}\p{N}_.+]+|\s+|./gsu;

function tokensOf(part: string): string[] {
  return part.slice(0, 4_096).match(token) ?? [];
}

function retold(part: string, tokens: readonly string[]): string {
  return tokens.join('') + part.slice(4_096);
}

function replaceToken(part: string, { target, chance, other }: Tools): string {
  const tokens = tokensOf(part);
  if (tokens.length === 0) return wordOf(target, chance);
  const instead = chance.hits(0.5) ? wordOf(target, chance) : chance.pick([...tokensOf(other), '']);
  tokens[chance.between(0, tokens.length - 1)] = instead;
  return retold(part, tokens);
}

/** Two members with one name, a column that is there twice. */
function repeatToken(part: string, { chance }: Tools): string {
  const tokens = tokensOf(part);
  const at = chance.between(0, tokens.length);
  return retold(part, tokens.toSpliced(at, 0, ...tokens.slice(at, at + chance.between(1, 6))));
}

function dropToken(part: string, { chance }: Tools): string {
  const tokens = tokensOf(part);
  return retold(part, tokens.toSpliced(chance.between(0, tokens.length), chance.between(1, 4)));
}

function swapTokens(part: string, { chance }: Tools): string {
  const tokens = tokensOf(part);
  if (tokens.length < 2) return part;
  const [a, b] = [chance.between(0, tokens.length - 1), chance.between(0, tokens.length - 1)];
  [tokens[a], tokens[b]] = [tokens[b]!, tokens[a]!];
  return retold(part, tokens);
}

function nestToken(part: string, { chance }: Tools): string {
  const tokens = tokensOf(part);
  if (tokens.length === 0) return part;
  const at = chance.between(0, tokens.length - 1);
  const depth = chance.hits(0.05) ? 10_000 : chance.between(1, 70);
  const [open, close] = chance.hits(0.5) ? ['[', ']'] : ['{"a":', '}'];
  tokens[at] = `${open.repeat(depth)}${tokens[at]}${close.repeat(depth)}`;
  return retold(part, tokens);
}

const numbers = ['0', '-0', '-1', '1.5', '1e3', '1E400', '0x10', '9007199254740991', '9007199254740992', '2147483648', '65536', '007', '-'];

function replaceNumber(part: string, { chance }: Tools): string {
  const found = [...part.slice(0, 4_096).matchAll(/\d+/g)];
  if (found.length === 0) return part;
  const { 0: text, index } = chance.pick(found);
  return part.slice(0, index) + chance.pick(numbers) + part.slice(index + text.length);
}

function putWord(part: string, { target, chance }: Tools): string {
  const at = chance.between(0, part.length);
  return part.slice(0, at) + wordOf(target, chance) + part.slice(at);
}

function wordOf({ takes, words }: Target, chance: Chance): string {
  const word = chance.hits(0.7) ? chance.pick(words) : chance.pick(hostileWords);
  return takes === 'bytes' ? Buffer.from(word).toString('latin1') : word;
}

/** What has been mistaken for something else before. */
const hostileWords: readonly string[] = [
  ...['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'null', 'true', 'NaN', 'undefined'],
  ...[
    '\0',
    '\r\n',
    '\n',
    '\t',
    ' ',
    '\ufeff',
    '\u2028',
    '\u202e',
    '\u200b',
    '\ufffd',
    'é',
    'e\u0301',
    '\u{1f600}',
    '\ud800',
    '\x7f',
    '\x1b[2J',
  ],
  ...[
    '"',
    "'",
    '`',
    '\\',
    '\\u0000',
    '\\ud800',
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    ';',
    '=',
    '%',
    '%00',
    '%zz',
    '/',
    '../',
    '$',
    '#',
    '?',
    '&',
    '@',
    '*',
  ],
  ...['', '{}', '[]', '""', '-1', '1e999', '9'.repeat(400), 'a'.repeat(300)],
];

function splice(part: string, { chance, other }: Tools): string {
  return part.slice(0, chance.between(0, part.length)) + other.slice(chance.between(0, other.length));
}

function flipCharacter(part: string, { target, chance }: Tools): string {
  if (part === '') return part;
  const at = chance.between(0, part.length - 1);
  const bits = target.takes === 'bytes' ? 8 : 16;
  return part.slice(0, at) + String.fromCharCode(part.charCodeAt(at) ^ (1 << chance.between(0, bits - 1))) + part.slice(at + 1);
}

function putCharacter(part: string, { chance }: Tools): string {
  const at = chance.between(0, part.length);
  return part.slice(0, at) + String.fromCharCode(chance.between(0, 255)) + part.slice(at);
}

function cut(part: string, { chance }: Tools): string {
  const at = chance.between(0, part.length);
  return part.slice(0, at) + part.slice(at + chance.between(1, chance.hits(0.2) ? 1_000 : 8));
}

/** Where something takes time with the square of its length, this shows it. */
function repeatPart(part: string, { chance }: Tools): string {
  const at = chance.between(0, part.length);
  const piece = part.slice(at, at + chance.between(1, 20));
  const times = chance.hits(0.05) ? 3_000 : chance.between(2, 20);
  return part.slice(0, at) + piece.repeat(times) + part.slice(at);
}

/** Tries less and less of it, as long as the symptom stays. */
async function shrunk(target: Target, failure: Failure, { maxCpuMs, shrinkTries = 2_000 }: FuzzOptions): Promise<Failure> {
  let { input } = failure;
  let left = shrinkTries;
  const still = async (smaller: Input) => {
    if (left-- <= 0 || (await symptomOf(target, smaller, maxCpuMs)) !== failure.symptom) return false;
    input = smaller;
    return true;
  };
  for (let at = input.length - 1; target.isList && at >= 0; at--) await still(input.toSpliced(at, 1));
  for (let at = 0; at < input.length; at++) {
    for (let size = Math.ceil(input[at]!.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
      for (let from = 0; from < input[at]!.length; ) {
        const part = input[at]!;
        if (!(await still(input.with(at, part.slice(0, from) + part.slice(from + size))))) from += size;
      }
    }
  }
  return { ...failure, input };
}

/**
 * Cuts lines into the texts of single JSON values: objects, one per line, several on it, or one over several; or the elements of
 * arrays, one array that spans all lines or one behind the other. It only finds where each value begins and ends; whether it is
 * good JSON is for whoever parses it, so that one bad element does not spoil its neighbours. What only separates values is
 * passed over: blank lines, commas, record separators (RFC 7464). Memory: one element.
 */
import { isJsonObject } from '../events/json-body.ts';
import { maxLineBytes, type TextLine } from './text-lines.ts';

const tooLong = `it is longer than ${maxLineBytes} characters`;

/** Each text has the number of the line on which it begins. */
export async function* jsonTexts(lines: AsyncIterable<TextLine>): AsyncGenerator<TextLine> {
  let array: ArraySplitter | null = null;
  const objects = new ObjectJoiner();
  let first = true;
  for await (const textLine of lines) {
    const { text } = textLine;
    if (text !== null && behindSeparators(text, 0) === text.length) continue;
    if (first && text?.[behindSeparators(text, 0)] === '[') array = new ArraySplitter();
    first = false;
    yield* (array ?? objects).feed(textLine);
  }
  yield* (array ?? objects).end();
}

/**
 * Puts the lines of an object together again that was printed over several. An object that is cut off must not swallow what comes
 * behind it: it ends where a line is a whole object and cannot be a part of it, and lines that make no JSON stand for themselves.
 */
class ObjectJoiner {
  #pieces: TextLine[] = [];
  #line = 0;
  #depth = 0;
  #length = 0;
  /** Whether objects have been seen that have a line each. */
  #isLineWise = false;

  *feed(given: TextLine): Generator<TextLine> {
    const { line, text } = given;
    if (this.#pieces.length > 0 && (text === null || this.#isCutOffBy(text))) yield* this.end();
    if (text === null) return void (yield given);
    for (let start = 0; start < text.length; ) {
      if (this.#pieces.length === 0) {
        start = behindSeparators(text, start);
        if (start === text.length) return;
        if (text[start] !== '{') return void (yield { ...given, text: text.slice(start) });
        this.#line = line;
      }
      const { at, depth, inString } = scan(text, start, this.#depth);
      const next = behindSeparators(text, at);
      // Behind an object stands another one or nothing: anything else makes the line a bad one as a whole.
      const end = next === text.length || text[next] === '{' ? at : text.length;
      this.#append({ line, text: text.slice(start, end), problem: null });
      this.#depth = depth;
      this.#isLineWise ||= depth <= 0 && line === this.#line;
      // No string goes over a line end: where one is open, the line is cut off.
      if (depth <= 0 || inString) yield* this.end();
      start = end === at ? next : end;
    }
  }

  /** Of an object that is too long only its last line is kept, and where it ends. */
  #append(piece: TextLine): void {
    this.#length += piece.text!.length;
    if (this.#length > maxLineBytes) this.#pieces = [];
    this.#pieces.push(piece);
  }

  *end(): Generator<TextLine> {
    const [pieces, length] = [this.#pieces, this.#length];
    [this.#pieces, this.#depth, this.#length] = [[], 0, 0];
    if (length > maxLineBytes) yield { line: this.#line, text: null, problem: tooLong };
    else if (pieces.length < 2 || isObject(joined(pieces).text!)) yield* pieces.length < 2 ? pieces : [joined(pieces)];
    else yield* apart(pieces);
  }

  #isCutOffBy(text: string): boolean {
    if (!text.startsWith('{') || !isObject(text)) return false;
    return this.#isLineWise || !/[:,[]\s*$/.test(this.#pieces.at(-1)?.text ?? '');
  }
}

function joined(pieces: readonly TextLine[]): TextLine {
  return { ...pieces[0]!, text: pieces.map(({ text }) => text).join('\n') };
}

/** Those that are objects, and what lies between them. */
function* apart(pieces: readonly TextLine[]): Generator<TextLine> {
  let run: TextLine[] = [];
  for (const piece of pieces) {
    if (!piece.text!.startsWith('{') || !isObject(piece.text!)) {
      run.push(piece);
      continue;
    }
    if (run.length > 0) yield joined(run);
    yield piece;
    run = [];
  }
  if (run.length > 0) yield joined(run);
}

function isObject(text: string): boolean {
  try {
    return isJsonObject(JSON.parse(text));
  } catch {
    return false;
  }
}

function behindSeparators(text: string, start: number): number {
  let at = start;
  while (at < text.length && isSeparator(text[at]!)) at++;
  return at;
}

function isSeparator(character: string): boolean {
  return /[\s,\u001e]/.test(character);
}

/** As far as the bracket with which an object ends, or else the line: how many are open there, and whether a string is. */
function scan(
  text: string,
  start: number,
  outerDepth: number,
): { readonly at: number; readonly depth: number; readonly inString: boolean } {
  let depth = outerDepth;
  for (let at = start; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === quote) {
      at = endOfString(text, at);
      if (at === -1) return { at: text.length, depth, inString: true };
    } else if (code === 0x7b || code === 0x5b) depth++;
    else if ((code === 0x7d || code === 0x5d) && --depth <= 0) return { at: at + 1, depth, inString: false };
  }
  return { at: text.length, depth, inString: false };
}

const quote = 0x22;

/** Where the string that begins at `start` ends; -1 where it does not. */
function endOfString(text: string, start: number): number {
  for (let at = text.indexOf('"', start + 1); at !== -1; at = text.indexOf('"', at + 1)) {
    let slashes = 0;
    while (text[at - 1 - slashes] === '\\') slashes++;
    if (slashes % 2 === 0) return at;
  }
  return -1;
}

/** Goes through arrays character by character, and knows no more of JSON than strings and brackets. */
class ArraySplitter {
  /** `stray`: behind an array something else has begun. */
  #place: 'before' | 'inside' | 'behind' | 'stray' = 'before';
  #depth = 0;
  #inString = false;
  #escaped = false;
  #line = 1;
  #begun: number | null = null;
  #text = '';
  #problem: string | null = null;

  *feed({ line, text, problem }: TextLine): Generator<TextLine> {
    this.#line = line;
    if (text === null) {
      this.#begun ??= line;
      this.#problem ??= problem;
      return;
    }
    let start = 0;
    for (let at = 0; at < text.length; at++) {
      const ended = this.#step(text[at]!);
      if (!ended) continue;
      this.#append(text.slice(start, at), line);
      start = at + 1;
      yield* this.#take();
    }
    // A line end is a space to JSON, also where a string may not have one.
    this.#append(`${text.slice(start)}\n`, line);
  }

  *end(): Generator<TextLine> {
    if (this.#place === 'inside') {
      yield* this.#take();
      yield { line: this.#line, text: null, problem: 'the input ends before its array does' };
    } else if (this.#place === 'stray') {
      yield { line: this.#begun ?? this.#line, text: null, problem: 'there is something behind the end of the array' };
    }
  }

  /** Whether an element, or what stands before the first one, ends with this character. */
  #step(character: string): boolean {
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false;
      else if (character === '\\') this.#escaped = true;
      else if (character === '"') this.#inString = false;
      return false;
    }
    if (this.#place === 'behind' && character !== '[' && !isSeparator(character)) this.#place = 'stray';
    if (this.#place === 'stray') return false;
    if (character === '"') this.#inString = true;
    else if (character === '[' || character === '{') {
      this.#depth++;
      if (this.#place === 'inside') return false;
      this.#place = 'inside';
      return true;
    } else if (character === ']' || character === '}') {
      this.#depth--;
      if (this.#depth > 0) return false;
      this.#place = 'behind';
      return true;
    }
    return character === ',' && this.#depth === 1;
  }

  #append(piece: string, line: number): void {
    if (this.#begun === null && behindSeparators(piece, 0) < piece.length) this.#begun = line;
    this.#text += this.#begun === null ? '' : piece;
    if (this.#text.length <= maxLineBytes) return;
    this.#text = '';
    this.#problem ??= tooLong;
  }

  *#take(): Generator<TextLine> {
    const [line, text, problem] = [this.#begun, this.#text.trim(), this.#problem];
    this.#begun = null;
    this.#text = '';
    this.#problem = null;
    if (line === null) return;
    yield problem === null ? { line, text, problem } : { line, text: null, problem };
  }
}

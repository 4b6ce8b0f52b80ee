/**
 * Cuts lines into the texts of single JSON values: one per line, an object over several lines, or the elements of one array that
 * spans them all. It only finds where each value begins and ends; whether it is good JSON is for whoever parses it, so that
 * one bad element does not spoil its neighbours. Blank lines are passed over. Memory: one element.
 */
import { maxLineBytes, type TextLine } from './text-lines.ts';

/** Each text has the number of the line on which it begins. */
export async function* jsonTexts(lines: AsyncIterable<TextLine>): AsyncGenerator<TextLine> {
  let array: ArraySplitter | null = null;
  const objects = new ObjectJoiner();
  let first = true;
  for await (const textLine of lines) {
    const { text } = textLine;
    if (text !== null && text.trim() === '') continue;
    if (first && text?.trimStart().startsWith('[')) array = new ArraySplitter();
    first = false;
    yield* (array ?? objects).feed(textLine);
  }
  yield* (array ?? objects).end();
}

/**
 * Puts the lines of an object together again that was printed over several. An object that is cut off must not swallow what comes
 * behind it: it ends where a line is a whole object and cannot be a part of it.
 */
class ObjectJoiner {
  #pieces: string[] = [];
  #line = 0;
  #depth = 0;
  #length = 0;
  /** Whether objects have been seen that have a line each. */
  #isLineWise = false;

  *feed(given: TextLine): Generator<TextLine> {
    const { line, text } = given;
    const isOpen = this.#pieces.length > 0;
    if (text === null || (isOpen && this.#isCutOffBy(text))) yield* this.end();
    if (text === null) return void (yield given);
    if (this.#pieces.length === 0 && !text.trimStart().startsWith('{')) return void (yield given);
    const { depth, inString } = depthOf(text);
    if (this.#pieces.length === 0) {
      this.#isLineWise ||= depth === 0;
      // No string goes over a line end: where one is open, the line is cut off.
      if (depth <= 0 || inString) return void (yield given);
      this.#line = line;
    }
    this.#pieces.push(text);
    this.#depth += depth;
    this.#length += text.length;
    if (this.#length > maxLineBytes) {
      this.#pieces = [];
      yield { line: this.#line, text: null, problem: `it is longer than ${maxLineBytes} characters` };
    }
    if (this.#depth <= 0 || inString || this.#pieces.length === 0) yield* this.end();
  }

  *end(): Generator<TextLine> {
    const text = this.#pieces.join('\n');
    [this.#pieces, this.#depth, this.#length] = [[], 0, 0];
    if (text !== '') yield { line: this.#line, text, problem: null };
  }

  #isCutOffBy(text: string): boolean {
    if (!text.startsWith('{') || !isObject(text)) return false;
    return this.#isLineWise || !/[:,[]\s*$/.test(this.#pieces.at(-1) ?? '');
  }
}

function isObject(text: string): boolean {
  try {
    return typeof JSON.parse(text) === 'object';
  } catch {
    return false;
  }
}

/** How many brackets stay open behind a line, and whether a string does. */
function depthOf(text: string): { readonly depth: number; readonly inString: boolean } {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === quote) {
      at = endOfString(text, at);
      if (at === -1) return { depth, inString: true };
    } else if (code === 0x7b || code === 0x5b) depth++;
    else if (code === 0x7d || code === 0x5d) depth--;
  }
  return { depth, inString: false };
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

/** Goes through an array character by character, and knows no more of JSON than strings and brackets. */
class ArraySplitter {
  #place: 'before' | 'inside' | 'behind' = 'before';
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
    } else if (this.#text.trim() !== '') {
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
    if (this.#place === 'behind') return false;
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
    if (this.#begun === null && piece.trim() !== '') this.#begun = line;
    this.#text += this.#begun === null ? '' : piece;
    if (this.#text.length <= maxLineBytes) return;
    this.#text = '';
    this.#problem ??= `it is longer than ${maxLineBytes} characters`;
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

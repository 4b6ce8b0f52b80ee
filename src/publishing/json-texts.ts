/**
 * Splits lines into the texts of single JSON values: objects (one per line, several on a line, or one over several lines) or the
 * elements of arrays (one array over all lines, or several in a row). It only finds where each value begins and ends. The
 * parser decides whether it is valid JSON, so that one bad element does not affect its neighbours. Separators are skipped:
 * blank lines, commas, record separators (RFC 7464). Memory: one element.
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
 * Joins the lines of an object that is printed over several lines. A truncated object must not swallow the following ones: it
 * ends at a line that is a complete object and cannot be part of it; lines that do not form JSON are reported separately.
 */
class ObjectJoiner {
  #pieces: TextLine[] = [];
  #line = 0;
  #depth = 0;
  #length = 0;
  /** Whether objects on a single line have been seen. */
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
      // An object is followed by another one or nothing; anything else makes the whole line invalid.
      const end = next === text.length || text[next] === '{' ? at : text.length;
      this.#append({ line, text: text.slice(start, end), problem: null });
      this.#depth = depth;
      this.#isLineWise ||= depth <= 0 && line === this.#line;
      // No string spans a line end: if one is open, the line is truncated.
      if (depth <= 0 || inString) yield* this.end();
      start = end === at ? next : end;
    }
  }

  /** Of an object that is too long only the last line is kept, and the place of its end. */
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

/** The objects on a line, and the text between them. */
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

/** Scans up to the end of an object or of the line; returns how many brackets are open there, and whether a string is. */
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

/** The end of the string that begins at `start`; -1 if it has none. */
function endOfString(text: string, start: number): number {
  for (let at = text.indexOf('"', start + 1); at !== -1; at = text.indexOf('"', at + 1)) {
    let slashes = 0;
    while (text[at - 1 - slashes] === '\\') slashes++;
    if (slashes % 2 === 0) return at;
  }
  return -1;
}

/** Scans arrays character by character, knowing only strings and brackets. */
class ArraySplitter {
  /** `stray`: something else follows an array. */
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
    // A line end counts as a space, even within a string, where the parser will refuse it.
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

  /** Whether an element, or the text before the first one, ends with this character. */
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

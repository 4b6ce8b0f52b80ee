/**
 * Cuts lines into the texts of single JSON values: one per line, or the elements of one array that spans them
 * all. It only finds where each value begins and ends; whether it is good JSON is for whoever parses it, so that
 * one bad element does not spoil its neighbours. Blank lines are passed over. Memory: one element.
 */
import { maxLineBytes, type TextLine } from './text-lines.ts';

/** Each text has the number of the line on which it begins. */
export async function* jsonTexts(lines: AsyncIterable<TextLine>): AsyncGenerator<TextLine> {
  let array: ArraySplitter | null = null;
  let first = true;
  for await (const textLine of lines) {
    const { text } = textLine;
    if (text !== null && text.trim() === '') continue;
    if (first && text?.trimStart().startsWith('[')) array = new ArraySplitter();
    first = false;
    if (array === null) yield textLine;
    else yield* array.feed(textLine);
  }
  if (array !== null) yield* array.end();
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

/**
 * Splits a stream of bytes into lines, numbered from 1, each checked to be UTF-8. Memory is bounded: of a line
 * that is too long only the number is kept. A carriage return at the end of a line is not part of it.
 *
 * The lines are read one by one, each as an event or an entity. An invalid one is reported and does not affect the others, unless all
 * of the first ones fail for one cause: then that is reported once, before anything is done.
 */
import { InputError } from '../errors.ts';
import type { EntityRef } from '../events/event.ts';
import { isJsonObject } from '../events/json-body.ts';
import { scanMembers } from '../events/json-scanner.ts';

export interface TextLine {
  readonly line: number;
  /** Null when the line is not valid text; `problem` then says why. */
  readonly text: string | null;
  readonly problem: string | null;
}

/** Far larger than any event that workers accept, so that usually the decoder reports the problem. */
export const maxLineBytes = 16 * 1_048_576;

export const notUtf8 = 'it is not valid UTF-8: is it Latin-1 or Windows-1252? Save it as UTF-8';

const newline = 10;
const carriageReturn = 13;

export async function* readLines(source: AsyncIterable<Uint8Array>, maxBytes = maxLineBytes): AsyncGenerator<TextLine> {
  const pending = new PendingLine(maxBytes);
  for await (const chunk of source) {
    let start = 0;
    for (let end = chunk.indexOf(newline); end !== -1; end = chunk.indexOf(newline, start)) {
      pending.append(chunk.subarray(start, end));
      yield pending.take();
      start = end + 1;
    }
    pending.append(chunk.subarray(start));
  }
  if (!pending.isEmpty) yield pending.take();
}

/** The pieces of the present line. */
class PendingLine {
  readonly #maxBytes: number;
  // By default a decoder removes a byte-order mark from every line.
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  #line = 1;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get isEmpty(): boolean {
    return this.#bytes === 0;
  }

  append(piece: Uint8Array): void {
    this.#bytes += piece.length;
    if (this.#bytes > this.#maxBytes) this.#pieces = [];
    else if (piece.length > 0) this.#pieces.push(piece);
  }

  take(): TextLine {
    const line = this.#line++;
    const tooLong = this.#bytes > this.#maxBytes;
    const bytes = this.#pieces.length === 1 ? this.#pieces[0]! : Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.#bytes = 0;
    if (tooLong) return { line, text: null, problem: `it is longer than ${this.#maxBytes} bytes` };
    try {
      return { line, text: this.#decoder.decode(bytes.at(-1) === carriageReturn ? bytes.subarray(0, -1) : bytes), problem: null };
    } catch {
      return { line, text: null, problem: notUtf8 };
    }
  }
}

/** Called for every refused line, with the problem in one sentence. */
export type ProblemListener = (line: number, problem: string) => void;

export type WithLine<T> = T & { readonly line: number };

/** Enough to be no accident, and few enough to start again. */
const maxAlike = 20;

/** `read` returns a sentence for an invalid text. @throws InputError when the first lines all fail for one cause. */
export async function* readEach<T extends object>(
  lines: AsyncIterable<TextLine>,
  read: (text: string) => T | string,
  onProblem: ProblemListener,
): AsyncGenerator<WithLine<T>> {
  const heldBack: { line: number; problem: string }[] = [];
  let isAlike = true;
  const tell = () => {
    isAlike = false;
    for (const { line, problem } of heldBack.splice(0)) onProblem(line, problem);
  };
  for await (const { line, text, problem } of lines) {
    const found = text === null ? `${problem}` : read(text);
    if (typeof found !== 'string') {
      tell();
      yield { line, ...found };
      continue;
    }
    const [first = { line, problem: found }] = heldBack;
    heldBack.push({ line, problem: found });
    if (!isAlike || causeOf(first.problem) !== causeOf(found)) tell();
    else if (heldBack.length >= maxAlike) {
      throw new InputError(
        `nothing was done, for the first ${maxAlike} are all refused for one cause; line ${first.line}: ${first.problem}`,
      );
    }
  }
  tell();
}

/** The problem without the parts that differ between lines. */
function causeOf(problem: string): string {
  return problem.replace(/"(?:[^"\\]|\\.)*"|[\d,]+/g, '…');
}

/** Control characters and lone surrogates: workers refuse entity names with them. */
const unreadable = /[\p{Cc}\p{Cs}]/u;

interface ReadEntity extends EntityRef {
  readonly version: number;
  /** JSON text; null if the line has no state. */
  readonly state: string | null;
}

export type EntityLine = WithLine<ReadEntity>;

export interface EntityLineOptions {
  readonly defaultEntityType: string;
  readonly maxDepth: number;
  readonly maxIdBytes: number;
  /** The lowest version: that of an entity whose first event is applied. */
  readonly firstSequence: 0 | 1;
  readonly onProblem: ProblemListener;
}

/**
 * Reads entities with versions and states, one JSON object per line. The state is kept as written, so that
 * large numbers survive; an invalid line is reported and does not affect the others.
 */
export function entityLines(lines: AsyncIterable<TextLine>, options: EntityLineOptions): AsyncGenerator<EntityLine> {
  return readEach(lines, (text) => parse(text, options), options.onProblem);
}

/** Returns the entity, or a problem. */
function parse(text: string, { defaultEntityType, maxDepth, maxIdBytes, firstSequence }: EntityLineOptions): ReadEntity | string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return 'it is not JSON';
  }
  if (!isJsonObject(value)) return 'it is not a JSON object';
  const scan = scanMembers(text, maxDepth);
  if (!scan.ok) return scan.detail;
  const sources = new Map(scan.found.map(({ key, source }) => [key, source]));
  const read = (key: string): unknown => JSON.parse(sources.get(key) ?? 'null');
  const [entityType, entityId, version] = [read('entity_type') ?? defaultEntityType, read('entity_id'), read('version')];
  if (!sources.has('entity_id'))
    return `it has no entity_id: it must name an entity with entity_id and version, and may give entity_type and state; there are ${[...sources.keys()].map((key) => JSON.stringify(key)).join(', ')}`;
  if (!isName(entityId, maxIdBytes)) return `entity_id must be a string of 1 to ${maxIdBytes} bytes`;
  if (!isName(entityType, maxIdBytes)) return `entity_type must be a string of 1 to ${maxIdBytes} bytes`;
  if (typeof version !== 'number' || !Number.isSafeInteger(version) || version < firstSequence)
    return `version must be a whole number from ${firstSequence} up`;
  const unknown = [...sources.keys()].find((key) => !['entity_type', 'entity_id', 'version', 'state'].includes(key));
  if (unknown !== undefined) return `${JSON.stringify(unknown)} is not one of entity_type, entity_id, version, state`;
  const state = sources.get('state') ?? 'null';
  return { entityType, entityId, version, state: state === 'null' ? null : state };
}

function isName(value: unknown, maxBytes: number): value is string {
  return typeof value === 'string' && value !== '' && Buffer.byteLength(value) <= maxBytes && !unreadable.test(value);
}

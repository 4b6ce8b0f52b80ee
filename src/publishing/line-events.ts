/**
 * From the JSON text of a line to the message that is published. Guarantees that what comes out is an event
 * that a worker takes, because it has been through the worker's own decoder; that values stay as they were
 * written, so that large numbers survive; and that a line which is no event is reported and spoils no other.
 *
 * A bad line whose entity can be read keeps its number: the events behind it wait for the corrected one
 * instead of running ahead without it.
 */
import { EventError } from '../errors.ts';
import { encodedAs, type EncodedEvent } from '../events/encode.ts';
import type { EventLimits } from '../events/event.ts';
import { scanMembers } from '../events/json-scan.ts';
import { SequenceNumbers } from './sequence-numbers.ts';
import type { TextLine } from './text-lines.ts';

/** The format of the lines, and so of the messages. */
export type LineFormat = 'envelope' | 'cloudevents';

export interface LineEventOptions {
  readonly format: LineFormat;
  readonly limits: EventLimits;
  /** The type of an entity whose event names none, as the workers take it. */
  readonly defaultEntityType: string;
  /** Written into events that name no entity type; null leaves them without. */
  readonly entityType: string | null;
  /** Told of every line that is no event, in one sentence. */
  readonly onProblem: (line: number, problem: string) => void;
}

export interface LineEvent extends EncodedEvent {
  readonly line: number;
}

interface FormatText {
  readonly contentType: string;
  readonly entityId: string;
  readonly entityType: string;
  /** The sequence extension of CloudEvents is text: their integers have 32 bits. */
  readonly sequence: (value: number) => string;
}

const formats: Readonly<Record<LineFormat, FormatText>> = {
  envelope: {
    contentType: 'application/json',
    entityId: 'entity_id',
    entityType: 'entity_type',
    sequence: (value) => String(value),
  },
  cloudevents: {
    contentType: 'application/cloudevents+json',
    entityId: 'subject',
    entityType: 'entitytype',
    sequence: (value) => `"${value}"`,
  },
};

export async function* lineEvents(
  lines: AsyncIterable<TextLine>,
  options: LineEventOptions,
): AsyncGenerator<LineEvent> {
  const reader = new LineReader(options);
  for await (const { line, text, problem } of lines) {
    const read = text === null ? `${problem}` : reader.read(text);
    if (typeof read === 'string') options.onProblem(line, read);
    else yield { line, ...read };
  }
}

class LineReader {
  readonly #options: LineEventOptions;
  readonly #format: FormatText;
  readonly #numbers = new SequenceNumbers();

  constructor(options: LineEventOptions) {
    this.#options = options;
    this.#format = formats[options.format];
  }

  /** The event of a line, or the sentence that says why there is none. */
  read(text: string): EncodedEvent | string {
    const members = membersOf(text, this.#options.limits.maxJsonDepth);
    const entityId = stringIn(members, this.#format.entityId);
    const additions = this.#additions(members, entityId);
    if (typeof additions === 'string') return additions;
    const body = Buffer.from(withMembers(text, members, additions));
    const { contentType } = this.#format;
    try {
      return encodedAs({ body, contentType, headers: {}, entityId: entityId ?? undefined }, this.#options.limits);
    } catch (error) {
      if (error instanceof EventError) return `${error.reason}: ${error.message}`;
      throw error;
    }
  }

  /** Members that the text lacks. */
  #additions(members: Members, entityId: string | null): Members | string {
    const additions = new Map<string, string>();
    if (members.size === 0) return additions;
    const { entityType: typeName } = this.#format;
    if (this.#options.format === 'envelope' && members.has('specversion') && !members.has('entity_id')) {
      return 'this is a CloudEvent: give --format cloudevents';
    }
    const { entityType } = this.#options;
    if (entityType !== null && !members.has(typeName)) additions.set(typeName, JSON.stringify(entityType));
    if (entityId === null) return additions;
    const entity = {
      entityType: stringIn(members, typeName) ?? entityType ?? this.#options.defaultEntityType,
      entityId,
    };
    const sequence = members.has('sequence') ? null : this.#numbers.next(entity);
    if (sequence !== null) additions.set('sequence', this.#format.sequence(sequence));
    else if (!members.has('sequence') || !this.#numbers.came(entity)) {
      const entityText = JSON.stringify(entityId);
      return `entity ${entityText} has events with a sequence and events without: give all of them one, or none`;
    }
    return additions;
  }
}

/** By key, the text of each value that is not null. */
type Members = ReadonlyMap<string, string>;

/** Empty when the text cannot be read as a JSON object: the decoder says what is wrong with it. */
function membersOf(text: string, maxDepth: number): Members {
  try {
    // The scanner trusts that it is given JSON.
    if (!isObject(JSON.parse(text))) return new Map();
  } catch {
    return new Map();
  }
  const scan = scanMembers(text, maxDepth);
  if (!scan.ok) return new Map();
  return new Map(scan.found.filter(({ source }) => source !== 'null').map(({ key, source }) => [key, source]));
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function stringIn(members: Members, key: string): string | null {
  const source = members.get(key);
  return source?.startsWith('"') ? (JSON.parse(source) as string) : null;
}

function withMembers(text: string, members: Members, additions: Members): string {
  if (additions.size === 0) return text;
  const all = [...members, ...additions].map(([key, source]) => `${JSON.stringify(key)}:${source}`);
  return `{${all.join(',')}}`;
}

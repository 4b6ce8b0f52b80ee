/**
 * Turns the JSON text of a line into the message to publish. Guarantees that the result is an event
 * that workers accept, because it has passed their decoder; that values stay as they were
 * written, so that large numbers survive; and that an invalid line is reported and does not affect the others.
 *
 * An invalid line whose entity can be read keeps its number: the events behind it wait for the corrected one
 * instead of being applied without it.
 */
import { EventError } from '../errors.ts';
import { encodedAs, type EncodedEvent } from '../events/encode.ts';
import type { EventLimits, EntityRef } from '../events/event.ts';
import { isJsonObject, quoted } from '../events/json-body.ts';
import { scanMembers } from '../events/json-scanner.ts';
import { type FieldMap, type MappableField, mapHint } from './field-map.ts';
import { type ProblemListener, readEach, type TextLine, type WithLine } from './text-lines.ts';

/** The format of the lines and of the messages. */
export type LineFormat = 'envelope' | 'cloudevents';

export interface LineEventOptions {
  readonly format: LineFormat;
  readonly limits: EventLimits;
  /** The workers' default for events without an entity type. */
  readonly defaultEntityType: string;
  /** Written into events without an entity type; null: not written. */
  readonly entityType: string | null;
  /** The member for each field; `data.orderId` for a nested one. */
  readonly map: FieldMap;
  /** Events without a sequence: `number` them per entity from the first sequence of `limits` up, or leave them `as-given`. */
  readonly sequences: 'number' | 'as-given';
  /** Whether the stream's workers accept events without a sequence or an entity. */
  readonly unsequenced: 'reject' | 'process';
  /** A hint for lines without an entity. Default: none. */
  readonly ofNoEntity?: string;
  readonly onProblem: ProblemListener;
}

export type LineEvent = WithLine<EncodedEvent>;

interface FormatText {
  readonly contentType: string;
  /** The names of the fields. */
  readonly names: Readonly<Record<MappableField, string>>;
  /** The sequence extension of CloudEvents is text: their integers have 32 bits. */
  readonly sequence: (value: number) => string;
  /** Members with a fixed meaning, which cannot be mapped. */
  readonly fixed: readonly string[];
}

const formats: Readonly<Record<LineFormat, FormatText>> = {
  envelope: {
    contentType: 'application/json',
    names: { id: 'id', entity_type: 'entity_type', entity_id: 'entity_id', sequence: 'sequence', type: 'type', timestamp: 'timestamp' },
    sequence: (value) => String(value),
    fixed: [],
  },
  cloudevents: {
    contentType: 'application/cloudevents+json',
    names: { id: 'id', entity_type: 'entitytype', entity_id: 'subject', sequence: 'sequence', type: 'type', timestamp: 'time' },
    sequence: (value) => `"${value}"`,
    fixed: ['specversion', 'id', 'source', 'type', 'time', 'datacontenttype', 'dataschema'],
  },
};

export function lineEvents(lines: AsyncIterable<TextLine>, options: LineEventOptions): AsyncGenerator<LineEvent> {
  const reader = new LineReader(options);
  return readEach(lines, (text) => reader.read(text), options.onProblem);
}

class LineReader {
  readonly #options: LineEventOptions;
  readonly #format: FormatText;
  readonly #numbers: SequenceNumbers;

  constructor(options: LineEventOptions) {
    this.#options = options;
    this.#format = formats[options.format];
    this.#numbers = new SequenceNumbers(options.limits.firstSequence);
  }

  /** The event of a line, or a sentence that says why there is none. */
  read(text: string): EncodedEvent | string {
    const { limits, unsequenced } = this.#options;
    const given = membersOf(text, limits.maxJsonDepth);
    const members = this.#mapped(given);
    const entityId = stringIn(members, this.#format.names.entity_id);
    const additions = this.#additions(members, entityId);
    if (typeof additions === 'string') return additions;
    const body = Buffer.from(members === given && additions.size === 0 ? text : textOf([...members, ...additions]));
    const { contentType } = this.#format;
    try {
      return encodedAs({ body, contentType, headers: {}, entityId: entityId ?? undefined }, { limits, unsequenced });
    } catch (error) {
      if (error instanceof EventError) return `${error.reason}: ${error.message}${this.#hint(members)}`;
      throw error;
    }
  }

  /** Moves mapped members to the names of their fields; a number used as a name becomes text, and digits a sequence. */
  #mapped(members: Members): Members {
    if (this.#options.map.size === 0 || members.size === 0) return members;
    const found = [...this.#options.map].flatMap(([field, path]) => {
      const source = members.get(path) ?? within(members, path);
      return source === undefined ? [] : [{ field, path, source }];
    });
    const mapped = new Map(members);
    // All are removed before one is set: a name may be the source of one field and the target of another.
    for (const { path } of found) mapped.delete(path);
    for (const { field, source } of found) mapped.set(this.#format.names[field], this.#asField(field, source));
    return mapped;
  }

  #asField(field: MappableField, source: string): string {
    if (field === 'sequence') return this.#options.format === 'envelope' && digitsAsText.test(source) ? source.slice(1, -1) : source;
    return field !== 'timestamp' && digits.test(source) ? `"${source}"` : source;
  }

  /** The members to add to the text. */
  #additions(members: Members, entityId: string | null): Members | string {
    const additions = new Map<string, string>();
    if (members.size === 0) return additions;
    const { names } = this.#format;
    if (this.#options.format === 'envelope' && members.has('specversion') && !members.has('entity_id')) {
      return 'this is a CloudEvent: give --format cloudevents';
    }
    if (this.#options.format === 'cloudevents' && members.has('entity_id') && !members.has('specversion')) {
      return 'this is an envelope and no CloudEvent: give --format ndjson';
    }
    const { entityType, sequences } = this.#options;
    if (entityType !== null && !members.has(names.entity_type)) additions.set(names.entity_type, JSON.stringify(entityType));
    if (entityId === null || sequences === 'as-given') return additions;
    const entity = {
      entityType: stringIn(members, names.entity_type) ?? entityType ?? this.#options.defaultEntityType,
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

  /** A hint for a field that is missing, or is a number. */
  #hint(members: Members): string {
    if (members.size === 0) return '';
    const { names, fixed } = this.#format;
    const required = (['entity_id', 'type'] as const).filter((field) => field === 'type' || this.#options.unsequenced === 'reject');
    const asNumber = required.find((field) => digits.test(members.get(names[field]) ?? ''));
    if (asNumber !== undefined) return `; --map ${asNumber}=${names[asNumber]} takes its digits`;
    const missing = required.filter((field) => !members.has(names[field]));
    if (missing.length === 0)
      return digitsAsText.test(members.get(names.sequence) ?? '')
        ? `; --map sequence=${names.sequence} takes the number in its quotes`
        : '';
    const mapped = missing.find((field) => this.#options.map.has(field));
    if (mapped !== undefined) return `; the line has no ${JSON.stringify(this.#options.map.get(mapped))}, which --map says`;
    const others = [...members.keys()].filter((name) => !fixed.includes(name));
    // Data belong to the event: only ids in them are proposed.
    const free = others.flatMap((name) =>
      name === 'data'
        ? [...membersOf(members.get(name)!, this.#options.limits.maxJsonDepth).keys()]
            .filter((key) => /id$/i.test(key))
            .map((key) => `data.${key}`)
        : /^[[{]/.test(members.get(name)!)
          ? []
          : [name],
    );
    const nested = others.filter((name) => name !== 'data');
    const what =
      missing.includes('entity_id') && !missing.includes('type') && free.length === 0
        ? 'it names the entity that the event is about'
        : free.length === 0 && nested.length > 0
          ? `all that it has is within ${nested
              .slice(0, 3)
              .map((name) => quoted(name))
              .join(', ')}: each event must be an object of its own`
          : mapHint(missing, free);
    const { ofNoEntity } = this.#options;
    return `; ${what}${missing.includes('entity_id') && ofNoEntity !== undefined ? `; ${ofNoEntity}` : ''}`;
  }
}

const digits = /^-?\d+$/;
const digitsAsText = /^"(?:0|[1-9]\d*)"$/;

/** The text of each value that is not null, by key. */
type Members = ReadonlyMap<string, string>;

/** Empty when the text is not a JSON object: the decoder says why. */
function membersOf(text: string, maxDepth: number): Members {
  try {
    // The scanner requires valid JSON.
    if (!isJsonObject(JSON.parse(text))) return new Map();
  } catch {
    return new Map();
  }
  const scan = scanMembers(text, maxDepth);
  if (!scan.ok) return new Map();
  return new Map(scan.found.filter(({ source }) => source !== 'null').map(({ key, source }) => [key, source]));
}

function stringIn(members: Members, key: string): string | null {
  const source = members.get(key);
  return source?.startsWith('"') ? (JSON.parse(source) as string) : null;
}

/** The value of a nested member: `data.orderId`. */
function within(members: Members, path: string): string | undefined {
  const dot = path.indexOf('.');
  const outer = dot === -1 ? undefined : members.get(path.slice(0, dot));
  if (outer === undefined) return undefined;
  const inner = membersOf(outer, Number.POSITIVE_INFINITY);
  const rest = path.slice(dot + 1);
  return inner.get(rest) ?? within(inner, rest);
}

function textOf(members: readonly (readonly [key: string, source: string])[]): string {
  return `{${members.map(([key, source]) => `${JSON.stringify(key)}:${source}`).join(',')}}`;
}

class SequenceNumbers {
  /** The number of numbered events; null for an entity whose events came with numbers. */
  readonly #counts = new Map<string, number | null>();
  readonly #first: number;

  constructor(first: 0 | 1 = 1) {
    this.#first = first;
  }

  /** The next number of an entity; null when its earlier events came with numbers: then this one is invalid. */
  next(entity: EntityRef): number | null {
    const key = keyOf(entity);
    const count = this.#counts.get(key);
    if (count === null) return null;
    this.#counts.set(key, (count ?? 0) + 1);
    return (count ?? 0) + this.#first;
  }

  /** Records that an event came with a number. False when others of its entity were numbered here. */
  came(entity: EntityRef): boolean {
    const key = keyOf(entity);
    const count = this.#counts.get(key);
    if (count === undefined) this.#counts.set(key, null);
    return typeof count !== 'number';
  }
}

/** The length separates type and id, which may contain any character. */
function keyOf({ entityType, entityId }: EntityRef): string {
  return `${entityType.length}:${entityType}${entityId}`;
}

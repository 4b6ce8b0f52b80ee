/**
 * Reads entities with versions and states, one JSON object per line. The state is kept as written, so that
 * large numbers survive; an invalid line is reported and does not affect the others.
 */
import type { EntityRef } from '../events/event.ts';
import { isJsonObject } from '../events/json-body.ts';
import { scanMembers } from '../events/json-scanner.ts';
import { type ProblemListener, readEach, type TextLine, type WithLine } from './text-lines.ts';

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

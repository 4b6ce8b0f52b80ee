/**
 * The sources from which a store that lost its tail is recovered: the event store, a file of applied events (`events list
 * --applied --json`) or of versions and states (as `entity import` reads it), or the dead letters behind the missing events. Each
 * lists the entities that are behind, with the remedy for each. Only what was lost is kept in memory.
 */
import { entityKey, type EntityChoice, isChosen, oneOf } from '../events/identity.ts';
import { ConfigError } from '../errors.ts';
import { eventOf } from '../event-sourcing/repository.ts';
import { entitiesOf } from '../event-sourcing/read-side.ts';
import type { EntityRef, Event, EventLimits } from '../events/event.ts';
import { entityLines, type EntityLine, type EntityLineOptions, type TextLine } from '../publishing/text-lines.ts';
import { lineEvents } from '../publishing/line-events.ts';
import type { EventStore } from '../stores/event-store.ts';
import { readSnapshot, type Store } from '../stores/store.ts';
import { type Behind, behindTheirLetters, comparedWith, type Remedy } from './recovery.ts';

export interface RecoverySource {
  /** For messages: what the store is compared with. */
  readonly name: string;
  /** The entities that are behind, with the remedy for each. */
  behind(): AsyncIterable<readonly [Behind, Remedy]>;
}

export interface Selection {
  readonly choice: EntityChoice;
  readonly signal: AbortSignal;
}

type Reading = Pick<Store, 'load' | 'listEntities'>;

export function fromLetters(store: Reading, { choice, signal }: Selection): RecoverySource {
  return {
    name: 'the dead letters that wait behind what is missing',
    async *behind() {
      for await (const behind of behindTheirLetters(store, { entityType: choice.entityType ?? undefined })) {
        if (signal.aborted) return;
        if (isChosen(choice, behind)) yield [behind, { kind: 'resync' }];
      }
    },
  };
}

export function fromEventStore(
  events: Pick<EventStore, 'read' | 'readAll' | 'version'>,
  store: Reading,
  { choice, signal }: Selection,
): RecoverySource {
  return {
    name: 'the event store',
    async *behind() {
      const chosen = oneOf(choice);
      for await (const one of chosen === null ? entitiesOf(events, signal) : [chosen]) {
        if (!isChosen(choice, one)) continue;
        const behind = await comparedWith(store, one, await events.version(one));
        const read = async function* (from: number, to: number) {
          for await (const recorded of events.read(one, { from, to })) yield eventOf(recorded);
        };
        if (behind !== null) yield [behind, { kind: 'events', read, mayBeUnprocessed: true }];
      }
    },
  };
}

export interface FileOptions {
  readonly path: string;
  /** The JSON texts of the file. They are read once. */
  readonly texts: AsyncIterable<TextLine>;
  readonly defaultEntityType: string;
  readonly limits: EventLimits;
}

/** @throws ConfigError when a line is not of the kind of the first one: a partly readable file does not show what is missing. */
export async function fromFile(file: FileOptions, store: Reading, selection: Selection): Promise<RecoverySource> {
  const lines = file.texts[Symbol.asyncIterator]();
  const first = await lines.next();
  async function* whole(): AsyncGenerator<TextLine> {
    if (!first.done) yield first.value;
    yield* { [Symbol.asyncIterator]: () => lines };
  }
  const text = first.done ? null : first.value.text;
  const isOfVersions = text !== null && /"version"\s*:/.test(text) && !/"sequence"\s*:/.test(text);
  return (isOfVersions ? fromVersions : fromApplied)({ ...file, texts: whole() }, store, selection);
}

function fromVersions(
  { path, texts, defaultEntityType, limits }: FileOptions,
  store: Reading,
  { choice, signal }: Selection,
): RecoverySource {
  const options: EntityLineOptions = {
    defaultEntityType,
    maxDepth: limits.maxJsonDepth,
    maxIdBytes: limits.maxEntityIdBytes,
    firstSequence: limits.firstSequence,
    onProblem: (line, problem) => refuse(path, line, problem),
  };
  return {
    name: `the versions in ${path}`,
    async *behind() {
      const lines: AsyncIterable<EntityLine> = entityLines(texts, options);
      for await (const line of lines) {
        if (signal.aborted) return;
        const behind = isChosen(choice, line) ? await comparedWith(store, line, line.version) : null;
        if (behind !== null) yield [behind, { kind: 'state', state: line.state }];
      }
    },
  };
}

interface Lost {
  readonly entity: EntityRef;
  /** In the store. */
  version: number;
  readonly events: Event[];
}

function fromApplied(
  { path, texts, defaultEntityType, limits }: FileOptions,
  store: Reading,
  { choice, signal }: Selection,
): RecoverySource {
  const onProblem = (line: number, problem: string) => refuse(path, line, problem);
  return {
    name: `the events in ${path}`,
    async *behind() {
      const known = new Map<string, Lost>();
      for await (const { line, event } of lineEvents(texts, {
        format: 'envelope',
        limits,
        defaultEntityType,
        entityType: defaultEntityType,
        map: new Map(),
        sequences: 'as-given',
        unsequenced: 'reject',
        onProblem,
      })) {
        if (signal.aborted) return;
        if (!isChosen(choice, event)) continue;
        if (event.sequence === null) refuse(path, line, 'it has no sequence');
        const name = entityKey(event);
        let lost = known.get(name);
        if (lost === undefined) {
          const { version } = await readSnapshot(store, event);
          const { entityType, entityId } = event;
          known.set(name, (lost = { entity: { entityType, entityId }, version, events: [] }));
        }
        if (event.sequence > lost.version) lost.events.push(event);
      }
      for (const { entity: one, version, events } of known.values()) {
        events.sort((a, b) => (a.sequence ?? 0) - (b.sequence ?? 0));
        const [first, last] = [events[0]?.sequence ?? 0, events.at(-1)?.sequence ?? 0];
        const problem = first > version + 1 ? `${path} begins at ${first}, and ${version + 1} is missing` : null;
        const read = async function* (from: number, to: number) {
          yield* events.filter(({ sequence }) => sequence !== null && sequence >= from && sequence <= to);
        };
        if (events.length > 0)
          yield [
            { ...one, version, target: last, problem },
            { kind: 'events', read, mayBeUnprocessed: false },
          ];
      }
    },
  };
}

function refuse(path: string, line: number, problem: string): never {
  throw new ConfigError([`${path}, line ${line}: ${problem}`]);
}

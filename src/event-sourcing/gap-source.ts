/**
 * The source of missing events: the event store, or a module of the operator. It is asked for exactly the missing sequences,
 * and its events are validated like messages: an event that a worker would refuse is ignored.
 */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Config } from '../config/config.ts';
import type { VariableName } from '../config/variables.ts';
import { ConfigError, messageOf, PermanentError } from '../errors.ts';
import { type EncodedEvent, encodeEvent } from '../events/encode.ts';
import type { EntityRef, EventLimits } from '../events/event.ts';
import type { NewEvent } from '../events/new-event.ts';
import type { Log } from '../observability/log.ts';
import type { EventStore } from '../stores/event-store.ts';
import type { Time } from '../time.ts';
import { openEventStore } from '../stores/open-store.ts';

/** The request for missing events. */
export interface MissingEvents {
  readonly entity: EntityRef;
  /** First missing sequence. */
  readonly from: number;
  /** Last missing sequence. */
  readonly to: number;
  /** Aborted when the answer is no longer needed. */
  readonly signal: AbortSignal;
}

/**
 * Returns the events of `entity` from `from` to `to`, without those that it lacks. It is asked again later
 * for these, and after it throws. The events may omit entity type and id.
 */
export type GapSource = (missing: MissingEvents) => AsyncIterable<NewEvent> | Iterable<NewEvent> | Promise<Iterable<NewEvent>>;

export interface OpenGapSource {
  readonly source: GapSource;
  close(): Promise<void>;
}

/** Opens the source that GAP_REPAIR names; null for `off`. @throws ConfigError when there is none of that name. */
export async function openGapSource(config: Config, log: Log, time: Time): Promise<OpenGapSource | null> {
  const { source } = config.gapRepair;
  if (source === null) return null;
  if (source !== 'event-store') return { source: await loadGapSource(source), close: async () => undefined };
  const store = openEventStore(config, log, time);
  return { source: eventStoreSource(store), close: () => store.close() };
}

/** The default export of the module that GAP_REPAIR names. Throws `ConfigError` when there is none. */
async function loadGapSource(path: string): Promise<GapSource> {
  const exported = await defaultExport('GAP_REPAIR', path);
  if (typeof exported === 'function') return exported as GapSource;
  throw new ConfigError([`GAP_REPAIR ${path} has no function as its default export: export default async ({ entity, from, to }) => [...]`]);
}

/** Of a module of the operator's: a `file:` URL or a path, relative to the working directory. @throws ConfigError when it does not load. */
export async function defaultExport(variable: VariableName, path: string): Promise<unknown> {
  const url = path.startsWith('file:') ? path : pathToFileURL(resolve(path)).href;
  try {
    return ((await import(url)) as Readonly<Record<string, unknown>>).default;
  } catch (error) {
    // A module's own code may throw anything, and over many lines.
    throw new ConfigError([`${variable} ${path} does not load: ${messageOf(error).split('\n')[0]}`], { cause: error });
  }
}

function eventStoreSource(store: Pick<EventStore, 'read'>): GapSource {
  return async function* readMissing({ entity, from, to }) {
    for await (const { id, sequence, type, timestamp, dataJson, metadata } of store.read(entity, { from, to })) {
      yield { id, sequence, type, timestamp, dataJson, metadata };
    }
  };
}

/** The source's events in the order of their sequences, each once. @throws PermanentError when it returns others than asked for. */
export async function readMissing(source: GapSource, missing: MissingEvents, limits: EventLimits): Promise<readonly EncodedEvent[]> {
  const found = new Map<number, EncodedEvent>();
  for await (const event of await source(missing)) {
    const encoded = encodeEvent({ ...missing.entity, ...event }, { limits });
    const { entityType, entityId, sequence } = encoded.event;
    if (entityType !== missing.entity.entityType || entityId !== missing.entity.entityId) {
      throw new PermanentError('the source gave an event of another entity');
    }
    if (sequence === null || sequence < missing.from || sequence > missing.to) {
      throw new PermanentError(
        `the source was asked for ${missing.from} to ${missing.to} and gave ${sequence ?? 'an event without a sequence'}`,
      );
    }
    found.set(sequence, encoded);
  }
  return [...found].sort(([a], [b]) => a - b).map(([, event]) => event);
}

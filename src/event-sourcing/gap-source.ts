/**
 * Where missing events can be had: an event store, or a module of the operator's. It is asked for exactly what is missing,
 * and what it answers is checked as a message would be: an event that no worker would take is none.
 */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Config } from '../config/config.ts';
import { ConfigError, messageOf, PermanentError } from '../errors.ts';
import { type EncodedEvent, encodeEvent } from '../events/encode.ts';
import type { EntityRef, EventLimits } from '../events/event.ts';
import type { NewEvent } from '../events/new-event.ts';
import type { Log } from '../observability/log.ts';
import type { EventStore } from '../stores/event-store.ts';
import type { Time } from '../time.ts';
import { openEventStore } from './open-event-store.ts';

/** What is asked for. */
export interface MissingEvents {
  readonly entity: EntityRef;
  /** First missing sequence. */
  readonly from: number;
  /** Last of them. */
  readonly to: number;
  /** Aborted when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

/**
 * Gives the events of `entity` from `from` to `to`, as far as it has them; of those it lacks nothing. It is asked again later
 * for what it did not give, and when it throws. Entity type and id of what it gives may be left out.
 */
export type GapSource = (missing: MissingEvents) => AsyncIterable<NewEvent> | Iterable<NewEvent> | Promise<Iterable<NewEvent>>;

export interface OpenGapSource {
  readonly source: GapSource;
  close(): Promise<void>;
}

/** What GAP_REPAIR names; null where missing events are waited for. @throws ConfigError when there is no such thing. */
export async function openGapSource(config: Config, log: Log, time: Time): Promise<OpenGapSource | null> {
  const { source } = config.gapRepair;
  if (source === null) return null;
  if (source !== 'event-store') return { source: await loadGapSource(source), close: async () => undefined };
  const store = openEventStore(config, log, time);
  return { source: eventStoreSource(store), close: () => store.close() };
}

/** The default export of the module that GAP_REPAIR names. Throws `ConfigError` when there is none. */
async function loadGapSource(path: string): Promise<GapSource> {
  const url = path.startsWith('file:') ? path : pathToFileURL(resolve(path)).href;
  let exported: unknown;
  try {
    exported = ((await import(url)) as Readonly<Record<string, unknown>>).default;
  } catch (error) {
    throw new ConfigError([`GAP_REPAIR ${path} does not load: ${messageOf(error).split('\n')[0]}`], { cause: error });
  }
  if (typeof exported === 'function') return exported as GapSource;
  throw new ConfigError([`GAP_REPAIR ${path} has no function as its default export: export default async ({ entity, from, to }) => [...]`]);
}

function eventStoreSource(store: Pick<EventStore, 'read'>): GapSource {
  return async function* readMissing({ entity, from, to }) {
    for await (const { id, sequence, type, timestamp, dataJson, metadata } of store.read(entity, { from, to })) {
      yield { id, sequence, type, timestamp, dataJson, metadata };
    }
  };
}

/** What the source has of it, in the order of the sequences, each once. @throws PermanentError when it gives what was not asked for. */
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

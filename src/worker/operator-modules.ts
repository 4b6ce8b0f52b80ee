/**
 * Opens what PROCESSOR and GAP_REPAIR name: what is built in, or a module of the operator. A processor's default export is the
 * result of `defineAggregate` or `defineHandler`, or an array of these; a source's is a function. Loading runs the module's code.
 */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { historyAggregate, orderAggregate } from '../aggregates/built-in.ts';
import { createProcessors, type Processors } from '../aggregates/processors.ts';
import type { Config } from '../config/config.ts';
import type { VariableName } from '../config/variables.ts';
import { ConfigError, messageOf } from '../errors.ts';
import type { GapSource, EventStore } from '../stores/event-store.ts';
import type { Log } from '../observability/log.ts';
import { openEventStore } from '../stores/open-store.ts';
import type { Time } from '../time.ts';

export interface ProcessorChoice {
  /** `order`, `history`, or a module: a `file:` URL or a path, relative to the working directory. */
  readonly processor: string;
  /** The entity type of the orders of the built-in `order`. */
  readonly entityType: string;
}

/** Throws `ConfigError` when the module does not load or exports the wrong thing. */
export async function loadProcessors({ processor, entityType }: ProcessorChoice): Promise<Processors> {
  if (processor === 'order') return createProcessors([orderAggregate(entityType)]);
  if (processor === 'history') return createProcessors([historyAggregate()]);
  const exported = await defaultExport('PROCESSOR', processor);
  if (exported === undefined)
    throw new ConfigError([`PROCESSOR ${processor} has no default export: export default defineAggregate({ … }), or an array`]);
  try {
    return createProcessors(Array.isArray(exported) ? exported : [exported]);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(
      error.problems.map((problem) => `PROCESSOR ${processor}: ${problem}`),
      { cause: error },
    );
  }
}

export interface OpenGapSource {
  readonly source: GapSource;
  close(): Promise<void>;
}

/** Opens the source that GAP_REPAIR names; null for `off`. @throws ConfigError when there is none of that name. */
export async function openGapSource(config: Config, log: Log, time: Time): Promise<OpenGapSource | null> {
  const { source } = config.gapRepair;
  if (source === null) return null;
  if (source !== 'event-store') return { source: await loadGapSource(source), close: async () => undefined };
  const store = openEventStore(config, { role: 'gap-repair', log, time });
  return { source: eventStoreSource(store), close: () => store.close() };
}

/** The default export of the module that GAP_REPAIR names. Throws `ConfigError` when there is none. */
async function loadGapSource(path: string): Promise<GapSource> {
  const exported = await defaultExport('GAP_REPAIR', path);
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

/** Of a module of the operator's: a `file:` URL or a path, relative to the working directory. @throws ConfigError when it does not load. */
async function defaultExport(variable: VariableName, path: string): Promise<unknown> {
  const url = path.startsWith('file:') ? path : pathToFileURL(resolve(path)).href;
  try {
    return ((await import(url)) as Readonly<Record<string, unknown>>).default;
  } catch (error) {
    // A module's own code may throw anything, and over many lines.
    throw new ConfigError([`${variable} ${path} does not load: ${messageOf(error).split('\n')[0]}`], { cause: error });
  }
}

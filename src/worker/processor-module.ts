/**
 * Loads what PROCESSOR names: a built-in, or a module whose default export is the result of
 * `defineAggregate` or `defineHandler`, or an array of these. Loading runs the module's code.
 */
import { historyAggregate } from '../aggregates/history.ts';
import { orderAggregate } from '../aggregates/order.ts';
import { createProcessors, type Processors } from '../aggregates/processors.ts';
import { ConfigError } from '../errors.ts';
import { defaultExport } from '../event-sourcing/gap-source.ts';

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

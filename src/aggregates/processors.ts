/**
 * The processors of one worker, by entity type. At most one aggregate per type, any number of handlers; `'*'`
 * is for the types without a separate one, separately for aggregates and handlers.
 */
import { ConfigError } from '../errors.ts';
import { type AggregateOptions, defineAggregate, defineHandler, type HandlerOptions } from './define.ts';
import type { AnyAggregate, Handler, Processor } from './definition.ts';

/** What runs for one entity type: the aggregate's rules first, then the handlers in the order given. */
export interface ProcessorSet {
  readonly aggregate: AnyAggregate | null;
  readonly handlers: readonly Handler[];
}

export interface Processors {
  /** Whether there is any handler, whose results may have to be sent to `replyTo`. */
  readonly hasHandlers: boolean;
  /** Null when nothing is configured for the type: its events are dead-lettered as `no_processor`. */
  forType(entityType: string): ProcessorSet | null;
}

/**
 * `list` has results of `defineAggregate` and `defineHandler`, or their arguments. Throws
 * `ConfigError` with all problems.
 */
export function createProcessors(list: readonly unknown[]): Processors {
  const problems: string[] = [];
  const aggregates = new Map<string, AnyAggregate>();
  const handlers = new Map<string, Handler[]>();
  if (list.length === 0) problems.push('there is no processor: give at least one aggregate or handler');
  for (const [index, item] of list.entries()) {
    const processor = toProcessor(item, index, problems);
    if (processor?.kind === 'aggregate') addAggregate(aggregates, processor, problems);
    else if (processor?.kind === 'handler') addHandler(handlers, processor, problems);
  }
  if (problems.length > 0) throw new ConfigError(problems);

  const sets = new Map<string, ProcessorSet | null>();
  for (const type of [...aggregates.keys(), ...handlers.keys()]) sets.set(type, setFor(type, aggregates, handlers));
  const others = setFor('*', aggregates, handlers);
  return { hasHandlers: handlers.size > 0, forType: (entityType) => sets.get(entityType) ?? others };
}

function setFor(
  type: string,
  aggregates: ReadonlyMap<string, AnyAggregate>,
  handlers: ReadonlyMap<string, Handler[]>,
): ProcessorSet | null {
  const aggregate = aggregates.get(type) ?? aggregates.get('*') ?? null;
  const forType = handlers.get(type) ?? handlers.get('*') ?? [];
  return aggregate === null && forType.length === 0 ? null : { aggregate, handlers: forType };
}

function addAggregate(aggregates: Map<string, AnyAggregate>, aggregate: AnyAggregate, problems: string[]): void {
  if (aggregates.has(aggregate.type)) problems.push(`there are two aggregates for entities of type "${aggregate.type}"`);
  aggregates.set(aggregate.type, aggregate);
}

function addHandler(handlers: Map<string, Handler[]>, handler: Handler, problems: string[]): void {
  const forType = handlers.get(handler.type) ?? [];
  if (forType.some(({ handle }) => handle === handler.handle))
    problems.push(`the same handler is there twice for entities of type "${handler.type}"`);
  handlers.set(handler.type, [...forType, handler]);
}

function toProcessor(item: unknown, index: number, problems: string[]): Processor | null {
  if (typeof item === 'object' && item !== null) {
    if ('kind' in item && (item.kind === 'aggregate' || item.kind === 'handler')) return item as Processor;
    try {
      if ('evolve' in item) return defineAggregate(item as AggregateOptions<unknown, string, Record<string, never>>);
      if ('handle' in item) return defineHandler(item as HandlerOptions);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      problems.push(...error.problems);
      return null;
    }
  }
  problems.push(`number ${index + 1} is neither an aggregate (evolve) nor a handler (handle)`);
  return null;
}

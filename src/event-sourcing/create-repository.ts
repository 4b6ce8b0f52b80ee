/** Creates the repository for an aggregate, written with `defineAggregate` or as a class. */
import type { Aggregate } from '../aggregates/definition.ts';
import { ConfigError } from '../errors.ts';
import type { EventStore } from '../stores/event-store.ts';
import {
  type AggregateClass,
  type AggregateRoot,
  AggregateRootRepository,
  type ClassRepository,
  type ClassRepositoryOptions,
} from './aggregate-root.ts';
import { AggregateRepository, type Repository, type RepositoryOptions } from './repository.ts';

/** For an aggregate of `defineAggregate`. @throws ConfigError when an option is invalid. */
export function createRepository<State, Commands>(
  aggregate: Aggregate<State, Commands>,
  store: EventStore,
  options?: RepositoryOptions,
): Repository<State, Commands>;
/** For a class. @throws ConfigError when the class names no entity type, or an option is invalid. */
export function createRepository<A extends AggregateRoot>(
  aggregate: AggregateClass<A>,
  store: EventStore,
  options?: ClassRepositoryOptions,
): ClassRepository<A>;
export function createRepository(
  aggregate: Aggregate<unknown, unknown> | AggregateClass<AggregateRoot>,
  store: EventStore,
  options: RepositoryOptions = {},
): Repository<unknown, unknown> | ClassRepository<AggregateRoot> {
  for (const name of ['snapshotEvery', 'maxAttempts'] as const) {
    const value = options[name];
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= 1))
      throw new ConfigError([`createRepository: ${name} is ${String(value)}: it must be a whole number from 1 up`]);
  }
  if (typeof aggregate === 'function') return new AggregateRootRepository(aggregate, store, options);
  if (aggregate.type === '*') throw new ConfigError(['createRepository: the aggregate is for every entity type: name one']);
  return new AggregateRepository(aggregate, store, options);
}

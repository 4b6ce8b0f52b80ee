/** The event store of a program's choice, behind one interface. */
import { ConfigError } from '../errors.ts';
import type { AppendRules } from '../stores/append-rules.ts';
import type { EventStore } from '../stores/event-store.ts';
import { createMemoryEventStore } from '../stores/memory/event-store.ts';
import { createPostgresEventStore, type PostgresEventStoreOptions } from '../stores/postgres/postgres-event-store.ts';
import { createRedisEventStore, type RedisEventStoreOptions } from '../stores/redis/redis-event-store.ts';

/** One of them. PostgreSQL is the one to recommend; Redis is the light one; memory ends with the process. */
export type EventStoreOptions =
  | { readonly postgres: PostgresEventStoreOptions }
  | { readonly redis: RedisEventStoreOptions }
  | { readonly memory: true | AppendRules };

/**
 * Connects in the background; whether the store is there shows when it is asked.
 *
 * @throws ConfigError when none or several are named, or a URL is none.
 */
export function createEventStore(options: EventStoreOptions): EventStore {
  const named = Object.keys(options);
  if (named.length !== 1) throw new ConfigError(['createEventStore: name one of postgres, redis and memory']);
  if ('postgres' in options) return createPostgresEventStore(options.postgres);
  if ('redis' in options) return createRedisEventStore(options.redis);
  if ('memory' in options) return createMemoryEventStore(options.memory === true ? {} : options.memory);
  throw new ConfigError([`createEventStore: ${named[0]} is none of postgres, redis and memory`]);
}

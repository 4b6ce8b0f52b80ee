/** Opens the event store of a program, or the one that the configuration names, with the leases of its relay. */
import type { Config } from '../config/config.ts';
import { ConfigError } from '../errors.ts';
import type { Log } from '../observability/log.ts';
import type { EventStore } from '../stores/event-store.ts';
import { createPostgresEventStore, type PostgresEventStoreOptions } from '../stores/postgres/postgres-event-store.ts';
import { createPostgresRelayLeases } from '../stores/postgres/relay-leases.ts';
import { createRedisEventStore, type RedisEventStoreOptions } from '../stores/redis/redis-event-store.ts';
import { createRedisRelayLeases } from '../stores/redis/relay-leases.ts';
import type { RelayLeases } from '../stores/relay-lease.ts';
import type { Time } from '../time.ts';
import type { AppendRules } from '../stores/append-rules.ts';
import { createMemoryEventStore } from '../stores/memory/event-store.ts';

/**
 * Connects in the background; whether the store is available shows at the first call.
 * @throws ConfigError for a stream that counts from 0: the event store's sequences would differ.
 */
export function openEventStore({ store, eventStore, broker, limits }: Config, log: Log, time: Time): EventStore {
  if (limits.firstSequence === 0)
    throw new ConfigError(['FIRST_SEQUENCE is 0, and the event store counts from 1: set FIRST_SEQUENCE=1 for a stream that has one']);
  const { stream } = broker;
  if (eventStore.kind === 'postgres') return createPostgresEventStore({ url: store.databaseUrl, stream, limits, log, time });
  return createRedisEventStore({ url: store.redisUrl, stream, limits, durability: store.durability, log, time });
}

export function openRelayLeases({ store, eventStore, broker }: Config, log: Log, time: Time): RelayLeases {
  const { stream } = broker;
  if (eventStore.kind === 'postgres') return createPostgresRelayLeases({ url: store.databaseUrl, stream, log, time });
  return createRedisRelayLeases({ url: store.redisUrl, stream, time });
}

/** Name one. PostgreSQL is recommended; Redis is for light use; memory ends with the process. */
export type EventStoreOptions =
  | { readonly postgres: PostgresEventStoreOptions }
  | { readonly redis: RedisEventStoreOptions }
  | { readonly memory: true | AppendRules };

/**
 * Connects in the background; whether the store is available shows at the first call.
 *
 * @throws ConfigError when none or several are named, or a URL is invalid.
 */
export function createEventStore(options: EventStoreOptions): EventStore {
  const named = Object.keys(options);
  if (named.length !== 1) throw new ConfigError(['createEventStore: name one of postgres, redis and memory']);
  if ('postgres' in options) return createPostgresEventStore(options.postgres);
  if ('redis' in options) return createRedisEventStore(options.redis);
  if ('memory' in options) return createMemoryEventStore(options.memory === true ? {} : options.memory);
  throw new ConfigError([`createEventStore: ${named[0]} is none of postgres, redis and memory`]);
}

/**
 * Opens the stores that the configuration names (of entities, and of events with its relay's leases), and a program's event store.
 * The switches have no default: where a kind is added to `src/config/config.ts`, the compiler asks for it here.
 */
import type { Config } from '../config/config.ts';
import type { Log } from '../observability/log.ts';
import { initialVersionOf } from '../ordering/limits.ts';
import type { Time } from '../time.ts';
import { createPostgresStore } from './postgres/postgres-store.ts';
import { createRedisStore } from './redis/redis-store.ts';
import type { Store } from './store.ts';
import { ConfigError } from '../errors.ts';
import type { EventStore } from './event-store.ts';
import { createPostgresEventStore, type PostgresEventStoreOptions, createPostgresRelayLeases } from './postgres/postgres-event-store.ts';
import { createRedisEventStore, type RedisEventStoreOptions, createRedisRelayLeases } from './redis/redis-event-store.ts';
import type { RelayLeases } from './relay-lease.ts';
import type { AppendRules } from './append-rules.ts';
import { createMemoryEventStore } from './memory/event-store.ts';

export interface OpenStoreOptions {
  readonly log: Log;
  /** Called when the connection is back: the store may have lost data. Only for a store with one connection. */
  readonly onReconnect?: () => void;
  readonly time: Time;
}

/** Connects in the background; whether the store is available shows at the first call. */
export function openStore({ store, broker, ordering }: Config, { log, onReconnect, time }: OpenStoreOptions): Store {
  const { idempotencyTtlSeconds, durability } = store;
  const initialVersion = initialVersionOf(ordering.firstSequence);
  const options = { stream: broker.stream, idempotencyTtlSeconds, initialVersion, log, time };
  switch (store.kind) {
    case 'postgres':
      return createPostgresStore({ ...options, url: store.databaseUrl });
    case 'redis':
      return createRedisStore({ ...options, url: store.redisUrl, tls: store.redisTls, durability, onReconnect });
  }
}

/**
 * Connects in the background; whether the store is available shows at the first call.
 * @throws ConfigError for a stream that counts from 0: the event store's sequences would differ.
 */
export function openEventStore({ store, eventStore, broker, limits }: Config, log: Log, time: Time): EventStore {
  if (limits.firstSequence === 0)
    throw new ConfigError(['FIRST_SEQUENCE is 0, and the event store counts from 1: set FIRST_SEQUENCE=1 for a stream that has one']);
  const { stream } = broker;
  switch (eventStore.kind) {
    case 'postgres':
      return createPostgresEventStore({ url: store.databaseUrl, stream, limits, log, time });
    case 'redis':
      return createRedisEventStore({ url: store.redisUrl, tls: store.redisTls, stream, limits, durability: store.durability, log, time });
  }
}

export function openRelayLeases({ store, eventStore, broker }: Config, log: Log, time: Time): RelayLeases {
  const { stream } = broker;
  switch (eventStore.kind) {
    case 'postgres':
      return createPostgresRelayLeases({ url: store.databaseUrl, stream, log, time });
    case 'redis':
      return createRedisRelayLeases({ url: store.redisUrl, tls: store.redisTls, stream, time });
  }
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

/**
 * Opens the stores that the configuration names (of entities, and of events with its relay's leases), and a program's event store.
 * The switches have no default: where a kind is added to `src/config/config.ts`, the compiler asks for it here.
 */
import { type Config, connectionName } from '../config/config.ts';
import type { Log } from '../observability/log.ts';
import { initialVersionOf } from '../ordering/facts.ts';
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
  /** What its connections are for: a part of the name that the store shows. */
  readonly role: string;
  readonly log: Log;
  /** Called when the connection is back: the store may have lost data. Only for a store with one connection. */
  readonly onReconnect?: () => void;
  readonly time: Time;
}

/** Connects in the background; whether the store is available shows at the first call. */
export function openStore(config: Config, { role, log, onReconnect, time }: OpenStoreOptions): Store {
  const { store, broker, ordering } = config;
  const { idempotencyTtlSeconds, durability } = store;
  const initialVersion = initialVersionOf(ordering.firstSequence);
  const options = { stream: broker.stream, name: connectionName(role, config), idempotencyTtlSeconds, initialVersion, log, time };
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
export function openEventStore(config: Config, { role, log, time }: Omit<OpenStoreOptions, 'onReconnect'>): EventStore {
  const { store, eventStore, broker, limits } = config;
  if (limits.firstSequence === 0)
    throw new ConfigError(['FIRST_SEQUENCE is 0, and the event store counts from 1: set FIRST_SEQUENCE=1 for a stream that has one']);
  const options = { stream: broker.stream, name: connectionName(role, config), limits, log, time };
  switch (eventStore.kind) {
    case 'postgres':
      return createPostgresEventStore({ ...options, url: store.databaseUrl });
    case 'redis':
      return createRedisEventStore({ ...options, url: store.redisUrl, tls: store.redisTls, durability: store.durability });
  }
}

export function openRelayLeases(config: Config, { role, log, time }: Omit<OpenStoreOptions, 'onReconnect'>): RelayLeases {
  const { store, eventStore, broker } = config;
  const options = { stream: broker.stream, name: connectionName(role, config), log, time };
  switch (eventStore.kind) {
    case 'postgres':
      return createPostgresRelayLeases({ ...options, url: store.databaseUrl });
    case 'redis':
      return createRedisRelayLeases({ ...options, url: store.redisUrl, tls: store.redisTls });
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

/** The store that the configuration names, whoever needs it. */
import type { Config } from '../config/config.ts';
import type { Log } from '../observability/log.ts';
import { createPostgresStore } from './postgres/postgres-store.ts';
import { createRedisStore } from './redis/redis-store.ts';
import type { Store } from './store.ts';

export interface OpenStoreOptions {
  readonly log: Log;
  /** It was away and is back; what it holds by then may be less. Only where the store has one connection. */
  readonly onReconnect?: () => void;
}

/** Connects in the background; whether the store is there shows when it is asked. */
export function openStore({ store, broker }: Config, { log, onReconnect }: OpenStoreOptions): Store {
  const { idempotencyTtlSeconds, durability } = store;
  const { stream } = broker;
  if (store.kind === 'postgres') return createPostgresStore({ url: store.databaseUrl, stream, idempotencyTtlSeconds, log });
  return createRedisStore({ url: store.redisUrl, stream, idempotencyTtlSeconds, durability, log, onReconnect });
}

/** Opens the store that the configuration names. */
import type { Config } from '../config/config.ts';
import type { Log } from '../observability/log.ts';
import { initialVersionOf } from '../ordering/limits.ts';
import type { Time } from '../time.ts';
import { createPostgresStore } from './postgres/postgres-store.ts';
import { createRedisStore } from './redis/redis-store.ts';
import type { Store } from './store.ts';

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
  if (store.kind === 'postgres') return createPostgresStore({ ...options, url: store.databaseUrl });
  return createRedisStore({ ...options, url: store.redisUrl, durability, onReconnect });
}

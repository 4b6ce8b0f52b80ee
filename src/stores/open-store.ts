/** The store that the configuration names, whoever needs it. */
import type { Config } from '../config/config.ts';
import type { Log } from '../observability/log.ts';
import { initialVersionOf } from '../ordering/limits.ts';
import type { Time } from '../time.ts';
import { createPostgresStore } from './postgres/postgres-store.ts';
import { createRedisStore } from './redis/redis-store.ts';
import type { Store } from './store.ts';

export interface OpenStoreOptions {
  readonly log: Log;
  /** It was unavailable and is back; what it holds by then may be less. Only where the store has one connection. */
  readonly onReconnect?: () => void;
  readonly time: Time;
}

/** Connects in the background; whether the store is there shows when it is asked. */
export function openStore({ store, broker, ordering }: Config, { log, onReconnect, time }: OpenStoreOptions): Store {
  const { idempotencyTtlSeconds, durability } = store;
  const initialVersion = initialVersionOf(ordering.firstSequence);
  const options = { stream: broker.stream, idempotencyTtlSeconds, initialVersion, log, time };
  if (store.kind === 'postgres') return createPostgresStore({ ...options, url: store.databaseUrl });
  return createRedisStore({ ...options, url: store.redisUrl, durability, onReconnect });
}

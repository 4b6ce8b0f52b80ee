/** The event store that the configuration names, and the leases of its relay. */
import type { Config } from '../config/config.ts';
import { ConfigError } from '../errors.ts';
import type { Log } from '../observability/log.ts';
import type { EventStore } from '../stores/event-store.ts';
import { createPostgresEventStore } from '../stores/postgres/postgres-event-store.ts';
import { createPostgresRelayLeases } from '../stores/postgres/relay-leases.ts';
import { createRedisEventStore } from '../stores/redis/redis-event-store.ts';
import { createRedisRelayLeases } from '../stores/redis/relay-leases.ts';
import type { RelayLeases } from '../stores/relay-lease.ts';
import type { Time } from '../time.ts';

/**
 * Connects in the background; whether the store is there shows when it is asked.
 * @throws ConfigError for a stream that counts from 0: what is taken from the store would be of other sequences.
 */
export function openEventStore({ store, eventStore, broker, limits }: Config, log: Log, time: Time): EventStore {
  if (limits.firstSequence === 0) throw new ConfigError(['FIRST_SEQUENCE is 0, and the event store counts from 1: set FIRST_SEQUENCE=1 for a stream that has one']);
  const { stream } = broker;
  if (eventStore.kind === 'postgres') return createPostgresEventStore({ url: store.databaseUrl, stream, limits, log, time });
  return createRedisEventStore({ url: store.redisUrl, stream, limits, durability: store.durability, log, time });
}

export function openRelayLeases({ store, eventStore, broker }: Config, log: Log, time: Time): RelayLeases {
  const { stream } = broker;
  if (eventStore.kind === 'postgres') return createPostgresRelayLeases({ url: store.databaseUrl, stream, log, time });
  return createRedisRelayLeases({ url: store.redisUrl, stream, time });
}

/** Lends a command the store, the event store or the dead letters of the configuration, closed after it in every case. */
import type { Config } from '../config/config.ts';
import { createLog } from '../observability/log.ts';
import { openStore } from '../stores/open-store.ts';
import type { Store } from '../stores/store.ts';
import type { CommandIo } from './command.ts';
import type { VariableName } from '../config/variables.ts';
import { openEventStore } from '../event-sourcing/open-event-store.ts';
import type { EventStore } from '../stores/event-store.ts';
import { DeadLetters, letterSettings } from '../dead-letters/dead-letters.ts';
import { KeptBroker, onConnection } from '../dead-letters/letter-broker.ts';
import { withBroker } from './broker-access.ts';

/** @throws UnavailableError when the store does not answer. */
export async function withStore<T>(config: Config, io: CommandIo, use: (store: Store) => Promise<T>): Promise<T> {
  const store = openStore(config, { log: commandLog(config, io), time: io.time });
  try {
    await store.ping();
    return await use(store);
  } finally {
    await store.close();
  }
}

/**
 * The log of a command that ends by itself. What fails is told once, by the command's error; the log of its
 * connections only matters to whoever asked for `debug`. It goes to standard error, away from the data.
 */
export function commandLog(config: Config, io: CommandIo) {
  const level = config.logLevel === 'debug' ? 'debug' : 'error';
  return createLog({ level, service: config.serviceName, writeLine: (line) => void io.stderr.write(line), time: io.time });
}

export const eventStoreVariables = [
  'EVENT_STORE',
  'DATABASE_URL',
  'REDIS_URL',
  'STREAM',
  'FIRST_SEQUENCE',
] as const satisfies readonly VariableName[];

export async function withEventStore<T>(config: Config, io: CommandIo, use: (events: EventStore) => Promise<T>): Promise<T> {
  const events = openEventStore(config, commandLog(config, io), io.time);
  try {
    return await use(events);
  } finally {
    await events.close();
  }
}

export const letterVariables = [
  'AMQP_URL',
  'STATE_STORE',
  'REDIS_URL',
  'DATABASE_URL',
  'STREAM',
  'FIRST_SEQUENCE',
  'ENTITY_TYPE',
] as const satisfies readonly VariableName[];

/** @throws UnavailableError when broker or store do not answer, or the connection to the broker is lost meanwhile. */
export function withLetters<T>(config: Config, io: CommandIo, use: (letters: DeadLetters) => Promise<T>): Promise<T> {
  const { urls, stream } = config.broker;
  const names = { reading: 'inorder', publishing: 'inorder replay' };
  const kept = new KeptBroker({ urls, stream, names, log: commandLog(config, io), time: io.time });
  return withBroker(config, io, (connection) =>
    withStore(config, io, (store) => {
      const broker = onConnection(connection, kept);
      return use(new DeadLetters({ ...letterSettings(config), store, broker, time: io.time }));
    }),
  );
}

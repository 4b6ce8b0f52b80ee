/** Lends a command the event store of the configuration, closed after it in every case. */
import type { Config } from '../config/config.ts';
import type { VariableName } from '../config/variables.ts';
import { openEventStore } from '../event-sourcing/open-event-store.ts';
import type { EventStore } from '../stores/event-store.ts';
import type { CommandIo } from './command.ts';
import { commandLog } from './store-access.ts';

export const eventStoreVariables = ['EVENT_STORE', 'DATABASE_URL', 'REDIS_URL', 'STREAM', 'FIRST_SEQUENCE'] as const satisfies readonly VariableName[];

export async function withEventStore<T>(config: Config, io: CommandIo, use: (events: EventStore) => Promise<T>): Promise<T> {
  const events = openEventStore(config, commandLog(config, io), io.time);
  try {
    return await use(events);
  } finally {
    await events.close();
  }
}

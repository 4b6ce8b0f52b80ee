/** Lends a command the store of the configuration: connected before it is used, closed after it in every case. */
import type { Config } from '../config/config.ts';
import { createLog } from '../observability/log.ts';
import { openStore } from '../stores/open-store.ts';
import type { Store } from '../stores/store.ts';
import type { CommandIo } from './command.ts';

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

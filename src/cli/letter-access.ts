/** Lends a command the dead letters of the configuration's stream, on one connection to the broker and one to the store. */
import type { Config } from '../config/config.ts';
import type { VariableName } from '../config/variables.ts';
import { DeadLetters, letterSettings } from '../dead-letters/dead-letters.ts';
import { KeptBroker, onConnection } from '../dead-letters/letter-broker.ts';
import { withBroker } from './broker-access.ts';
import type { CommandIo } from './command.ts';
import { commandLog, withStore } from './store-access.ts';

export const letterVariables = [
  'AMQP_URL', 'STATE_STORE', 'REDIS_URL', 'DATABASE_URL', 'STREAM', 'FIRST_SEQUENCE', 'ENTITY_TYPE',
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

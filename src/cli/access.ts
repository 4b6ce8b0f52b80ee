/**
 * Lends commands the configured store, event store, broker or dead letters, and always closes them afterwards; and makes their
 * logs. The broker is the first node that answers, in one attempt: a command reports that it is unavailable, and only a
 * worker waits for it.
 */
import { type Config, connectionName } from '../config/config.ts';
import { createLog, type Log } from '../observability/log.ts';
import { openStore, openEventStore } from '../stores/open-store.ts';
import type { Store } from '../stores/store.ts';
import type { CommandIo } from './command.ts';
import type { EventStore } from '../stores/event-store.ts';
import { DeadLetters, letterSettings } from '../dead-letters/dead-letters.ts';
import { KeptBroker, onConnection } from '../dead-letters/letter-broker.ts';
import { connect, type ChannelModel } from 'amqplib';
import { UnavailableError } from '../errors.ts';
import { socketOptions } from '../rabbitmq/connection.ts';
import { describeConnectFailure } from '../rabbitmq/refusal.ts';
import { closeConnection } from '../rabbitmq/channels.ts';

/** Of the connections of commands. */
const role = 'operator';

/** @throws UnavailableError when the store does not answer. */
export async function withStore<T>(config: Config, io: CommandIo, use: (store: Store) => Promise<T>): Promise<T> {
  const store = openStore(config, { role, log: commandLog(config, io), time: io.time });
  try {
    await store.ping();
    return await use(store);
  } finally {
    await store.close();
  }
}

/**
 * The log of a command that ends by itself. A failure is reported once, by the command's error; the log of its
 * connections is printed only with `debug`. It goes to standard error, apart from the data.
 */
export function commandLog(config: Config, io: CommandIo) {
  const level = config.logLevel === 'debug' ? 'debug' : 'error';
  return createLog({ level, service: config.serviceName, writeLine: (line) => void io.stderr.write(line), time: io.time });
}

export async function withEventStore<T>(config: Config, io: CommandIo, use: (events: EventStore) => Promise<T>): Promise<T> {
  const events = openEventStore(config, { role, log: commandLog(config, io), time: io.time });
  try {
    return await use(events);
  } finally {
    await events.close();
  }
}

/** @throws UnavailableError when broker or store do not answer, or the connection to the broker is lost meanwhile. */
export function withLetters<T>(config: Config, io: CommandIo, use: (letters: DeadLetters) => Promise<T>): Promise<T> {
  const names = { reading: connectionName(role, config), publishing: connectionName('replay', config) };
  const kept = new KeptBroker({ ...config.broker, names, log: commandLog(config, io), time: io.time });
  return withBroker(config, io, (connection) =>
    withStore(config, io, (store) => {
      const broker = onConnection(connection, kept);
      return use(new DeadLetters({ ...letterSettings(config), store, broker, time: io.time }));
    }),
  );
}

const connectTimeoutMs = 5_000;

type Use<T> = (connection: ChannelModel) => Promise<T>;

/** @throws UnavailableError when no node can be reached, or the connection is lost meanwhile. */
export async function withBroker<T>(config: Config, { time }: Pick<CommandIo, 'time'>, use: Use<T>): Promise<T> {
  const connection = await connectToAny(config);
  const lost = new Promise<never>((_, reject) => {
    connection.once('close', (cause?: Error) => {
      reject(new UnavailableError('the connection to the broker was lost', { cause }));
    });
  });
  lost.catch(() => undefined);
  // Every `error` is followed by `close`; without a listener the process would end.
  connection.on('error', () => undefined);
  try {
    return await Promise.race([use(connection), lost]);
  } finally {
    await closeConnection(connection, time);
  }
}

async function connectToAny(config: Config): Promise<ChannelModel> {
  const troubles: string[] = [];
  const clientProperties = { connection_name: connectionName(role, config) };
  let cause: unknown;
  for (const url of config.broker.urls) {
    try {
      return await connect(url, { ...socketOptions(config.broker, { warn: () => {} }), timeout: connectTimeoutMs, clientProperties });
    } catch (error) {
      cause = error;
      troubles.push(describeConnectFailure(error, url));
    }
  }
  throw new UnavailableError(troubles.join('; '), { cause });
}

/** The log of a command that runs until it is stopped: SIGUSR2 switches between `debug` and LOG_LEVEL. */
export function processLog({ logLevel, serviceName }: Pick<Config, 'logLevel' | 'serviceName'>, io: CommandIo): Log {
  const log = createLog({ level: logLevel, service: serviceName, writeLine: io.logLine, time: io.time });
  io.onLevelSignal(() => {
    const level = log.level === 'debug' ? logLevel : 'debug';
    // Logged at the more verbose of the two levels.
    log.level = 'debug';
    log.info({ log_level: level }, 'the log level is changed');
    log.level = level;
  });
  return log;
}

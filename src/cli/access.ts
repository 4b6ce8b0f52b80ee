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
import { KeptBroker, onConnection, unlessLost, type UseConnection } from '../dead-letters/letter-broker.ts';
import { connect, type ChannelModel } from 'amqplib';
import { UnavailableError } from '../errors.ts';
import { socketOptions } from '../rabbitmq/connection.ts';
import { notConnected } from '../rabbitmq/refusal.ts';
import { closeConnection } from '../rabbitmq/channels.ts';
import { StreamRecordKeeper } from '../rabbitmq/stream-record.ts';

/** Of the connections of commands. */
const role = 'operator';

/** @throws UnavailableError when the store does not answer; ConfigError when a newer version of Inorder has laid it out. */
export async function withStore<T>(config: Config, io: CommandIo, use: (store: Store) => Promise<T>): Promise<T> {
  const store = openStore(config, { role, log: commandLog(config, io), time: io.time });
  try {
    await store.ping();
    // Refuses a newer layout.
    await store.streamState();
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
  return withBroker(config, io, (connection, lost) =>
    withStore(config, io, (store) => {
      const broker = onConnection(connection, lost, kept);
      return use(new DeadLetters({ ...letterSettings(config), store, broker, time: io.time }));
    }),
  );
}

const connectTimeoutMs = 5_000;

/** @throws UnavailableError when no node can be reached, or the connection is lost meanwhile. */
export async function withBroker<T>(config: Config, { time }: Pick<CommandIo, 'time'>, use: UseConnection<T>): Promise<T> {
  const connection = await connectToAny(config);
  const loss = new AbortController();
  connection.once('close', (cause?: Error) => loss.abort(new UnavailableError('the connection to the broker was lost', { cause })));
  // Every `error` is followed by `close`; without a listener the process would end.
  connection.on('error', () => undefined);
  try {
    return await unlessLost(loss.signal, () => use(connection, loss.signal));
  } finally {
    await closeConnection(connection, time);
  }
}

async function connectToAny(config: Config): Promise<ChannelModel> {
  const failures: (readonly [error: unknown, url: string])[] = [];
  const clientProperties = { connection_name: connectionName(role, config) };
  for (const url of config.broker.urls) {
    try {
      return await connect(url, { ...socketOptions(config.broker, { warn: () => {} }), timeout: connectTimeoutMs, clientProperties });
    } catch (error) {
      failures.push([error, url]);
    }
  }
  throw notConnected(failures);
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

/** How long the broker may take to show or change its record of the store. */
const recordPatienceMs = 5_000;

/** The record of the stream's store at the broker. */
export function recordOf(connection: ChannelModel, stream: string, { time }: CommandIo): StreamRecordKeeper {
  return new StreamRecordKeeper({ source: { ready: async () => connection, time }, stream, patienceMs: recordPatienceMs });
}

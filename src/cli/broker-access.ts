/**
 * Lends a command one connection to the broker: the first node that answers, for one try. A command is there
 * to say that the broker is unavailable; waiting for it to come back is a worker's business.
 */
import { connect, type ChannelModel } from 'amqplib';
import type { Config } from '../config/config.ts';
import { UnavailableError } from '../errors.ts';
import { describeConnectFailure } from '../rabbitmq/refusal.ts';
import { closeConnection } from '../rabbitmq/time-limit.ts';
import type { CommandIo } from './command.ts';

const timeoutMs = 5_000;

type Use<T> = (connection: ChannelModel) => Promise<T>;

/** @throws UnavailableError when no node can be reached, or the connection is lost meanwhile. */
export async function withBroker<T>(config: Config, { time }: Pick<CommandIo, 'time'>, use: Use<T>): Promise<T> {
  const connection = await connectToAny(config.broker.urls);
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

async function connectToAny(urls: readonly string[]): Promise<ChannelModel> {
  const troubles: string[] = [];
  let cause: unknown;
  for (const url of urls) {
    try {
      return await connect(url, { timeout: timeoutMs, noDelay: true });
    } catch (error) {
      cause = error;
      troubles.push(describeConnectFailure(error, url));
    }
  }
  throw new UnavailableError(troubles.join('; '), { cause });
}

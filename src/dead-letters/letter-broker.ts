/**
 * The broker connections for dead letters: one for reading, a publisher on a separate connection for each replay (a broker that
 * is short of memory stops reading from a connection that publishes), and the lock.
 *
 * The lock guarantees one change of a stream's dead letters at a time, across all processes: it is an exclusive queue, which exists
 * exactly as long as its connection. Two concurrent changes would each see only some letters of an entity. Changes that share
 * a connection within a process take turns.
 */
import type { Channel, ChannelModel } from 'amqplib';
import { UnavailableError } from '../errors.ts';
import type { Log } from '../observability/log.ts';
import { type BrokerAddress, type BrokerConnection, type ConnectionOptions, createConnection } from '../rabbitmq/connection.ts';
import { type AmqpPublisher, createAmqpPublisher } from '../rabbitmq/publisher.ts';
import { refused, replyCodeOf, replyCodes } from '../rabbitmq/refusal.ts';
import { closeChannel, openChannel } from '../rabbitmq/channels.ts';
import { sleep, type Time } from '../time.ts';
import type { Connection } from './queue-reading.ts';

export interface LentConnection {
  readonly connection: ChannelModel;
  /** Aborted, with an `UnavailableError`, when the connection is lost: calls on it may then never be answered. */
  readonly lost: AbortSignal;
  /** Gives the connection back. */
  release(): void;
}

export interface LetterBroker {
  /** Rejects with `UnavailableError` when there is no connection. */
  lend(): Promise<LentConnection>;
  /** Lends a publisher to the stream's exchange, and always closes it: outstanding publishes then get `closeTimeoutMs`. */
  withPublisher<T>(use: (publisher: AmqpPublisher) => Promise<T>, closeTimeoutMs?: number): Promise<T>;
  /** Closes the connections, and abandons outstanding publishes. */
  close(): Promise<void>;
}

export type UseConnection<T> = (connection: ChannelModel, lost: AbortSignal) => Promise<T>;

/**
 * `use` is given what ends it when the connection is lost, for nobody waits for it any more.
 * @throws UnavailableError when there is no connection, or it is lost meanwhile.
 */
export async function withConnection<T>(broker: LetterBroker, use: UseConnection<T>): Promise<T> {
  const { connection, lost, release } = await broker.lend();
  try {
    return await unlessLost(lost, () => use(connection, lost));
  } finally {
    release();
  }
}

/** As `ask` does, but rejects at once when the connection is lost. */
export function unlessLost<T>(lost: AbortSignal, ask: () => Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(lost.reason);
    if (lost.aborted) return giveUp();
    // Taken away again: it would keep what was asked for in memory until the connection ends.
    lost.addEventListener('abort', giveUp);
    const end = () => lost.removeEventListener('abort', giveUp);
    ask().finally(end).then(resolve, reject);
  });
}

/** The same on a given connection for all reading; `lost` comes from its owner. */
export function onConnection(connection: ChannelModel, lost: AbortSignal, broker: Omit<LetterBroker, 'lend'>): LetterBroker {
  return {
    lend: async () => ({ connection, lost, release: () => undefined }),
    withPublisher: (use, closeTimeoutMs) => broker.withPublisher(use, closeTimeoutMs),
    close: () => broker.close(),
  };
}

export interface BrokerOptions extends BrokerAddress {
  readonly stream: string;
  /** The names that the broker shows for the reading and the publishing connections. */
  readonly names: { readonly reading: string; readonly publishing: string };
  readonly log: Log;
  readonly time: Time;
  /** Default: `createConnection`. */
  readonly connect?: Connect | undefined;
}

/** Opens a connection that is kept. */
export type Connect = (
  options: ConnectionOptions,
) => Pick<BrokerConnection, 'current' | 'ending' | 'blocked' | 'time' | 'listen' | 'ready' | 'close'>;

/** Opens a connection on first use and keeps it. A loss is an error for the calls that wait; it comes back by itself. */
export class KeptBroker implements LetterBroker {
  readonly #options: BrokerOptions;
  readonly #connect: Connect;
  readonly #publishing = new Set<() => Promise<void>>();
  #reading: ReturnType<Connect> | null = null;

  constructor(options: BrokerOptions) {
    this.#options = options;
    this.#connect = options.connect ?? createConnection;
  }

  async lend(): Promise<LentConnection> {
    this.#reading ??= this.#connect({ ...this.#options, name: this.#options.names.reading });
    const reading = this.#reading;
    const connection = await reading.ready();
    const loss = new AbortController();
    const release = reading.listen({
      up: () => undefined,
      lost: (cause) => loss.abort(new UnavailableError('the connection to the broker was lost', { cause })),
    });
    return { connection, lost: loss.signal, release };
  }

  async withPublisher<T>(use: (publisher: AmqpPublisher) => Promise<T>, closeTimeoutMs?: number): Promise<T> {
    const { names, stream, log } = this.#options;
    const connection = this.#connect({ ...this.#options, name: names.publishing });
    const publisher = createAmqpPublisher({ connection, exchange: stream, log });
    const end = async (timeoutMs?: number) => {
      await publisher.close(timeoutMs);
      await connection.close();
    };
    const giveUp = () => end(0);
    this.#publishing.add(giveUp);
    try {
      return await use(publisher);
    } finally {
      await end(closeTimeoutMs);
      this.#publishing.delete(giveUp);
    }
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#publishing].map((giveUp) => giveUp()));
    await this.#reading?.close();
  }
}

function operatorLockName(stream: string): string {
  return `${stream}.operator`;
}

/** How long an operator waits for the lock: long enough for a reading to end, not for every replay. */
export const operatorPatienceMs = 5_000;
const pollMs = 200;

export interface LockOptions {
  readonly patienceMs: number;
  readonly time: Time;
}

/** @throws UnavailableError when somebody else still holds the lock after `patienceMs`. */
export async function withOperatorLock<T>(
  connection: Connection,
  stream: string,
  { patienceMs, time }: LockOptions,
  use: () => Promise<T>,
): Promise<T> {
  const channel = await takeLock(connection, stream, { patienceMs, time });
  try {
    return await use();
  } finally {
    await channel.deleteQueue(operatorLockName(stream)).catch(() => undefined);
    await closeChannel(channel, time);
  }
}

async function takeLock(connection: Connection, stream: string, { patienceMs, time }: LockOptions): Promise<Channel> {
  for (const giveUpAtMs = time.nowMs() + patienceMs; ; ) {
    const channel = await openChannel(connection);
    try {
      await channel.assertQueue(operatorLockName(stream), { exclusive: true, durable: false, autoDelete: true });
      return channel;
    } catch (cause) {
      // A refusal closes the channel.
      if (replyCodeOf(cause) !== replyCodes.resourceLocked) {
        throw refused(`the dead letters of ${stream} cannot be locked against other changes`, cause);
      }
      if (time.nowMs() >= giveUpAtMs) {
        const why = `somebody else is changing the dead letters of ${stream} right now: try again when they are done`;
        throw new UnavailableError(why, { cause });
      }
    }
    await sleep(time, pollMs);
  }
}

/** Starts each piece of work when the previous one has settled. */
export class OneAtATime {
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  /** Whether any work is running or waiting. */
  get busy(): boolean {
    return this.#waiting > 0;
  }

  run<T>(work: () => Promise<T>): Promise<T> {
    this.#waiting++;
    const result = this.#last.then(work).finally(() => void this.#waiting--);
    this.#last = result.catch(() => undefined);
    return result;
  }
}

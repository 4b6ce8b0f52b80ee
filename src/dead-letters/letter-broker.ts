/**
 * The ways to the broker that dead letters need: a connection to read with, a publisher on a connection of its own for each replay
 * (a broker that is short of memory stops reading from who publishes), and the lock.
 *
 * The lock guarantees one change of a stream's dead letters at a time, whoever makes it: an exclusive queue that the broker keeps
 * for as long as the connection lives, and no longer. Two that took letters at once would each see half of an entity. It is the
 * connection's, so within a process turns keep those apart that share one.
 */
import type { Channel, ChannelModel } from 'amqplib';
import { UnavailableError } from '../errors.ts';
import type { Log } from '../observability/log.ts';
import { type BrokerConnection, createConnection } from '../rabbitmq/connection.ts';
import { type AmqpPublisher, createAmqpPublisher } from '../rabbitmq/publisher.ts';
import { replyCodeOf, replyCodes } from '../rabbitmq/refusal.ts';
import { closeChannel } from '../rabbitmq/time-limit.ts';
import { sleep, type Time } from '../time.ts';
import type { Connection } from './queue-reading.ts';

export interface LentConnection {
  readonly connection: ChannelModel;
  /** Rejects with `UnavailableError` when the connection is lost: calls on it may then never be answered. */
  readonly lost: Promise<never>;
  /** It is used no more. */
  release(): void;
}

export interface LetterBroker {
  /** Rejects with `UnavailableError` when there is no connection. */
  lend(): Promise<LentConnection>;
  /** Lends a publisher to the stream's exchange, and closes it in every case: what is outstanding then has `closeTimeoutMs`. */
  withPublisher<T>(use: (publisher: AmqpPublisher) => Promise<T>, closeTimeoutMs?: number): Promise<T>;
  /** Ends what is open, and gives up what is outstanding. */
  close(): Promise<void>;
}

/** @throws UnavailableError when there is no connection, or it is lost meanwhile. */
export async function withConnection<T>(broker: LetterBroker, use: (connection: ChannelModel) => Promise<T>): Promise<T> {
  const { connection, lost, release } = await broker.lend();
  try {
    return await Promise.race([use(connection), lost]);
  } finally {
    release();
  }
}

/** The same with one connection for everything that is read; whoever lends it says when it is lost. */
export function onConnection(connection: ChannelModel, broker: Omit<LetterBroker, 'lend'>): LetterBroker {
  const never = new Promise<never>(() => undefined);
  return {
    lend: async () => ({ connection, lost: never, release: () => undefined }),
    withPublisher: (use, closeTimeoutMs) => broker.withPublisher(use, closeTimeoutMs),
    close: () => broker.close(),
  };
}

export interface BrokerOptions {
  /** Nodes of one cluster, tried in turn. */
  readonly urls: readonly string[];
  readonly stream: string;
  /** What the broker calls the connection for reading, and those for publishing. */
  readonly names: { readonly reading: string; readonly publishing: string };
  readonly log: Log;
  readonly time: Time;
}

/** Opens a connection when it is needed first and keeps it: what is lost is an error to whoever waits for it, and comes back by itself. */
export class KeptBroker implements LetterBroker {
  readonly #options: BrokerOptions;
  readonly #publishing = new Set<() => Promise<void>>();
  #reading: BrokerConnection | null = null;

  constructor(options: BrokerOptions) {
    this.#options = options;
  }

  async lend(): Promise<LentConnection> {
    const { urls, names, log, time } = this.#options;
    this.#reading ??= createConnection({ urls, name: names.reading, log, time });
    const reading = this.#reading;
    const connection = await reading.ready();
    let release: () => void = () => undefined;
    const lost = new Promise<never>((_, reject) => {
      release = reading.listen({
        up: () => undefined,
        lost: (cause) => reject(new UnavailableError('the connection to the broker was lost', { cause })),
      });
    });
    lost.catch(() => undefined);
    return { connection, lost, release };
  }

  async withPublisher<T>(use: (publisher: AmqpPublisher) => Promise<T>, closeTimeoutMs?: number): Promise<T> {
    const { urls, names, stream, log, time } = this.#options;
    const connection = createConnection({ urls, name: names.publishing, log, time });
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

/** How long an operator waits for another: a reading is over by then, a replay may not be. */
export const operatorPatienceMs = 5_000;
const pollMs = 200;

export interface LockOptions {
  readonly patienceMs: number;
  readonly time: Time;
}

/** @throws UnavailableError when somebody else has it, and still does after `patienceMs`. */
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
    const channel = await connection.createChannel();
    // The failed call tells it as well; without a listener the process would end.
    channel.on('error', () => undefined);
    try {
      await channel.assertQueue(operatorLockName(stream), { exclusive: true, durable: false, autoDelete: true });
      return channel;
    } catch (cause) {
      // A refusal closes the channel.
      if (replyCodeOf(cause) !== replyCodes.resourceLocked) throw cause;
      if (time.nowMs() >= giveUpAtMs) {
        const why = `somebody else is changing the dead letters of ${stream} right now: try again when they are done`;
        throw new UnavailableError(why, { cause });
      }
    }
    await sleep(time, pollMs);
  }
}

/** Lets one piece of work begin when the one before it has ended, however that ended. */
export class OneAtATime {
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  /** Whether any is under way or waits. */
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

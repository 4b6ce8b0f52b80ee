/**
 * Channels and connections are opened and closed here. The client library never settles a call if the connection ends between
 * request and answer, so nothing waits for a close without a limit.
 *
 * A scratch channel is for requests that the broker may refuse by closing the channel, or even the connection: each refusal is an
 * answer, and the next request gets a new channel. Nothing is consumed or published on it.
 */
import type { Channel, ChannelModel } from 'amqplib';
import { ConfigError, UnavailableError } from '../errors.ts';
import { type Time, within } from '../time.ts';
import { brokerWords, replyCodeOf } from './refusal.ts';

/** The call that fails says why; without a listener the process would end. */
export async function openChannel(connection: Pick<ChannelModel, 'createChannel'>): Promise<Channel> {
  const channel = await connection.createChannel();
  channel.on('error', () => undefined);
  return channel;
}

/** How long to wait for the broker to confirm a close, in milliseconds. */
const closeTimeoutMs = 5_000;

/** Resolves when the channel is closed, by either side, or when the broker does not answer in time. Never rejects. */
export async function closeChannel(channel: Channel, time: Time): Promise<void> {
  const closed = new Promise<void>((resolve) => channel.once('close', resolve));
  // Rejects at once if the channel is already closed.
  const answered = channel.close().catch(() => undefined);
  await within(time, Promise.race([closed, answered]), closeTimeoutMs);
}

/** The same for a connection, with all channels that are still open on it. */
export async function closeConnection(connection: ChannelModel, time: Time): Promise<void> {
  const closed = new Promise<void>((resolve) => connection.once('close', () => resolve()));
  const answered = connection.close().catch(() => undefined);
  await within(time, Promise.race([closed, answered]), closeTimeoutMs);
}

/** A source of connections, such as a `BrokerConnection`. */
export interface ConnectionSource {
  ready(): Promise<ChannelModel>;
  readonly time: Time;
}

export class ScratchChannel {
  readonly #model: ChannelModel;
  readonly #onError = (error: Error): void => {
    this.#connectionError = error;
  };
  #connectionError: Error | null = null;
  #channel: Channel | null = null;

  private constructor(model: ChannelModel) {
    this.#model = model;
    model.on('error', this.#onError);
  }

  /** Lends a scratch channel on the source's connection, and closes it afterwards. */
  static async use<T>(source: ConnectionSource, use: (scratch: ScratchChannel) => Promise<T>): Promise<T> {
    const scratch = new ScratchChannel(await source.ready());
    try {
      return await use(scratch);
    } finally {
      scratch.#model.removeListener('error', scratch.#onError);
      if (scratch.#channel !== null) await closeChannel(scratch.#channel, source.time);
    }
  }

  /**
   * Returns null, or the broker's refusal.
   * @throws ConfigError when the broker does not know an exchange type, for which it closes the connection.
   * @throws UnavailableError when the connection is lost.
   */
  async attempt(act: (channel: Channel) => Promise<unknown>): Promise<Error | null> {
    try {
      this.#channel ??= await openChannel(this.#model);
      await act(this.#channel);
      return null;
    } catch (error) {
      this.#channel = null;
      const cause = this.#connectionError ?? (error as Error);
      const type = /exchange type '([^']*)'/.exec(cause.message)?.[1];
      if (type !== undefined) throw new ConfigError([unknownType(type)], { cause });
      if (this.#connectionError === null && replyCodeOf(cause) !== null) return cause;
      throw new UnavailableError(`the broker became unavailable: ${brokerWords(cause)}`, { cause });
    }
  }
}

function unknownType(type: string): string {
  const remedy: Readonly<Record<string, string>> = {
    'x-consistent-hash': 'run `rabbitmq-plugins enable rabbitmq_consistent_hash_exchange` on every node',
    'x-modulus-hash': 'use EXCHANGE_TYPE=x-consistent-hash, or a broker from 4.3 on',
  };
  return `the broker knows no exchange type ${type}: ${remedy[type] ?? 'enable its plugin'}`;
}

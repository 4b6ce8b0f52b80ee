/**
 * For requests that the broker may refuse by closing the channel, or even the connection: each refusal is an
 * answer, and the next request gets a new channel. Nothing is consumed or published on it.
 */
import type { Channel, ChannelModel } from 'amqplib';
import { ConfigError, UnavailableError } from '../errors.ts';
import type { Time } from '../time.ts';
import { brokerWords, replyCodeOf } from './refusal.ts';
import { closeChannel, openChannel } from './channels.ts';

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

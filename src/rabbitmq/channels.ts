/**
 * Channels and connections are opened and closed here. The client library never settles a call if the connection ends between
 * request and answer, so nothing waits for a close without a limit.
 *
 * A scratch channel is for requests that the broker may refuse by closing the channel, or even the connection: each refusal is an
 * answer, and the next request gets a new channel. Nothing is consumed or published on it.
 *
 * A channel to consume on comes with the conversion of what it delivers into the decoder's message. A broker accepts and delivers
 * headers that nest thousands of levels deep; the client library decodes them by recursion, runs out of stack, and closes the
 * connection. The message would be redelivered on the next one, and block its queue for ever. A channel opened here delivers such a
 * message with a marker in place of its properties, so that the consumer can reject it.
 */
import type { Channel, ChannelModel, GetMessage, ConsumeMessage } from 'amqplib';
import { ConfigError } from '../errors.ts';
import type { RawMessage } from '../events/event.ts';
import { type Time, within } from '../time.ts';
import { refused, replyCodeOf } from './refusal.ts';

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
      throw refused('the broker became unavailable', cause);
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

/** A small body is copied: it is a slice of a socket read, and holding it would keep that whole buffer in memory. */
export function toRawMessage({ content, fields, properties }: ConsumeMessage | GetMessage): RawMessage {
  return {
    body: content.byteLength * 2 < content.buffer.byteLength ? Buffer.from(content) : content,
    routingKey: fields.routingKey,
    contentType: properties.contentType,
    contentEncoding: properties.contentEncoding,
    messageId: properties.messageId,
    type: properties.type,
    timestamp: properties.timestamp,
    replyTo: properties.replyTo,
    correlationId: properties.correlationId,
    headers: properties.headers ?? {},
    ...(unreadable in properties ? { unreadable: true } : {}),
  };
}

/** Marks a message whose properties could not be read. */
export const unreadable = Symbol('the properties could not be read');

/** The internals of the client library that matter here, which it does not expose. */
interface FrameSource {
  /** Bytes that were read but not yet decoded. */
  rest: Buffer;
  /** Decodes the next frame; false if it is incomplete. Removes the frame from `rest` before decoding it. */
  recvFrame(): unknown;
}

const frameHeaderBytes = 7;
const contentHeader = 2;

const guarded = new WeakSet<FrameSource>();

/** A channel to consume on. */
export async function openConsumingChannel(model: Pick<ChannelModel, 'createChannel'>): Promise<Channel> {
  const channel = await model.createChannel();
  const source = channel.connection as unknown as FrameSource;
  if (!guarded.has(source)) guard(source);
  return channel;
}

function guard(source: FrameSource): void {
  guarded.add(source);
  const { recvFrame } = source;
  source.recvFrame = () => {
    const { rest } = source;
    try {
      return recvFrame.call(source);
    } catch (error) {
      const wasTaken = source.rest !== rest;
      if (!wasTaken || !isStackOverflow(error) || rest[0] !== contentHeader) throw error;
      return undecoded(rest);
    }
  };
}

/** The layout: channel, then in the payload class, weight and the size of the body, then the properties. */
function undecoded(frame: Buffer): unknown {
  const payload = frame.subarray(frameHeaderBytes);
  const size = Number(payload.readBigUInt64BE(4));
  return { id: payload.readUInt16BE(0), channel: frame.readUInt16BE(1), size, fields: { headers: {}, [unreadable]: true } };
}

function isStackOverflow(error: unknown): boolean {
  return error instanceof RangeError && error.message.includes('call stack');
}

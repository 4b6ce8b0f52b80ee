/**
 * A channel to consume on, and the conversion of what it delivers into the decoder's message. A small body is copied: it is a slice of
 * a socket read, and holding it would keep that whole buffer in memory.
 *
 * A broker accepts and delivers headers that nest thousands of levels deep; the client library decodes them by recursion, runs out of
 * stack, and closes the connection. The message would be redelivered on the next one, and block its queue for ever. A channel
 * opened here delivers such a message with a marker in place of its properties, so that the consumer can reject it.
 */
import type { GetMessage, ConsumeMessage, Channel, ChannelModel } from 'amqplib';
import type { RawMessage } from '../events/event.ts';

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

/**
 * Headers that nest some thousands of levels deep. A broker takes and delivers them; the client library decodes them
 * by recursion, runs out of stack, and gives the connection up. The message would come again on the next one, and so
 * on: nobody would ever get past it.
 *
 * On a channel opened here such a message is delivered without its properties, and says so in their place: whoever
 * consumes can reject it. Everything else is decoded as ever.
 */
import type { Channel, ChannelModel } from 'amqplib';

/** Where a message has it, its properties could not be read. */
export const unreadable = Symbol('the properties could not be read');

/** The part of the client library's inside that matters here, which has no name outside. */
interface FrameSource {
  /** Bytes that were read and not yet decoded. */
  rest: Buffer;
  /** The next frame, decoded; false when it is not complete. Takes the frame out of `rest` before it decodes it. */
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

/** Channel, then in the payload class, weight and the size of the body; what follows are the properties. */
function undecoded(frame: Buffer): unknown {
  const payload = frame.subarray(frameHeaderBytes);
  const size = Number(payload.readBigUInt64BE(4));
  return { id: payload.readUInt16BE(0), channel: frame.readUInt16BE(1), size, fields: { headers: {}, [unreadable]: true } };
}

function isStackOverflow(error: unknown): boolean {
  return error instanceof RangeError && error.message.includes('call stack');
}

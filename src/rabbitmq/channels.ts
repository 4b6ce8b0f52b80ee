/**
 * Channels and connections are opened and closed here. The client library never settles a call if the connection ends between
 * request and answer, so nothing waits for a close without a limit.
 */
import type { Channel, ChannelModel } from 'amqplib';
import { type Time, within } from '../time.ts';

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

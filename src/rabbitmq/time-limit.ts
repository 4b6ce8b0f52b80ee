/**
 * Waiting with a bound. The client library leaves calls unanswered for ever when the connection ends between
 * question and answer, so that nothing here waits for it without a limit.
 */
import type { Channel, ChannelModel } from 'amqplib';
import { type Time, within } from '../time.ts';

/** How long the broker may take to confirm that a channel or a connection is closed, in milliseconds. */
const closeTimeoutMs = 5_000;

/** Resolves when the channel is closed, by whichever side, or when the broker does not answer in time. Never rejects. */
export async function closeChannel(channel: Channel, time: Time): Promise<void> {
  const closed = new Promise<void>((resolve) => channel.once('close', resolve));
  // It rejects at once when the channel is closed already.
  const answered = channel.close().catch(() => undefined);
  await within(time, Promise.race([closed, answered]), closeTimeoutMs);
}

/** The same for a connection, with all channels that are still open on it. */
export async function closeConnection(connection: ChannelModel, time: Time): Promise<void> {
  const closed = new Promise<void>((resolve) => connection.once('close', () => resolve()));
  const answered = connection.close().catch(() => undefined);
  await within(time, Promise.race([closed, answered]), closeTimeoutMs);
}

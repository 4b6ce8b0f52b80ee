/**
 * How full queues are, asked by passive declarations: it needs no management API and changes nothing. What is
 * delivered and not yet acknowledged is not counted by the broker.
 */
import type { Channel, ChannelModel } from 'amqplib';
import { messageOf, UnavailableError } from '../errors.ts';
import type { Time } from '../time.ts';
import { replyCodeOf, replyCodes } from './refusal.ts';
import type { ConnectionSource } from './scratch-channel.ts';
import { closeChannel } from './time-limit.ts';

export interface QueueDepth {
  readonly queue: string;
  /** Messages that wait for delivery; null when there is no such queue. */
  readonly ready: number | null;
  readonly consumers: number | null;
}

type Connection = Pick<ChannelModel, 'createChannel'>;

/** In the order of `queues`. Rejects when the broker becomes unavailable. */
export async function queueDepths(connection: Connection, queues: readonly string[], time: Time): Promise<readonly QueueDepth[]> {
  const depths: QueueDepth[] = [];
  let channel: Channel | null = null;
  for (const queue of queues) {
    channel ??= await openChannel(connection);
    try {
      const { messageCount, consumerCount } = await channel.checkQueue(queue);
      depths.push({ queue, ready: messageCount, consumers: consumerCount });
    } catch (error) {
      if (replyCodeOf(error) !== replyCodes.notFound) throw error;
      depths.push({ queue, ready: null, consumers: null });
      // The broker closes the channel on which a queue was not found.
      channel = null;
    }
  }
  if (channel !== null) await closeChannel(channel, time);
  return depths;
}

/** Messages that lie ready in each of the queues; 0 for one that does not exist. @throws UnavailableError when nobody can be asked. */
export async function readyIn(source: ConnectionSource, queues: readonly string[]): Promise<ReadonlyMap<string, number>> {
  const connection = await source.ready();
  try {
    return new Map((await queueDepths(connection, queues, source.time)).map(({ queue, ready }) => [queue, ready ?? 0]));
  } catch (cause) {
    throw new UnavailableError(`the queues cannot be counted: ${messageOf(cause)}`, { cause });
  }
}

/** Consumers of each queue, in the order asked; null where there is no such queue, or nobody can be asked. Never rejects. */
export async function consumersOf(source: ConnectionSource, queues: readonly string[]): Promise<readonly (number | null)[]> {
  try {
    return (await queueDepths(await source.ready(), queues, source.time)).map(({ consumers }) => consumers);
  } catch {
    return queues.map(() => null);
  }
}

/** Why nobody is given anything of a shard's queue; empty where somebody is. Of quorum queues a standby is no consumer. */
export function whyNobodyConsumes({ queue, ready, consumers }: QueueDepth): readonly string[] {
  if (ready === null) return [`there is no queue ${queue}`];
  return consumers === 0 ? [`nobody consumes ${queue}`] : [];
}

async function openChannel(connection: Connection): Promise<Channel> {
  const channel = await connection.createChannel();
  // The failed call tells it as well; without a listener the process would end.
  channel.on('error', () => undefined);
  return channel;
}

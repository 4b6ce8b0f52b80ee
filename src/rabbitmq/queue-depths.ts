/**
 * The numbers of messages in queues, from passive declarations: these need no management API and change nothing.
 * Unacknowledged deliveries are not counted.
 */
import type { Channel, ChannelModel } from 'amqplib';
import type { BrokerConfig } from '../config/config.ts';
import { UnavailableError } from '../errors.ts';
import type { Time } from '../time.ts';
import { brokerWords, replyCodeOf, replyCodes } from './refusal.ts';
import { closeChannel, type ConnectionSource, openChannel } from './channels.ts';
import { deadLetterQueueName, shardQueueNames, unroutedQueueName } from './topology-plan.ts';

export interface QueueDepth {
  readonly queue: string;
  /** Messages ready for delivery; null if there is no such queue. */
  readonly ready: number | null;
  readonly consumers: number | null;
}

type Connection = Pick<ChannelModel, 'createChannel'>;

/** In the order of `queues`. @throws UnavailableError when they cannot be counted. */
export async function queueDepths(connection: Connection, queues: readonly string[], time: Time): Promise<readonly QueueDepth[]> {
  const depths: QueueDepth[] = [];
  let channel: Channel | null = null;
  for (const queue of queues) {
    try {
      channel ??= await openChannel(connection);
      const { messageCount, consumerCount } = await channel.checkQueue(queue);
      depths.push({ queue, ready: messageCount, consumers: consumerCount });
    } catch (error) {
      if (replyCodeOf(error) !== replyCodes.notFound) {
        throw new UnavailableError(`queue ${queue} cannot be counted: ${brokerWords(error)}`, { cause: error });
      }
      depths.push({ queue, ready: null, consumers: null });
      // The broker closes the channel when a queue is not found.
      channel = null;
    }
  }
  if (channel !== null) await closeChannel(channel, time);
  return depths;
}

/** Of all queues that a stream has for events. @throws UnavailableError when they cannot be counted. */
export async function streamDepths(connection: Connection, { stream, shards }: Pick<BrokerConfig, 'stream' | 'shards'>, time: Time) {
  const queues = [...shardQueueNames({ stream, shards }), deadLetterQueueName(stream), unroutedQueueName(stream)];
  const depths = await queueDepths(connection, queues, time);
  return { shards: depths.slice(0, shards), deadLetters: depths[shards]!, unrouted: depths[shards + 1]! };
}

/** Ready messages of each queue; 0 for a missing queue. @throws UnavailableError when the broker cannot be asked. */
export async function readyIn(source: ConnectionSource, queues: readonly string[]): Promise<ReadonlyMap<string, number>> {
  return new Map((await queueDepths(await source.ready(), queues, source.time)).map(({ queue, ready }) => [queue, ready ?? 0]));
}

/** Consumers of each queue, in the given order; null for a missing queue, or if the broker cannot be asked. Never rejects. */
export async function consumersOf(source: ConnectionSource, queues: readonly string[]): Promise<readonly (number | null)[]> {
  try {
    return (await queueDepths(await source.ready(), queues, source.time)).map(({ consumers }) => consumers);
  } catch {
    return queues.map(() => null);
  }
}

/** Why a shard's queue is not consumed; empty if it is. A standby of a quorum queue does not count as a consumer. */
export function whyNobodyConsumes({ queue, ready, consumers }: QueueDepth): readonly string[] {
  if (ready === null) return [`there is no queue ${queue}`];
  return consumers === 0 ? [`nobody consumes ${queue}`] : [];
}

/**
 * One change of a stream's dead letters at a time, whoever makes it: an exclusive queue that the broker keeps for as
 * long as the connection lives, and no longer. Two that took letters at once would each see half of an entity.
 */
import type { Channel, ChannelModel } from 'amqplib';
import { UnavailableError } from '../errors.ts';
import { replyCodeOf, replyCodes } from '../rabbitmq/refusal.ts';
import { closeChannel } from '../rabbitmq/time-limit.ts';

export function operatorLockName(stream: string): string {
  return `${stream}.operator`;
}

/** @throws UnavailableError when somebody else has it. */
export async function withOperatorLock<T>(connection: Pick<ChannelModel, 'createChannel'>, stream: string, use: () => Promise<T>): Promise<T> {
  const channel = await connection.createChannel();
  // The failed call tells it as well; without a listener the process would end.
  channel.on('error', () => undefined);
  try {
    await take(channel, stream);
    try {
      return await use();
    } finally {
      await channel.deleteQueue(operatorLockName(stream)).catch(() => undefined);
    }
  } finally {
    await closeChannel(channel);
  }
}

async function take(channel: Channel, stream: string): Promise<void> {
  try {
    await channel.assertQueue(operatorLockName(stream), { exclusive: true, durable: false, autoDelete: true });
  } catch (cause) {
    if (replyCodeOf(cause) !== replyCodes.resourceLocked) throw cause;
    const message = `somebody else is changing the dead letters of ${stream} right now: try again when they are done`;
    throw new UnavailableError(message, { cause });
  }
}

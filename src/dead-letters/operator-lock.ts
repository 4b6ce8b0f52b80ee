/**
 * One change of a stream's dead letters at a time, whoever makes it: an exclusive queue that the broker keeps for as
 * long as the connection lives, and no longer. Two that took letters at once would each see half of an entity.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Channel, ChannelModel } from 'amqplib';
import { UnavailableError } from '../errors.ts';
import { replyCodeOf, replyCodes } from '../rabbitmq/refusal.ts';
import { closeChannel } from '../rabbitmq/time-limit.ts';

export function operatorLockName(stream: string): string {
  return `${stream}.operator`;
}

/** How long an operator waits for another: a reading is over by then, a replay may not be. */
export const operatorPatienceMs = 5_000;
const pollMs = 200;

/** @throws UnavailableError when somebody else has it, and still does after `patienceMs`. */
export async function withOperatorLock<T>(
  connection: Pick<ChannelModel, 'createChannel'>,
  stream: string,
  patienceMs: number,
  use: () => Promise<T>,
): Promise<T> {
  const channel = await takeLock(connection, stream, patienceMs);
  try {
    return await use();
  } finally {
    await channel.deleteQueue(operatorLockName(stream)).catch(() => undefined);
    await closeChannel(channel);
  }
}

async function takeLock(connection: Pick<ChannelModel, 'createChannel'>, stream: string, patienceMs: number): Promise<Channel> {
  for (const giveUpAtMs = performance.now() + patienceMs; ; ) {
    const channel = await connection.createChannel();
    // The failed call tells it as well; without a listener the process would end.
    channel.on('error', () => undefined);
    try {
      await channel.assertQueue(operatorLockName(stream), { exclusive: true, durable: false, autoDelete: true });
      return channel;
    } catch (cause) {
      // A refusal closes the channel.
      if (replyCodeOf(cause) !== replyCodes.resourceLocked) throw cause;
      if (performance.now() >= giveUpAtMs) {
        throw new UnavailableError(`somebody else is changing the dead letters of ${stream} right now: try again when they are done`, { cause });
      }
    }
    await sleep(pollMs);
  }
}

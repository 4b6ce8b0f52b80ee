/**
 * Sends the demo's messages: shuffled within a window and partly repeated, the same way for the same seed. What the
 * broker has confirmed is remembered, because the accounts start from it.
 */
import { UnavailableError } from '../errors.ts';
import type { Log } from '../observability/log.ts';
import { perturb } from '../publishing/perturb.ts';
import { createConnection } from '../rabbitmq/connection.ts';
import { createAmqpPublisher } from '../rabbitmq/publisher.ts';
import type { Time } from '../time.ts';
import type { DemoMessage } from './faults.ts';

export const shuffleWindow = 500;
export const duplicateShare = 0.05;

/** As they will be sent, repetitions included. */
export async function disarrange(messages: Iterable<DemoMessage>, seed: number): Promise<DemoMessage[]> {
  const sent: DemoMessage[] = [];
  const options = { window: shuffleWindow, duplicate: duplicateShare, drop: 0, seed };
  for await (const message of perturb(each(messages), options)) sent.push(message);
  return sent;
}

async function* each<T>(elements: Iterable<T>): AsyncGenerator<T> {
  yield* elements;
}

export interface PublishingOptions {
  readonly amqpUrl: string;
  readonly exchange: string;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly time: Time;
  readonly onConfirmed: (message: DemoMessage) => void;
}

/** Resolves when every message has been confirmed; rejects when one was not, for then no account can balance. */
export async function publishAll(messages: readonly DemoMessage[], options: PublishingOptions): Promise<void> {
  const { amqpUrl, exchange, log, signal, time, onConfirmed } = options;
  const connection = createConnection({ urls: [amqpUrl], name: 'inorder demo publisher', log, time });
  const publisher = createAmqpPublisher({ connection, exchange, log });
  const outcomes: Promise<boolean>[] = [];
  try {
    for (const message of messages) {
      await publisher.room();
      signal.throwIfAborted();
      const outcome = publisher.publish(message.encoded).then(({ status }) => {
        if (status === 'confirmed') onConfirmed(message);
        return status === 'confirmed';
      });
      outcomes.push(outcome);
    }
    const lost = (await Promise.all(outcomes)).filter((isConfirmed) => !isConfirmed).length;
    if (lost > 0) throw new UnavailableError(`the broker did not confirm ${lost} messages`);
  } finally {
    await publisher.close();
    await connection.close();
  }
}

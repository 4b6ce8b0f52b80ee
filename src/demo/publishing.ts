/**
 * Sends the demo's messages: shuffled within a window and partly repeated, the same way for the same seed. What the
 * broker has confirmed is remembered, because the accounts start from it.
 */
import type { ChannelModel } from 'amqplib';
import { UnavailableError } from '../errors.ts';
import { perturb } from '../publishing/perturb.ts';
import type { DemoMessage } from './mishaps.ts';

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

export class DemoPublisher {
  readonly #connection: ChannelModel;
  readonly #exchange: string;
  readonly confirmed: DemoMessage[] = [];

  constructor(connection: ChannelModel, exchange: string) {
    this.#connection = connection;
    this.#exchange = exchange;
  }

  async publish(messages: readonly DemoMessage[], signal: AbortSignal): Promise<void> {
    const channel = await this.#connection.createConfirmChannel();
    let failed = 0;
    let n = 0;
    for (const message of messages) {
      signal.throwIfAborted();
      const { body, properties, routingKey } = message.encoded;
      const flows = channel.publish(this.#exchange, routingKey, body, { ...properties, mandatory: true }, (error) => {
        if (error) failed++;
        else this.confirmed.push(message);
      });
      if (!flows || ++n % 500 === 0) await channel.waitForConfirms();
    }
    await channel.waitForConfirms();
    await channel.close();
    if (failed > 0) throw new UnavailableError(`${failed} messages were not confirmed`);
  }
}

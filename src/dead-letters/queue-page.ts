/** One page of a reading of the dead-letter queue: what it holds, what leaves it, and how it ends. How pages make a reading is `queue-reading.ts`'s. */
import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';
import { UnavailableError } from '../errors.ts';
import { openConsumingChannel } from '../rabbitmq/deep-headers.ts';
import { replyCodeOf, replyCodes } from '../rabbitmq/refusal.ts';
import { closeChannel } from '../rabbitmq/time-limit.ts';

export type Connection = Pick<ChannelModel, 'createChannel'>;

/** The `consumer_timeout` of the broker behind a connection in milliseconds, once it has closed a channel for it. */
export const seenConsumerTimeouts = new WeakMap<object, number>();

/** One channel with one consumer, which gets exactly as many messages as were asked for and keeps them. */
export class Page {
  readonly #channel: Channel;
  readonly #queue: string;
  #messages: ConsumeMessage[] = [];
  #held = 0;
  /** Delivery tags of what was removed, above the one up to which all of them were. */
  readonly #removed = new Set<number>();
  #removedUpTo = 0;
  /** Those of them that are not acknowledged yet. */
  #unsettled: number[] = [];
  #settling: NodeJS.Immediate | null = null;
  #endsInReturned = false;
  #lost: Error | null = null;
  #wake: () => void = () => undefined;

  private constructor(channel: Channel, queue: string) {
    this.#channel = channel;
    this.#queue = queue;
    channel.on('error', (error: Error) => this.#end(error));
    channel.on('close', () => this.#end(new Error('the channel was closed')));
  }

  static async open(connection: Connection, queue: string): Promise<Page> {
    try {
      return new Page(await openConsumingChannel(connection), queue);
    } catch (error) {
      throw unreadable(queue, error);
    }
  }

  /** Messages that this page keeps from others. */
  get held(): number {
    return this.#held;
  }

  /** Whether messages that were returned before may follow. */
  get endsInReturned(): boolean {
    return this.#endsInReturned;
  }

  /** Messages in the queue that nobody holds. */
  async ready(): Promise<number> {
    try {
      return (await this.#channel.checkQueue(this.#queue)).messageCount;
    } catch (error) {
      throw unreadable(this.#queue, error);
    }
  }

  get isOpen(): boolean {
    return this.#lost === null;
  }

  /**
   * Whether the broker has closed it for keeping messages too long; what that is, is then known for the next reading.
   * @throws UnavailableError when it is lost for another reason.
   */
  timedOut(connection: Connection): boolean {
    if (this.#lost === null) return false;
    const [, timeoutMs] = /acknowledgement on channel \d+ timed out\. Timeout value used: (\d+) ms/.exec(this.#lost.message) ?? [];
    if (timeoutMs === undefined) throw unreadable(this.#queue, this.#lost);
    seenConsumerTimeouts.set(connection, Number(timeoutMs));
    return true;
  }

  remove({ fields }: ConsumeMessage): void {
    if (this.#lost !== null) throw unreadable(this.#queue, this.#lost);
    this.#removed.add(fields.deliveryTag);
    this.#unsettled.push(fields.deliveryTag);
    this.#held--;
    this.#settling ??= setImmediate(() => this.#settle());
  }

  async close(): Promise<void> {
    this.#settle();
    this.#lost ??= new Error('the reading has ended');
    await closeChannel(this.#channel);
  }

  /**
   * As few acknowledgements as can be: of very many at a time the broker keeps some back, and forgets them when the
   * channel is closed (rabbitmq-server#10327). What was removed is then in the queue again.
   */
  #settle(): void {
    if (this.#settling !== null) clearImmediate(this.#settling);
    this.#settling = null;
    while (this.#removed.delete(this.#removedUpTo + 1)) this.#removedUpTo++;
    const together = this.#unsettled.filter((tag) => tag <= this.#removedUpTo);
    if (together.length > 0) this.#acknowledge(Math.max(...together), true);
    for (const tag of this.#unsettled) if (tag > this.#removedUpTo) this.#acknowledge(tag, false);
    this.#unsettled = [];
  }

  #acknowledge(deliveryTag: number, allUpTo: boolean): void {
    try {
      if (this.#lost === null) this.#channel.ack({ fields: { deliveryTag } } as ConsumeMessage, allUpTo);
    } catch (error) {
      this.#end(error as Error);
    }
  }

  /** Fewer than `wanted` only when another reader was quicker. */
  async read(wanted: number, patienceMs: number): Promise<readonly ConsumeMessage[]> {
    if (wanted === 0) return [];
    try {
      await this.#channel.prefetch(wanted);
      const { consumerTag } = await this.#channel.consume(this.#queue, (message) => this.#arrived(message));
      let emptyReadings = 0;
      while (this.#held < wanted && emptyReadings < 2) {
        const before = this.#held;
        await this.#nextArrival(patienceMs);
        if (this.#lost !== null) throw this.#lost;
        // Nothing came for a while: if nothing is ready either, and again so, the rest has gone to another reader.
        if (this.#held === before) emptyReadings = (await this.ready()) === 0 ? emptyReadings + 1 : 0;
      }
      // In place of each message that is removed it would get another one, that nobody reads.
      await this.#channel.cancel(consumerTag);
      if (this.#lost !== null) throw this.#lost;
    } catch (error) {
      throw unreadable(this.#queue, error);
    }
    // The page stays open until the end of the reading; the messages themselves are the reader's now.
    const messages = this.#messages;
    this.#messages = [];
    return messages;
  }

  #arrived(message: ConsumeMessage | null): void {
    if (message === null) this.#end(new Error('the queue was deleted while it was read'));
    else {
      this.#messages.push(message);
      this.#held++;
      this.#endsInReturned = message.fields.redelivered;
    }
    this.#wake();
  }

  #end(cause: Error): void {
    this.#lost ??= cause;
    this.#wake();
  }

  #nextArrival(patienceMs: number): Promise<void> {
    if (this.#lost !== null) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, patienceMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

export function unreadable(queue: string, error: unknown): UnavailableError {
  if (error instanceof UnavailableError) return error;
  const missing = replyCodeOf(error) === replyCodes.notFound;
  const message = missing
    ? `there is no queue ${queue}: STREAM may name another stream, or \`inorder topology apply\` was not run`
    : `the queue ${queue} cannot be read: ${error instanceof Error ? error.message : String(error)}`;
  return new UnavailableError(message, { cause: error });
}

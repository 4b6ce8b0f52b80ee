/**
 * Reads a dead-letter queue from its head. Only the reader removes messages: every message is held unacknowledged until
 * the reading ends, and is then given back. Afterwards the queue has the same messages in the same order, without the
 * removed ones, also when the reading is aborted (`return` of the generator) and when new messages arrive meanwhile.
 * Memory is bounded by a page.
 *
 * The method follows from how a quorum queue takes messages back: it appends them to a list of returned messages, which
 * precedes all others, consumer by consumer, each consumer's in order. So
 * - each page is one consumer on a separate channel, opened when the page before it is full. With `basic.get` every
 *   message counts as a consumer, and they come back shuffled; the same happens with several consumers on one channel;
 * - the consumer is cancelled when its page is full, or it would get another message for each one that is removed;
 * - the channels are closed in the order of their pages, each when the messages of the previous one are seen in the
 *   queue again, because the broker answers a close before it has taken them back;
 * - a reading that ends early first reads all messages that earlier readings returned, which are marked as redelivered:
 *   otherwise its own messages would be appended behind the rest of them.
 *
 * The visible effects of a reading: messages are marked `redelivered`, and their delivery count goes up by
 * one (the queue's delivery limit is a million). During the reading, other readers do not see the messages that it holds.
 * The order is not kept when a reader is killed, or when two read at the same time.
 *
 * The broker closes a channel that holds a message for longer than its `consumer_timeout`. A reading ends before that, however
 * slow its reader is, and gives everything back; a caller that has not seen all messages starts another reading.
 */
import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';
import { UnavailableError } from '../errors.ts';
import { openConsumingChannel, closeChannel } from '../rabbitmq/channels.ts';
import { refused, replyCodeOf, replyCodes } from '../rabbitmq/refusal.ts';
import { sleep, type Time, within } from '../time.ts';

export type Connection = Pick<ChannelModel, 'createChannel'>;

export interface ReadingOptions {
  readonly queue: string;
  /** Most messages to read, from the head. Default: all that were there when the reading began. */
  readonly limit?: number;
  /** Messages per page, the unit that is in memory. Default 250, and more above a quarter of a million messages. */
  readonly pageSize?: number | undefined;
  /** How long to wait for an expected message before the queue is asked again, in milliseconds. Default 500. */
  readonly patienceMs?: number;
  /**
   * The longest duration of the reading, in milliseconds. Default: a third of the broker's `consumer_timeout` (30 minutes, or the
   * value that was observed).
   */
  readonly maxReadingMs?: number;
  readonly time: Time;
}

/** `expired`: the time limit was reached, and there may be more. */
export type ReadingEnd = 'complete' | 'expired';

const defaultPageSize = 250;
/** Each is a channel, and a connection has 2,047 of them. */
const maxPages = 1_000;
const defaultPatienceMs = 500;
/** How long to wait for returned messages to appear in the queue; another consumer may have taken them. */
const returnTimeoutMs = 1_000;
const returnPollMs = 2;
const defaultConsumerTimeoutMs = 30 * 60_000;

/** Consecutive messages of the queue, oldest first. */
export interface QueuePage {
  readonly messages: readonly ConsumeMessage[];
  /**
   * Removes a message of this page from the queue, at any time until the reading ends.
   * @throws UnavailableError when the page is lost, or the reading has expired: the other messages are back in the queue.
   */
  remove(message: ConsumeMessage): void;
  /** Whether `remove` still works. */
  readonly isOpen: boolean;
  /** Whether it is the last page. */
  readonly isLast: boolean;
}

/**
 * Yields the messages page by page, without those that arrive after the beginning.
 * @throws UnavailableError when the queue does not exist, or the broker becomes unavailable.
 */
export async function* readQueue(connection: Connection, options: ReadingOptions): AsyncGenerator<QueuePage, ReadingEnd, void> {
  const { limit = Number.POSITIVE_INFINITY, patienceMs = defaultPatienceMs, time } = options;
  const { maxReadingMs = (seenConsumerTimeouts.get(connection) ?? defaultConsumerTimeoutMs) / 3 } = options;
  let { pageSize = defaultPageSize } = options;
  const pages: Page[] = [];
  let ended: Promise<void> | null = null;
  const giveAllBack = async () => {
    await takeTheReturned(connection, options, pages).catch(() => undefined);
    await giveBack(connection, options, pages);
  };
  const end = () => (ended ??= giveAllBack());
  let expired = false;
  let isReading = true;
  const timer = time.after(maxReadingMs, () => {
    expired = true;
    // During the reading of a page it ends by itself after that page.
    if (!isReading) void end();
  });
  try {
    let remaining = limit;
    while (remaining > 0) {
      const page = await Page.open(connection, options);
      pages.push(page);
      const ready = await page.ready();
      if (pages.length === 1) {
        remaining = Math.min(remaining, ready);
        pageSize = Math.max(pageSize, Math.ceil(remaining / maxPages));
      }
      const messages = await page.read(Math.min(remaining, pageSize, ready), patienceMs);
      if (expired) return 'expired';
      if (messages.length === 0) return 'complete';
      remaining -= messages.length;
      isReading = false;
      yield pageOf(page, messages, remaining === 0);
      isReading = true;
      if (expired || pages.some((other) => other.timedOut(connection))) return 'expired';
    }
    return 'complete';
  } finally {
    timer.cancel();
    await end();
  }
}

function pageOf(page: Page, messages: readonly ConsumeMessage[], isLast: boolean): QueuePage {
  return {
    messages,
    isLast,
    remove: (message) => page.remove(message),
    get isOpen() {
      return page.isOpen;
    },
  };
}

/**
 * Reads without removing. When one reading expires it continues with another, after as many messages as it has seen; this is
 * correct as long as nobody removes any of them meanwhile.
 *
 * @throws UnavailableError also when the broker's `consumer_timeout` is too short to reach the unseen messages.
 */
export async function* peek(connection: Connection, options: ReadingOptions): AsyncGenerator<readonly ConsumeMessage[], void, void> {
  const { limit = Number.POSITIVE_INFINITY } = options;
  for (let seen = 0; ; ) {
    const before = seen;
    let position = 0;
    const reading = readQueue(connection, { ...options, limit });
    try {
      let step = await reading.next();
      for (; !step.done; step = await reading.next()) {
        const fresh = step.value.messages.slice(Math.max(0, seen - position));
        position += step.value.messages.length;
        seen = Math.max(seen, position);
        if (fresh.length > 0) yield fresh;
        if (step.value.isLast) return;
      }
      if (step.value === 'complete') return;
    } finally {
      await reading.return('complete');
    }
    if (seen > before) continue;
    throw new UnavailableError(`${options.queue} is too long to be read within the broker's consumer_timeout: raise that`);
  }
}

async function takeTheReturned(connection: Connection, options: ReadingOptions, pages: Page[]): Promise<void> {
  const { pageSize = defaultPageSize, patienceMs = defaultPatienceMs } = options;
  while (pages.at(-1)?.endsInReturned) {
    const page = await Page.open(connection, options);
    pages.push(page);
    await page.read(Math.min(pageSize, await page.ready()), patienceMs);
  }
}

/** Never throws: a lost channel has already given its messages back. */
async function giveBack(connection: Connection, options: ReadingOptions, pages: readonly Page[]): Promise<void> {
  const { time } = options;
  const observer = await Page.open(connection, options).catch(() => null);
  for (const page of pages) {
    const before = await observer?.ready().catch(() => null);
    await page.close();
    const deadlineMs = time.nowMs() + returnTimeoutMs;
    while (before != null && page.held > 0 && time.nowMs() < deadlineMs) {
      const now = await observer?.ready().catch(() => null);
      if (now == null || now >= before + page.held) break;
      await sleep(time, returnPollMs);
    }
  }
  await observer?.close();
}

/** The observed `consumer_timeout` of a connection's broker in milliseconds, known once it has closed a channel for it. */
const seenConsumerTimeouts = new WeakMap<object, number>();

/** One channel with one consumer, which gets exactly as many messages as were asked for and holds them. */
class Page {
  readonly #channel: Channel;
  readonly #queue: string;
  readonly #time: Time;
  #messages: ConsumeMessage[] = [];
  #held = 0;
  /** Delivery tags of removed messages above the tag up to which all are removed. */
  readonly #removed = new Set<number>();
  #removedUpTo = 0;
  /** Removed but not acknowledged yet. */
  #unsettled: number[] = [];
  #willSettle = false;
  #endsInReturned = false;
  #lost: Error | null = null;
  #wake: () => void = () => undefined;

  private constructor(channel: Channel, { queue, time }: ReadingOptions) {
    this.#channel = channel;
    this.#queue = queue;
    this.#time = time;
    channel.on('error', (error: Error) => this.#end(error));
    channel.on('close', () => this.#end(new Error('the channel was closed')));
  }

  static async open(connection: Connection, options: ReadingOptions): Promise<Page> {
    try {
      return new Page(await openConsumingChannel(connection), options);
    } catch (error) {
      throw unreadable(options.queue, error);
    }
  }

  /** The number of messages that this page holds. */
  get held(): number {
    return this.#held;
  }

  /** Whether more messages that were returned earlier may follow. */
  get endsInReturned(): boolean {
    return this.#endsInReturned;
  }

  /** The number of messages in the queue that nobody holds. */
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
   * Whether the broker has closed it because of its `consumer_timeout`, which is then remembered for the next reading.
   * @throws UnavailableError when it was lost for another reason.
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
    if (!this.#willSettle) this.#time.afterTick(() => this.#settle());
    this.#willSettle = true;
  }

  async close(): Promise<void> {
    this.#settle();
    this.#lost ??= new Error('the reading has ended');
    await closeChannel(this.#channel, this.#time);
  }

  /**
   * Sends as few acknowledgements as possible: of very many at a time the broker defers some, and forgets them when the
   * channel is closed (rabbitmq-server#10327); the removed messages would then be in the queue again.
   */
  #settle(): void {
    this.#willSettle = false;
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

  /** Returns fewer than `wanted` messages only when another reader took some. */
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
        // Nothing came for a while: if the queue has nothing ready either, twice in a row, another reader has the rest.
        if (this.#held === before) emptyReadings = (await this.ready()) === 0 ? emptyReadings + 1 : 0;
      }
      // For each removed message it would get another one, which nobody reads.
      await this.#channel.cancel(consumerTag);
      if (this.#lost !== null) throw this.#lost;
    } catch (error) {
      throw unreadable(this.#queue, error);
    }
    // The page stays open until the reading ends; the messages now belong to the reader.
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

  async #nextArrival(patienceMs: number): Promise<void> {
    if (this.#lost !== null) return;
    const arrival = new Promise<void>((resolve) => (this.#wake = resolve));
    await within(this.#time, arrival, patienceMs);
  }
}

function unreadable(queue: string, error: unknown): UnavailableError {
  if (error instanceof UnavailableError) return error;
  if (replyCodeOf(error) !== replyCodes.notFound) return refused(`the queue ${queue} cannot be read`, error);
  const message = `there is no queue ${queue}: STREAM may name another stream, or \`inorder topology apply\` was not run`;
  return new UnavailableError(message, { cause: error });
}

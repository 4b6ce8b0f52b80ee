/**
 * Reads a dead-letter queue from its head. Nothing leaves it but what the reader removes: every message is held
 * unacknowledged until the reading ends, and then goes back. Guarantees the same messages in the same order afterwards,
 * less the removed ones, also when the reading is broken off (`return` of the generator) and when new messages arrive
 * meanwhile. Memory is bounded by a page.
 *
 * How it is done follows from how a quorum queue takes messages back: into a queue of returned ones before all others,
 * at its end, consumer by consumer, each one's in order. So
 * - each page is one consumer on a channel of its own, requested when the page before it is full. With `basic.get` every
 *   message is a consumer, and they come back shuffled; so they do with several consumers on one channel;
 * - the consumer is cancelled when its page is full, or it would get another message for each one that is removed;
 * - the channels are closed in the order of their pages, each when the messages of the one before are seen back in the
 *   queue, because the broker answers a close before it has taken them back;
 * - a reading that ends early first takes all that earlier readings had returned, which comes marked as redelivered:
 *   behind a rest of them, what it returns would have changed places with it.
 *
 * What a reading cannot hide: a message that was read once is marked `redelivered`, and its delivery count goes up by
 * one (the queue's delivery limit is a million). While it lasts, another reader does not see what this one holds.
 * A reader that is killed in mid-reading, and two that read at once, give their parts back in any order.
 *
 * The broker closes a channel that keeps a message for longer than its `consumer_timeout`. A reading ends before that, however
 * long its reader takes over a page, and gives everything back; whoever has not seen all begins another one.
 */
import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';
import { UnavailableError } from '../errors.ts';
import { openConsumingChannel } from '../rabbitmq/deep-headers.ts';
import { replyCodeOf, replyCodes } from '../rabbitmq/refusal.ts';
import { closeChannel } from '../rabbitmq/time-limit.ts';
import { sleep, type Time, within } from '../time.ts';

export type Connection = Pick<ChannelModel, 'createChannel'>;

export interface ReadingOptions {
  readonly queue: string;
  /** At most so many messages, from the head. Default: all that were there when the reading began. */
  readonly limit?: number;
  /** Messages of one page, which is what is in memory at a time. Default 250, and more from a quarter of a million on. */
  readonly pageSize?: number;
  /** How long a message that the queue announced may take to come before the queue is asked again, in milliseconds. Default 500. */
  readonly patienceMs?: number;
  /**
   * When the reading ends at the latest, in milliseconds. Default: a third of the broker's `consumer_timeout` of 30 minutes, or of
   * the one that it was seen to have.
   */
  readonly maxReadingMs?: number;
  readonly time: Time;
}

/** `expired`: its time was over, and there may be more. */
export type ReadingEnd = 'complete' | 'expired';

const defaultPageSize = 250;
/** Each is a channel, and a connection has 2,047 of them. */
const maxPages = 1_000;
const defaultPatienceMs = 500;
/** How long messages that were given back may take to be seen in the queue; another consumer may have them by then. */
const returnTimeoutMs = 1_000;
const returnPollMs = 2;
const defaultConsumerTimeoutMs = 30 * 60_000;

/** Some messages that follow each other in the queue, oldest first. */
export interface QueuePage {
  readonly messages: readonly ConsumeMessage[];
  /**
   * Takes a message of this page out of the queue; at any time until the reading ends.
   * @throws UnavailableError when the page is lost, or the reading has expired: what was not removed is in the queue again.
   */
  remove(message: ConsumeMessage): void;
  /** Whether it still can. */
  readonly isOpen: boolean;
  /** Nothing follows. */
  readonly isLast: boolean;
}

/**
 * Yields the messages page by page. Messages that arrive after the beginning are not waited for.
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
    // While it reads a page, it ends by itself behind that.
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
 * Reads and removes nothing. What lasts longer than one reading goes on with another, behind as many messages as were seen: right
 * as long as nobody removes any of them meanwhile.
 *
 * @throws UnavailableError also when the broker's `consumer_timeout` is too short to come that far.
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

/** Never throws: a channel that is gone has given its messages back already. */
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

/** The `consumer_timeout` of the broker behind a connection in milliseconds, once it has closed a channel for it. */
const seenConsumerTimeouts = new WeakMap<object, number>();

/** One channel with one consumer, which gets exactly as many messages as were asked for and keeps them. */
class Page {
  readonly #channel: Channel;
  readonly #queue: string;
  readonly #time: Time;
  #messages: ConsumeMessage[] = [];
  #held = 0;
  /** Delivery tags of what was removed, above the one up to which all of them were. */
  readonly #removed = new Set<number>();
  #removedUpTo = 0;
  /** Those of them that are not acknowledged yet. */
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
    if (!this.#willSettle) this.#time.afterTurn(() => this.#settle());
    this.#willSettle = true;
  }

  async close(): Promise<void> {
    this.#settle();
    this.#lost ??= new Error('the reading has ended');
    await closeChannel(this.#channel, this.#time);
  }

  /**
   * As few acknowledgements as can be: of very many at a time the broker keeps some back, and forgets them when the
   * channel is closed (rabbitmq-server#10327). What was removed is then in the queue again.
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

  async #nextArrival(patienceMs: number): Promise<void> {
    if (this.#lost !== null) return;
    const arrival = new Promise<void>((resolve) => (this.#wake = resolve));
    await within(this.#time, arrival, patienceMs);
  }
}

function unreadable(queue: string, error: unknown): UnavailableError {
  if (error instanceof UnavailableError) return error;
  const missing = replyCodeOf(error) === replyCodes.notFound;
  const message = missing
    ? `there is no queue ${queue}: STREAM may name another stream, or \`inorder topology apply\` was not run`
    : `the queue ${queue} cannot be read: ${error instanceof Error ? error.message : String(error)}`;
  return new UnavailableError(message, { cause: error });
}

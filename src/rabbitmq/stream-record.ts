/**
 * The broker's record of a stream's store: one message in a separate queue, which nobody consumes. A process that reads or
 * changes it gets the message, and gives it back or replaces it, so only one process at a time has it, and the record stays if that
 * process dies. If there are two records, after a crash or when two workers start a stream at once, the more recent one counts.
 *
 * Needs permission to read the queue and, to change the record, to write to the exchange; without them there is no record.
 */
import type { ConfirmChannel, GetMessage } from 'amqplib';
import { ConfigError, UnavailableError } from '../errors.ts';
import { sleep, type Time, within } from '../time.ts';
import { brokerAnswer, brokerWords, refused, replyCodeOf, replyCodes } from './refusal.ts';
import { closeChannel, type ConnectionSource } from './channels.ts';
import { recordName } from './topology-plan.ts';

export interface StreamRecord {
  /** How often an operator has assigned a store to the stream: records of earlier generations do not count. */
  readonly generation: number;
  /** The stream is older than its record, so an empty store is not a new one. */
  readonly isOlder: boolean;
  /** The identity of the store; null until a worker has started with one. */
  readonly identity: string | null;
  /** The highest known epoch; it may lag a little. */
  readonly epoch: number;
  readonly halts: readonly { readonly shard: number | null; readonly detail: string; readonly at: string }[];
  /** Until then no worker looks through the dead letters without a cause, in milliseconds since 1970; absent if none has. */
  readonly searchedUntilMs?: number;
}

/** Separate, because a broker short of memory reads nothing from a connection that publishes, not even acknowledgements. */
export interface PublishingSource extends ConnectionSource {
  /** Why the broker blocks publishes, if known; null or undefined otherwise. */
  readonly blocked?: string | null;
}

export interface StreamRecordOptions {
  /** The connection for reading. */
  readonly source: ConnectionSource;
  /** The connection for publishing. Default: `source`, which may then become blocked. */
  readonly publishing?: PublishingSource;
  readonly stream: string;
  /**
   * How long to wait for a record before it counts as missing, in milliseconds. Others hold it for moments; a frozen process
   * holds it until the broker misses its heartbeats. Default 60,000.
   */
  readonly patienceMs?: number;
}

const defaultPatienceMs = 60_000;
const pollMs = { min: 5, max: 100 };
/** Usually there is one. */
const maxMessages = 100;
/** Time limit for one answer of the broker, in milliseconds. */
const answerMs = 5_000;
/** Each reading counts as a delivery: the message is replaced before a delivery limit of the queue or a policy ends it. */
const renewAfterDeliveries = 1_000;
/** Replaces a lost record: the stream is older than the new record. */
const lost: StreamRecord = { generation: 0, isOlder: true, identity: null, epoch: 0, halts: [] };

export class StreamRecordKeeper {
  readonly #options: StreamRecordOptions;
  /** Why the last attempt to read or change the record failed; null if it succeeded. */
  trouble: string | null = null;
  /** What to do about the trouble, with which it ends, where the broker refuses; else null. */
  remedy: string | null = null;

  constructor(options: StreamRecordOptions) {
    this.#options = options;
  }

  /** Null: there is no record, or it cannot be read (`trouble`). @throws UnavailableError when the broker is unavailable. */
  read(): Promise<StreamRecord | null> {
    return this.change(() => null);
  }

  /**
   * `next` returns the new record, or null to keep it. Resolves to the record afterwards.
   * @throws UnavailableError when the broker is unavailable, or blocks publishes.
   */
  async change(next: (record: StreamRecord | null) => StreamRecord | null): Promise<StreamRecord | null> {
    const { source, stream } = this.#options;
    let found: StreamRecord | null = null;
    try {
      return await withChannel(source, async (channel) => {
        const messages = await this.#take(channel, recordName(stream));
        found = best(messages) ?? lost;
        const put = await this.#replace(messages, found, next(found)).catch((error: unknown) => {
          for (const message of messages) channel.nack(message, false, true);
          throw error;
        });
        for (const message of messages) put === null ? channel.nack(message, false, true) : channel.ack(message);
        this.remedy = null;
        this.trouble = messages.length === 0 && put === null ? `queue ${recordName(stream)} is empty` : null;
        return put ?? found;
      });
    } catch (error) {
      if (error instanceof UnavailableError) throw error;
      const code = replyCodeOf(error);
      if (code !== replyCodes.notFound && code !== replyCodes.accessRefused) {
        throw refused(`the record of ${stream} cannot be asked for`, error);
      }
      this.trouble = brokerWords(error);
      this.remedy = brokerAnswer(error).remedy;
      return found;
    }
  }

  /** Resolves to the new record, or null if it was kept. */
  async #replace(messages: readonly GetMessage[], found: StreamRecord, wanted: StreamRecord | null): Promise<StreamRecord | null> {
    const { source, publishing = source, stream } = this.#options;
    if (wanted !== null) {
      if (await publish(publishing, stream, wanted)) return wanted;
      throw new UnavailableError(`exchange ${recordName(stream)} has no queue: run \`inorder topology apply\``);
    }
    const isWorn = messages.some(({ properties }) => Number(properties.headers?.['x-delivery-count']) >= renewAfterDeliveries);
    return isWorn && (await publish(publishing, stream, found).catch(() => false)) ? found : null;
  }

  async #take(channel: ConfirmChannel, queue: string): Promise<readonly GetMessage[]> {
    const {
      source: { time },
      patienceMs = defaultPatienceMs,
    } = this.#options;
    const giveUpAtMs = time.nowMs() + patienceMs;
    for (const messages: GetMessage[] = []; ; ) {
      const message = await inTime(time, channel.get(queue), 'asked for a record');
      if (message !== false && messages.push(message) < maxMessages) continue;
      if (messages.length > 0 || time.nowMs() >= giveUpAtMs) return messages;
      await sleep(time, pollMs.min + time.random() * (pollMs.max - pollMs.min));
    }
  }
}

/**
 * Publishes the first record of a stream, after `makeQueue` has declared its queue. If the user may not write, no queue is
 * declared: every start would wait for a record in the empty queue.
 */
export async function beginRecord(
  publishing: PublishingSource,
  stream: string,
  isOlder: boolean,
  makeQueue: () => Promise<boolean>,
): Promise<void> {
  const first = { ...lost, isOlder };
  await publishing.ready();
  try {
    if (await publish(publishing, stream, first)) return;
    if (await makeQueue()) await publish(publishing, stream, first);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    // A broker that is short of memory needs workers to start: the next start makes the record.
    if (error instanceof UnavailableError || replyCodeOf(error) === replyCodes.accessRefused) return;
    throw refused(`the record of ${stream} cannot be begun`, error);
  }
}

/** Resolves to whether a queue has it. @throws UnavailableError when the broker blocks publishes. */
async function publish(publishing: PublishingSource, stream: string, record: StreamRecord): Promise<boolean> {
  if (publishing.blocked != null) throw new UnavailableError(`the broker takes no publishes: ${publishing.blocked}`);
  return withChannel(publishing, async (channel) => {
    let isReturned = false;
    channel.once('return', () => (isReturned = true));
    channel.publish(recordName(stream), '', Buffer.from(JSON.stringify(record)), {
      persistent: true,
      mandatory: true,
      contentType: 'application/json',
    });
    await inTime(publishing.time, channel.waitForConfirms(), 'given a record');
    return !isReturned;
  });
}

/** Lends a separate channel. If the broker closes it, rejects with the reason. */
async function withChannel<T>(source: ConnectionSource, use: (channel: ConfirmChannel) => Promise<T>): Promise<T> {
  const connection = await source.ready();
  const channel = await inTime(source.time, connection.createConfirmChannel(), 'asked for a channel');
  let refusedBy: Error | null = null;
  channel.on('error', (error: Error) => (refusedBy = error));
  const closing = () => closeChannel(channel, source.time).catch(() => undefined);
  try {
    const result = await use(channel);
    await closing();
    return result;
  } catch (error) {
    // Not awaited: a broker that blocks publishes does not answer this either.
    void closing();
    throw refusedBy ?? error;
  }
}

async function inTime<T>(time: Time, answer: Promise<T>, asked: string): Promise<T> {
  const given = await within(
    time,
    answer.then((value) => ({ value })),
    answerMs,
  );
  if (given === null) throw new UnavailableError(`the broker does not answer in ${answerMs / 1_000} s, ${asked}`);
  return given.value;
}

function best(messages: readonly GetMessage[]): StreamRecord | null {
  const records = messages.flatMap(({ content }) => parse(content.toString()));
  return records.reduce<StreamRecord | null>((one, other) => (one === null || knowsMore(other, one) ? other : one), null);
}

function knowsMore(one: StreamRecord, other: StreamRecord): boolean {
  if (one.generation !== other.generation) return one.generation > other.generation;
  if (one.halts.length !== other.halts.length) return one.halts.length > other.halts.length;
  return one.epoch > other.epoch || (one.epoch === other.epoch && one.isOlder);
}

/** Empty for a message that is not a record: it is removed with the next change. */
function parse(text: string): readonly StreamRecord[] {
  try {
    const { generation, isOlder, identity, epoch, halts, searchedUntilMs } = JSON.parse(text) as StreamRecord;
    const isRecord =
      Number.isSafeInteger(generation) &&
      Number.isSafeInteger(epoch) &&
      Array.isArray(halts) &&
      (identity === null || typeof identity === 'string');
    if (!isRecord) return [];
    const record = { generation, isOlder: isOlder === true, identity, epoch, halts };
    return [Number.isSafeInteger(searchedUntilMs) ? { ...record, searchedUntilMs } : record];
  } catch {
    return [];
  }
}

/**
 * The broker's side of which store a stream has: one message in a queue of its own, which nobody consumes. Whoever reads or
 * changes it takes it out, and gives it back or puts another in its place, so that of many only one does at a time, and a
 * process that dies meanwhile leaves what was there. Where that leaves two, or two begin a stream at once, the one that knows more counts.
 *
 * Needs the permission to read the queue and, to change the record, to write to the exchange; without them there is no record.
 */
import type { ConfirmChannel, GetMessage } from 'amqplib';
import { ConfigError, UnavailableError } from '../errors.ts';
import { sleep, type Time, within } from '../time.ts';
import { brokerWords, replyCodeOf, replyCodes } from './refusal.ts';
import type { ConnectionSource } from './scratch-channel.ts';
import { closeChannel } from './time-limit.ts';
import { recordName } from './topology-plan.ts';

export interface StreamRecord {
  /** How often an operator has said which store the stream has: what was written before the last time does not count. */
  readonly generation: number;
  /** The stream is older than its record, so that an empty store is not a new one. */
  readonly isOlder: boolean;
  /** Of the store; null until a worker has begun with one. */
  readonly identity: string | null;
  /** The highest epoch that is known to have been handed out; it may lag a little. */
  readonly epoch: number;
  readonly halts: readonly { readonly shard: number | null; readonly detail: string; readonly at: string }[];
}

/** A broker short of memory takes nothing more from a connection that publishes, acknowledgements included. */
export interface PublishingSource extends ConnectionSource {
  /** Why it takes no publishes, where that is known already; null or undefined: it may. */
  readonly blocked?: string | null;
}

export interface StreamRecordOptions {
  /** What is read and given back passes here. */
  readonly source: ConnectionSource;
  /** What is published passes here. Default: `source`, which then may be blocked. */
  readonly publishing?: PublishingSource;
  readonly stream: string;
  /**
   * How long nothing may be seen of a record before there is none, in milliseconds. Others have it for moments; one that is
   * frozen has it until the broker misses its heartbeats. Default 60,000.
   */
  readonly patienceMs?: number;
}

const defaultPatienceMs = 60_000;
const pollMs = { min: 5, max: 100 };
/** One, as a rule. */
const maxMessages = 100;
/** How long the broker may take for one answer, in milliseconds. */
const answerMs = 5_000;
/** Whoever reads gives back, which counts as a delivery: a new message goes in its place before a limit of the queue or a policy ends it. */
const renewAfterDeliveries = 1_000;
/** In place of a record that was lost: the stream is older than what will be known of it. */
const lost: StreamRecord = { generation: 0, isOlder: true, identity: null, epoch: 0, halts: [] };

export class StreamRecordKeeper {
  readonly #options: StreamRecordOptions;
  /** Why the record cannot be read or not be changed, as of the last attempt; null where it can. */
  trouble: string | null = null;

  constructor(options: StreamRecordOptions) {
    this.#options = options;
  }

  /** Null: there is none, or it cannot be read (`trouble`). @throws UnavailableError when the broker is unavailable. */
  read(): Promise<StreamRecord | null> {
    return this.change(() => null);
  }

  /**
   * `next` answers what is to be there instead, or null to leave it. Resolves to what is there then.
   * @throws UnavailableError when the broker is unavailable, or takes no publishes.
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
        this.trouble = messages.length === 0 && put === null ? `queue ${recordName(stream)} is empty` : null;
        return put ?? found;
      });
    } catch (error) {
      if (error instanceof UnavailableError) throw error;
      const code = replyCodeOf(error);
      if (code !== replyCodes.notFound && code !== replyCodes.accessRefused) {
        throw new UnavailableError(`the record of ${stream} cannot be asked for: ${brokerWords(error)}`, { cause: error });
      }
      this.trouble = brokerWords(error);
      return found;
    }
  }

  /** Resolves to what is in its place, or null where it stays. */
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
 * Puts the first record of a stream there, once `makeQueue` has made the queue for it, if it may. Where the user may not write, none is
 * made: a queue that stays empty would be waited for at every start.
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
    // A broker that is short of memory needs workers that start: the next one begins the record.
    if (error instanceof UnavailableError || replyCodeOf(error) === replyCodes.accessRefused) return;
    throw new UnavailableError(`the record of ${stream} cannot be begun: ${brokerWords(error)}`, { cause: error });
  }
}

/** Resolves to whether a queue has it. @throws UnavailableError when the broker takes no publishes. */
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

/** Lends a channel of its own. Where the broker closed it, it rejects with why. */
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
    // Nothing waits for it: a broker that takes no publishes does not answer this either.
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

/** None where somebody else has put something there: it is taken out with the next change. */
function parse(text: string): readonly StreamRecord[] {
  try {
    const { generation, isOlder, identity, epoch, halts } = JSON.parse(text) as StreamRecord;
    const isRecord =
      Number.isSafeInteger(generation) &&
      Number.isSafeInteger(epoch) &&
      Array.isArray(halts) &&
      (identity === null || typeof identity === 'string');
    return isRecord ? [{ generation, isOlder: isOlder === true, identity, epoch, halts }] : [];
  } catch {
    return [];
  }
}

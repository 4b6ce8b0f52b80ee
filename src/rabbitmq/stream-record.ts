/**
 * The broker's side of which store a stream has: one message in a queue of its own, which nobody consumes. Whoever reads or
 * changes it takes it out, and gives it back or puts another in its place, so that of many only one does at a time, and a
 * process that dies meanwhile leaves what was there. Where that leaves two, or two begin a stream at once, the one that knows more counts.
 *
 * Needs the permission to read the queue and, to change the record, to write to the exchange; without them there is no record.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ConfirmChannel, GetMessage } from 'amqplib';
import { ConfigError, UnavailableError } from '../errors.ts';
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

export interface StreamRecordOptions {
  readonly source: ConnectionSource;
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

export class StreamRecordKeeper {
  readonly #options: StreamRecordOptions;
  /** Why the record cannot be read or not be changed, as of the last attempt; null where it can. */
  trouble: string | null = null;

  constructor(options: StreamRecordOptions) {
    this.#options = options;
  }

  /** Null: there is none, or it cannot be read (`trouble`). @throws UnavailableError when the broker is away. */
  read(): Promise<StreamRecord | null> {
    return this.change(() => null);
  }

  /** `next` answers what is to be there instead, or null to leave it. Resolves to what is there then. @throws UnavailableError */
  async change(next: (record: StreamRecord | null) => StreamRecord | null): Promise<StreamRecord | null> {
    const { source, stream } = this.#options;
    const connection = await source.ready();
    let refusedBy: Error | null = null;
    let channel: ConfirmChannel | null = null;
    let found: StreamRecord | null = null;
    try {
      channel = await connection.createConfirmChannel();
      channel.on('error', (error: Error) => (refusedBy = error));
      const messages = await this.#take(channel, recordName(stream));
      found = best(messages);
      const wanted = next(found);
      if (wanted === null) for (const message of messages) channel.nack(message, false, true);
      else if (await publish(channel, stream, wanted)) for (const message of messages) channel.ack(message);
      else throw new UnavailableError(`exchange ${recordName(stream)} has no queue: run \`inorder topology apply\``);
      this.trouble = null;
      return wanted ?? found;
    } catch (error) {
      const cause = refusedBy ?? (error as Error);
      const code = replyCodeOf(cause);
      if (code !== replyCodes.notFound && code !== replyCodes.accessRefused) {
        throw new UnavailableError(`the record of ${stream} cannot be asked for: ${brokerWords(cause)}`, { cause });
      }
      this.trouble = brokerWords(cause);
      return found;
    } finally {
      if (channel !== null) await closeChannel(channel);
    }
  }

  async #take(channel: ConfirmChannel, queue: string): Promise<readonly GetMessage[]> {
    const giveUpAtMs = performance.now() + (this.#options.patienceMs ?? defaultPatienceMs);
    for (const messages: GetMessage[] = []; ; ) {
      const message = await channel.get(queue);
      if (message !== false && messages.push(message) < maxMessages) continue;
      if (messages.length > 0 || performance.now() >= giveUpAtMs) return messages;
      await sleep(pollMs.min + Math.random() * (pollMs.max - pollMs.min));
    }
  }
}

/**
 * Puts the first record of a stream there, once `makeQueue` has made the queue for it, if it may. Where the user may not write, none is
 * made: a queue that stays empty would be waited for at every start.
 */
export async function beginRecord(source: ConnectionSource, stream: string, isOlder: boolean, makeQueue: () => Promise<boolean>): Promise<void> {
  const first = { generation: 0, isOlder, identity: null, epoch: 0, halts: [] };
  const connection = await source.ready();
  let refusedBy: Error | null = null;
  const channel = await connection.createConfirmChannel();
  channel.on('error', (error: Error) => (refusedBy = error));
  try {
    if (await publish(channel, stream, first)) return;
    if (await makeQueue()) await publish(channel, stream, first);
  } catch (error) {
    const cause = refusedBy ?? (error as Error);
    if (error instanceof ConfigError) throw error;
    if (replyCodeOf(cause) === replyCodes.accessRefused) return;
    throw new UnavailableError(`the record of ${stream} cannot be begun: ${brokerWords(cause)}`, { cause });
  } finally {
    await closeChannel(channel);
  }
}

/** Resolves to whether a queue has it. */
async function publish(channel: ConfirmChannel, stream: string, record: StreamRecord): Promise<boolean> {
  let isReturned = false;
  channel.once('return', () => (isReturned = true));
  channel.publish(recordName(stream), '', Buffer.from(JSON.stringify(record)), { persistent: true, mandatory: true, contentType: 'application/json' });
  await channel.waitForConfirms();
  return !isReturned;
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
    const isRecord = Number.isSafeInteger(generation) && Number.isSafeInteger(epoch) && Array.isArray(halts) && (identity === null || typeof identity === 'string');
    return isRecord ? [{ generation, isOlder: isOlder === true, identity, epoch, halts }] : [];
  } catch {
    return [];
  }
}

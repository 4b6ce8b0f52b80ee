/**
 * The consumer of one shard queue at the broker (shard-channel.ts documents the interface). kept-channel.ts keeps its
 * channel open; this file handles deliveries and settlements.
 *
 * No delivery waits for a batch to fill: the deliveries of one socket read are dispatched in one tick of the event
 * loop, and are handed on together at the end of that tick.
 */
import type { Channel, ConsumeMessage } from 'amqplib';
import type { Log } from '../observability/log.ts';
import { within } from '../time.ts';
import type { BrokerConnection } from './connection.ts';
import { openConsumingChannel, toRawMessage } from './channels.ts';
import { KeptChannel, type OpenChannel } from './kept-channel.ts';
import { replyCodeOf, replyCodes } from './refusal.ts';
import type { OpenShardChannel, RawDelivery, ShardChannel, ShardChannelEvents } from './shard-channel.ts';

export interface ShardChannelOptions {
  readonly connection: Pick<BrokerConnection, 'current' | 'ending' | 'listen' | 'time'>;
  readonly queue: string;
  readonly shard: number;
  /** The most unacknowledged deliveries at a time. */
  readonly prefetch: number;
  readonly events: ShardChannelEvents;
  readonly log: Log;
}

const aliveTimeoutMs = 5_000;

/** Stopped, it does not cancel first: that would promote the next consumer while deliveries of this one are unsettled. */
export function createShardChannel(options: ShardChannelOptions): ShardChannel {
  const { connection, queue, shard, events, log } = options;
  let consumer: Consumer;
  const kept = new KeptChannel<Channel>({
    connection,
    log,
    purpose: { shard, queue },
    open: openConsumingChannel,
    prepare: (open) => {
      consumer = new Consumer(open, kept, options);
      return consumer.start();
    },
    opened: () => events.opened(consumer),
    lost: (_open, cause) => events.lost(consumer, cause),
    explain: (error) => whyNotConsumed(error, queue),
  });
  return kept;
}

class Consumer implements OpenShardChannel {
  readonly generation: number;
  readonly #open: OpenChannel<Channel>;
  readonly #kept: KeptChannel<Channel>;
  readonly #options: ShardChannelOptions;
  /** The deliveries of this tick of the event loop. */
  #deliveries: RawDelivery[] = [];

  constructor(open: OpenChannel<Channel>, kept: KeptChannel<Channel>, options: ShardChannelOptions) {
    this.generation = open.generation;
    this.#open = open;
    this.#kept = kept;
    this.#options = options;
  }

  async start(): Promise<void> {
    const { queue, prefetch } = this.#options;
    await this.#open.channel.prefetch(prefetch);
    // The first deliveries may come with the answer; they are handed on after this promise has resolved.
    await this.#open.channel.consume(queue, (message) => this.#arrived(message), { noAck: false });
  }

  ack(tag: number, multiple: boolean): void {
    this.#settle((channel) => channel.ack(withTag(tag), multiple));
  }

  reject(tag: number): void {
    this.#settle((channel) => channel.nack(withTag(tag), false, false));
  }

  giveBack(tag: number): void {
    this.#settle((channel) => channel.nack(withTag(tag), false, true));
  }

  async roundTrip(): Promise<boolean> {
    if (!this.#isCurrent) return false;
    try {
      // Setting the same prefetch again changes nothing, but the broker must answer on this channel.
      await this.#open.channel.prefetch(this.#options.prefetch);
      return this.#isCurrent;
    } catch {
      return false;
    }
  }

  async isAlive(): Promise<boolean> {
    return (await within(this.#options.connection.time, this.roundTrip(), aliveTimeoutMs)) === true;
  }

  abandon(cause: Error): void {
    this.#kept.drop(this.#open, cause);
  }

  get #isCurrent(): boolean {
    return this.#kept.current === this.#open;
  }

  #arrived(message: ConsumeMessage | null): void {
    const { connection, queue } = this.#options;
    if (message === null) return this.abandon(new Error(`the broker cancelled the consumer: was queue ${queue} deleted?`));
    if (this.#deliveries.length === 0) connection.time.afterTick(() => this.#endTick());
    this.#deliveries.push({ tag: message.fields.deliveryTag, redelivered: message.fields.redelivered, message: toRawMessage(message) });
  }

  #endTick(): void {
    const deliveries = this.#deliveries;
    this.#deliveries = [];
    if (this.#isCurrent) this.#options.events.delivered(this, deliveries);
  }

  #settle(act: (channel: Channel) => void): void {
    if (!this.#isCurrent) return;
    try {
      act(this.#open.channel);
    } catch (error) {
      // The channel is closing without having said so yet: the broker redelivers what was not settled.
      this.abandon(error as Error);
    }
  }
}

/** The only fields that the client reads to settle a message. */
function withTag(tag: number): ConsumeMessage {
  return { fields: { deliveryTag: tag } } as ConsumeMessage;
}

function whyNotConsumed(error: Error, queue: string): string | null {
  const code = replyCodeOf(error);
  if (code === replyCodes.notFound) return `there is no queue ${queue}: run \`inorder topology apply\``;
  if (code === replyCodes.resourceLocked) return `another connection uses queue ${queue} exclusively`;
  return null;
}

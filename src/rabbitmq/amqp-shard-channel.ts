/**
 * The consumer of one shard queue at the broker (shard-channel.ts documents the interface). kept-channel.ts keeps its
 * channel open; this file handles deliveries and settlements.
 *
 * No delivery waits for a batch to fill: the deliveries of one socket read are dispatched in one turn of the event
 * loop, and are handed on together at the end of that turn.
 */
import type { Channel, ConsumeMessage } from 'amqplib';
import type { Log } from '../observability/log.ts';
import { within } from '../time.ts';
import type { BrokerConnection } from './connection.ts';
import { openConsumingChannel, toRawMessage } from './consuming-channel.ts';
import { KeptChannel, type OpenChannel } from './kept-channel.ts';
import { brokerWords, replyCodeOf, replyCodes } from './refusal.ts';
import type { RawDelivery, ShardChannel, ShardChannelEvents } from './shard-channel.ts';

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

export function createShardChannel(options: ShardChannelOptions): ShardChannel {
  return new AmqpShardChannel(options);
}

class AmqpShardChannel implements ShardChannel {
  readonly #options: ShardChannelOptions;
  readonly #kept: KeptChannel<Channel>;

  constructor(options: ShardChannelOptions) {
    this.#options = options;
    const { connection, queue, shard, events, log } = options;
    this.#kept = new KeptChannel<Channel>({
      connection,
      log,
      purpose: { shard, queue },
      open: openConsumingChannel,
      prepare: (open) => this.#consume(open),
      opened: ({ generation }) => events.opened(generation),
      lost: ({ generation }, cause) => events.lost(generation, cause),
      explain: (error) => whyNotConsumed(error, queue),
    });
  }

  start(): void {
    this.#kept.start();
  }

  ack(generation: number, tag: number, multiple: boolean): void {
    this.#settle(generation, (channel) => channel.ack(settled(tag), multiple));
  }

  reject(generation: number, tag: number): void {
    this.#settle(generation, (channel) => channel.nack(settled(tag), false, false));
  }

  giveBack(generation: number, tag: number): void {
    this.#settle(generation, (channel) => channel.nack(settled(tag), false, true));
  }

  async roundTrip(generation: number): Promise<boolean> {
    const open = this.#kept.current;
    if (open?.generation !== generation) return false;
    try {
      // Setting the same prefetch again changes nothing, but the broker must answer on this channel.
      await open.channel.prefetch(this.#options.prefetch);
      return this.#kept.current === open;
    } catch {
      return false;
    }
  }

  async isAlive(generation: number): Promise<boolean> {
    return (await within(this.#options.connection.time, this.roundTrip(generation), aliveTimeoutMs)) === true;
  }

  abandon(generation: number, cause: Error): void {
    const open = this.#kept.current;
    if (open?.generation === generation) this.#kept.drop(open, cause);
  }

  /** Does not cancel first: that would promote the next consumer while deliveries of this one are unsettled. */
  stop(): Promise<void> {
    return this.#kept.stop();
  }

  async #consume(open: OpenChannel<Channel>): Promise<void> {
    const { queue, prefetch, connection } = this.#options;
    let turn: RawDelivery[] = [];
    const endTurn = () => {
      const deliveries = turn;
      turn = [];
      if (this.#kept.current === open) this.#options.events.delivered(open.generation, deliveries);
    };
    const arrived = (message: ConsumeMessage | null) => {
      if (message === null) {
        this.#kept.drop(open, new Error(`the broker cancelled the consumer: was queue ${queue} deleted?`));
        return;
      }
      if (turn.length === 0) connection.time.afterTurn(endTurn);
      turn.push({ tag: message.fields.deliveryTag, redelivered: message.fields.redelivered, message: toRawMessage(message) });
    };
    await open.channel.prefetch(prefetch);
    // The first deliveries may come with the answer; they are handed on after this promise has resolved.
    await open.channel.consume(queue, arrived, { noAck: false });
  }

  #settle(generation: number, act: (channel: Channel) => void): void {
    const open = this.#kept.current;
    if (open?.generation !== generation) return;
    try {
      act(open.channel);
    } catch (error) {
      // The channel is closing without having said so yet: the broker redelivers what was not settled.
      this.#kept.drop(open, error as Error);
    }
  }
}

/** The only fields that the client reads to settle a message. */
function settled(tag: number): ConsumeMessage {
  return { fields: { deliveryTag: tag } } as ConsumeMessage;
}

function whyNotConsumed(error: Error, queue: string): string | null {
  const code = replyCodeOf(error);
  if (code === replyCodes.notFound) return `there is no queue ${queue}: run \`inorder topology apply\``;
  if (code === replyCodes.accessRefused) return `the user may not read queue ${queue}: ${brokerWords(error)}`;
  if (code === replyCodes.resourceLocked) return `another connection uses queue ${queue} exclusively`;
  return null;
}

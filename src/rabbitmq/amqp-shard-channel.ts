/**
 * The consumer of one shard queue on the real broker (shard-channel.ts says what it promises).
 *
 *   closed ──connection up──▶ opening ──consuming──▶ open ──error, close, cancel, connection lost──▶ closed
 *      ▲                         │ refused                                                             │
 *      └───── back-off ──────────┴─────────────────────────────◀──────────────────────────────────────┘
 *
 * Every channel has its own generation, and everything a channel says is ignored once it is not the current
 * one. Nothing thrown in a callback reaches the client library, which would take the connection down.
 */
import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';
import type { Log } from '../observability/log.ts';
import type { BrokerConnection } from './connection.ts';
import { toRawMessage } from './raw-message.ts';
import type { RawDelivery, ShardChannel, ShardChannelEvents } from './shard-channel.ts';

export interface ShardChannelOptions {
  readonly connection: BrokerConnection;
  readonly queue: string;
  readonly shard: number;
  /** Deliveries that may be unacknowledged at a time. */
  readonly prefetch: number;
  readonly events: ShardChannelEvents;
  readonly log: Log;
}

const reopenMs = { first: 200, last: 10_000 };
const closeTimeoutMs = 5_000;
const aliveTimeoutMs = 5_000;

interface OpenChannel {
  readonly generation: number;
  readonly channel: Channel;
  pending: RawDelivery[];
}

export function createShardChannel(options: ShardChannelOptions): ShardChannel {
  return new AmqpShardChannel(options);
}

class AmqpShardChannel implements ShardChannel {
  readonly #options: ShardChannelOptions;
  #open: OpenChannel | null = null;
  #generation = 0;
  #opening = false;
  #failures = 0;
  #retry: NodeJS.Timeout | null = null;
  #stopListening: (() => void) | null = null;
  #stopped = false;

  constructor(options: ShardChannelOptions) {
    this.#options = options;
  }

  start(): void {
    this.#stopListening = this.#options.connection.listen({
      up: () => void this.#tryOpen(),
      lost: (cause) => this.#lose(this.#open, cause),
    });
  }

  ack(generation: number, tag: number, multiple: boolean): void {
    this.#settle(generation, (channel) => channel.ack(settled(tag), multiple));
  }

  reject(generation: number, tag: number): void {
    this.#settle(generation, (channel) => channel.nack(settled(tag), false, false));
  }

  async isAlive(generation: number): Promise<boolean> {
    const open = this.#open;
    if (open?.generation !== generation) return false;
    // Setting the same prefetch again changes nothing and has to be answered on this channel.
    const answered = open.channel.prefetch(this.#options.prefetch).then(
      () => true,
      () => false,
    );
    return (await within(answered, aliveTimeoutMs)) === true && this.#open === open;
  }

  abandon(generation: number, cause: Error): void {
    const open = this.#open;
    if (open?.generation !== generation) return;
    this.#lose(open, cause);
    open.channel.close().catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#stopListening?.();
    if (this.#retry !== null) clearTimeout(this.#retry);
    const open = this.#open;
    this.#open = null;
    // No cancel: it would promote the next consumer while deliveries of this one are still unsettled.
    if (open !== null) await within(open.channel.close().catch(() => undefined), closeTimeoutMs);
  }

  async #tryOpen(): Promise<void> {
    const { connection } = this.#options;
    const model = connection.current;
    if (this.#stopped || this.#opening || this.#open !== null || model === null) return;
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#retry = null;
    this.#opening = true;
    try {
      await this.#openOn(model);
      this.#failures = 0;
    } catch (error) {
      this.#retryLater(error as Error);
    } finally {
      this.#opening = false;
    }
    if (this.#open === null && this.#retry === null && !this.#stopped && connection.current !== null) this.#retryLater(null);
  }

  async #openOn(model: ChannelModel): Promise<void> {
    const { queue, prefetch, events } = this.#options;
    const channel = await model.createChannel();
    const open: OpenChannel = { generation: ++this.#generation, channel, pending: [] };
    let closedBy: Error | null = null;
    channel.on('error', (error: Error) => {
      closedBy = error;
      this.#lose(open, error);
    });
    channel.on('close', () => this.#lose(open, closedBy ?? new Error('the channel was closed')));
    try {
      await channel.prefetch(prefetch);
      if (this.#stopped) throw new Error('stopped');
      this.#open = open;
      events.opened(open.generation);
      await channel.consume(queue, (message) => this.#arrived(open, message), { noAck: false });
    } catch (error) {
      this.#lose(open, closedBy ?? (error as Error));
      channel.close().catch(() => undefined);
      throw closedBy ?? error;
    }
    // The loss of a channel while it was being opened has been said to nobody else.
    if (this.#open !== open && !this.#stopped) throw closedBy ?? new Error('the channel was lost while it was being opened');
  }

  #arrived(open: OpenChannel, message: ConsumeMessage | null): void {
    if (this.#open !== open) return;
    if (message === null) {
      this.#lose(open, new Error(`the broker cancelled the consumer: was queue ${this.#options.queue} deleted?`));
      open.channel.close().catch(() => undefined);
      return;
    }
    // Everything that one read of the socket brings is dispatched before the next turn: that is a batch.
    if (open.pending.length === 0) setImmediate(() => this.#deliver(open));
    open.pending.push({ tag: message.fields.deliveryTag, redelivered: message.fields.redelivered, message: toRawMessage(message) });
  }

  #deliver(open: OpenChannel): void {
    const deliveries = open.pending;
    open.pending = [];
    if (this.#open === open) this.#options.events.delivered(open.generation, deliveries);
  }

  #settle(generation: number, act: (channel: Channel) => void): void {
    const open = this.#open;
    if (open?.generation !== generation) return;
    try {
      act(open.channel);
    } catch (error) {
      // The channel closed and has not said so yet: the broker delivers again what was not settled.
      this.#lose(open, error as Error);
    }
  }

  #lose(open: OpenChannel | null, cause: Error): void {
    if (open === null || this.#open !== open) return;
    this.#open = null;
    this.#options.events.lost(open.generation, cause);
    if (!this.#opening) this.#retryLater(null);
  }

  #retryLater(cause: Error | null): void {
    if (this.#stopped || this.#retry !== null) return;
    const { log, queue, shard } = this.#options;
    this.#failures++;
    if (cause !== null) log.warn({ shard, queue, cause: cause.message }, 'the queue cannot be consumed; trying again');
    const ceilingMs = Math.min(reopenMs.last, reopenMs.first * 2 ** Math.min(this.#failures - 1, 16));
    this.#retry = setTimeout(() => {
      this.#retry = null;
      void this.#tryOpen();
    }, ceilingMs * (0.5 + Math.random() / 2));
  }
}

/** All that the client reads of a message when it is settled. */
function settled(tag: number): ConsumeMessage {
  return { fields: { deliveryTag: tag } } as ConsumeMessage;
}

async function within<T>(promise: Promise<T>, timeoutMs: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), timeoutMs);
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

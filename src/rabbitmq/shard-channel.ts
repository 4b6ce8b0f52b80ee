/**
 * The consumer of one shard, as the worker sees it, and the settling of its deliveries. Each channel that is opened is an
 * `OpenShardChannel` of its own; calls on one that is lost are ignored, because a tag of a dead channel would settle another message.
 */
import type { RawMessage } from '../events/event.ts';

export interface RawDelivery {
  readonly tag: number;
  readonly redelivered: boolean;
  readonly message: RawMessage;
}

export interface ShardChannelEvents {
  /** A channel is open and consuming, or a standby. Called before any of its deliveries. */
  opened(channel: OpenShardChannel): void;
  /** The deliveries of one tick of the event loop, in order. */
  delivered(channel: OpenShardChannel, deliveries: readonly RawDelivery[]): void;
  /** The channel is gone: closed by either side, cancelled, or the connection was lost. Another one is opened with back-off. */
  lost(channel: OpenShardChannel, cause: Error): void;
}

/** Deliveries are settled by their tags, which count from 1. */
export interface OpenShardChannel {
  /** The number of the channel, from 1, per shard. */
  readonly generation: number;
  /** Acknowledges one delivery, or with `multiple` also all before it. */
  ack(tag: number, multiple: boolean): void;
  /** Rejects without requeueing: to the dead-letter exchange. */
  reject(tag: number): void;
  /** Requeues a delivery at the head of the queue. Several keep their order. */
  giveBack(tag: number): void;
  /** Resolves true once the broker has answered, after everything that it had sent before; false when the channel is gone. */
  roundTrip(): Promise<boolean>;
  /** Asks the broker whether the channel is alive: false when it is not, or when there is no answer in time. */
  isAlive(): Promise<boolean>;
  /** Closes the channel, which is then lost. */
  abandon(cause: Error): void;
}

export interface ShardChannel {
  start(): void;
  /** Closes the channel for good, without a cancel: unacknowledged deliveries return to the head of the queue, in order. */
  stop(): Promise<void>;
}

export type SettlingChannel = Pick<OpenShardChannel, 'ack' | 'reject' | 'giveBack'>;

/**
 * Settles deliveries of one channel with as few frames as the protocol allows: `multiple` covers every lower
 * tag of the channel, so it is used only up to the highest tag below which everything is settled; what lies
 * above an unsettled tag is acknowledged by itself.
 *
 *   tags      1 2 3 4 5 6      3 is held
 *   settled   x x . x . x  →   ack(2, multiple) ack(4) ack(6)
 *   then 3 and 5           →   ack(5, multiple)
 */
export class Acknowledger {
  readonly #channel: SettlingChannel;
  /** The last tag that has arrived. */
  #last = 0;
  /** In ascending order. The unsettled tags are kept because the number of settled tags above a held one has no bound. */
  readonly #unsettled = new Set<number>();
  #toAck: number[] = [];

  constructor(channel: SettlingChannel) {
    this.#channel = channel;
  }

  /** Call for each delivery as it comes, before it is settled. */
  arrived(tag: number): void {
    this.#last = tag;
    this.#unsettled.add(tag);
  }

  /** Takes effect with the next `flush`. */
  ack(tag: number): void {
    this.#unsettled.delete(tag);
    this.#toAck.push(tag);
  }

  /** Sent at once: the rejects of an entity must leave in the order in which they were decided. */
  reject(tag: number): void {
    this.#unsettled.delete(tag);
    this.#channel.reject(tag);
  }

  /** Back to the queue, at once. */
  giveBack(tag: number): void {
    this.#unsettled.delete(tag);
    this.#channel.giveBack(tag);
  }

  flush(): void {
    if (this.#toAck.length === 0) return;
    const low = this.#low();
    let covered = 0;
    let count = 0;
    for (const tag of this.#toAck) {
      if (tag > low) continue;
      count++;
      if (tag > covered) covered = tag;
    }
    if (count > 0) this.#channel.ack(covered, count > 1);
    if (count < this.#toAck.length) {
      for (const tag of this.#toAck) if (tag > low) this.#channel.ack(tag, false);
    }
    this.#toAck = [];
  }

  /** Every tag up to here is settled. */
  #low(): number {
    for (const tag of this.#unsettled) return tag - 1;
    return this.#last;
  }
}

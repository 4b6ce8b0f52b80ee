/**
 * The consumer of one shard, as the worker sees it. Each channel that is opened is an `OpenShardChannel` of its own; calls on one
 * that is lost are ignored, because a tag of a dead channel would settle another message.
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

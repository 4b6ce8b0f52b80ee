/**
 * The consumer of one shard, as the worker sees it. Each opened channel begins a new generation;
 * deliveries carry their generation, and calls with an older one are ignored, because a tag of a dead channel
 * would settle another message.
 */
import type { RawMessage } from '../events/event.ts';

export interface RawDelivery {
  readonly tag: number;
  readonly redelivered: boolean;
  readonly message: RawMessage;
}

export interface ShardChannelEvents {
  /** A channel is open and consuming, or a standby. Called before any delivery of that generation. */
  opened(generation: number): void;
  /** The deliveries of one turn of the event loop, in order. */
  delivered(generation: number, deliveries: readonly RawDelivery[]): void;
  /** The channel is gone: closed by either side, cancelled, or the connection was lost. It is reopened with back-off. */
  lost(generation: number, cause: Error): void;
}

export interface ShardChannel {
  start(): void;
  /** Acknowledges one delivery, or with `multiple` also all before it. Ignored when `generation` is not the current one. */
  ack(generation: number, tag: number, multiple: boolean): void;
  /** Rejects without requeueing: to the dead-letter exchange. */
  reject(generation: number, tag: number): void;
  /** Requeues a delivery at the head of the queue. Several keep their order. */
  giveBack(generation: number, tag: number): void;
  /** Resolves true once the broker has answered, after everything that it had sent before; false when the channel is gone. */
  roundTrip(generation: number): Promise<boolean>;
  /** Asks the broker whether the channel is alive: false when it is not, or when there is no answer in time. */
  isAlive(generation: number): Promise<boolean>;
  /** Abandons the current generation (a fenced owner) and opens another after a back-off. */
  abandon(generation: number, cause: Error): void;
  /** Closes the channel for good, without a cancel: unacknowledged deliveries return to the head of the queue, in order. */
  stop(): Promise<void>;
}

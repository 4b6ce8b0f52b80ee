/**
 * The life of one shard's consumer, as the worker sees it. Each time a channel is opened a new generation
 * begins; deliveries carry the generation that brought them, and what is said to an older one is dropped,
 * because a tag of a dead channel would settle another message.
 */
import type { RawMessage } from '../events/event.ts';

export interface RawDelivery {
  readonly tag: number;
  readonly redelivered: boolean;
  readonly message: RawMessage;
}

export interface ShardChannelEvents {
  /** A channel is open and consuming (or standing by). Called before any delivery of that generation. */
  opened(generation: number): void;
  /** Everything that arrived in one turn of the event loop, in order. */
  delivered(generation: number, deliveries: readonly RawDelivery[]): void;
  /** The channel is gone: closed by either side, cancelled, or the connection was lost. It is reopened with back-off. */
  lost(generation: number, cause: Error): void;
}

export interface ShardChannel {
  start(): void;
  /** Settles one delivery, or with `multiple` it and all before it. Dropped when `generation` is not the current one. */
  ack(generation: number, tag: number, multiple: boolean): void;
  /** Rejects without requeueing: to the dead-letter exchange. */
  reject(generation: number, tag: number): void;
  /** Gives a delivery back to the head of the queue, from where it comes again. Several keep their order. */
  giveBack(generation: number, tag: number): void;
  /** The broker answers on this channel, however late: resolves true behind everything that it has sent before, false when the channel is gone. */
  roundTrip(generation: number): Promise<boolean>;
  /** Asks the broker whether the channel still lives: resolves false when it does not, or does not say so in time. */
  isAlive(generation: number): Promise<boolean>;
  /** Gives the current generation up (a fenced owner) and opens another after a back-off. */
  abandon(generation: number, cause: Error): void;
  /** Closes the channel without a cancel: what is unacked returns to the head of the queue, in order. Final. */
  stop(): Promise<void>;
}

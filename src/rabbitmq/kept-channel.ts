/**
 * One channel that is kept open on a connection that comes and goes.
 *
 *   none ──connection is there──▶ opening ──prepared──▶ open ──error, close, cancel, connection lost, dropped──▶ none
 *    ▲                               │ refused                                                                    │
 *    └────────── back-off ───────────┴─────────────────────────────────◀───────────────────────────────────────┘
 *
 * Guarantees that `opened` and `lost` are each called once per channel, in this order, and not at all for a channel that
 * was never open; that nothing is called for a channel after its end; and that the end of a channel affects
 * neither the connection nor other channels. Its owner decides what is sent on it.
 */
import type { Channel, ChannelModel } from 'amqplib';
import type { Log } from '../observability/log.ts';
import { backOffMs, type Time, type Timer, within } from '../time.ts';
import type { BrokerConnection } from './connection.ts';
import { brokerWords } from './refusal.ts';
import { closeChannel } from './channels.ts';

export interface OpenChannel<C extends Channel> {
  /** The number of the channel, from 1, per owner. */
  readonly generation: number;
  readonly channel: C;
}

export interface KeptChannelOptions<C extends Channel> {
  readonly connection: Pick<BrokerConnection, 'current' | 'ending' | 'listen' | 'time'>;
  readonly log: Log;
  /** What the channel is for, in the log. */
  readonly purpose: Readonly<Record<string, string | number>>;
  readonly open: (connection: ChannelModel) => Promise<C>;
  /** Must succeed before the channel counts as open. */
  readonly prepare?: (open: OpenChannel<C>) => Promise<void>;
  readonly opened: (open: OpenChannel<C>) => void;
  readonly lost: (open: OpenChannel<C>, cause: Error) => void;
  /** Turns the broker's refusal into a sentence that names the remedy; null: the broker's own words. */
  readonly explain?: (error: Error) => string | null;
}

const reopen = { initialMs: 200, maxMs: 10_000, leastShare: 0.5 };
/** A channel that ends sooner does not reset the back-off. */
const stableAfterMs = 5_000;
const stopTimeoutMs = 6_000;

/** From the attempt to open a channel until its end. */
interface Life<C extends Channel> {
  readonly generation: number;
  open: OpenChannel<C> | null;
  announcedAtMs: number | null;
  refusedBy: Error | null;
  ended: Error | null;
  /** Settles when the channel is open or has ended; never rejects. */
  opening: Promise<void>;
}

export class KeptChannel<C extends Channel> {
  readonly #options: KeptChannelOptions<C>;
  readonly #time: Time;
  #life: Life<C> | null = null;
  #generation = 0;
  #failures = 0;
  #retry: Timer | null = null;
  #stopListening: (() => void) | null = null;
  /** Settles when the last dropped channel is closed. */
  #closing: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: KeptChannelOptions<C>) {
    this.#options = options;
    this.#time = options.connection.time;
  }

  /** The open channel, or null. */
  get current(): OpenChannel<C> | null {
    return this.#life === null || this.#life.announcedAtMs === null ? null : this.#life.open;
  }

  start(): void {
    this.#stopListening = this.#options.connection.listen({
      up: () => this.#tryOpen(),
      lost: (cause) => {
        this.#failures = 0;
        if (this.#life !== null) this.#end(this.#life, cause);
      },
    });
  }

  /** Closes this channel, if it has not ended, and opens another one after a back-off. */
  drop(open: OpenChannel<C>, cause: Error): void {
    if (this.#life?.generation === open.generation) this.#end(this.#life, cause);
  }

  /** Closes the channel and calls nothing more. Resolves when the broker has confirmed it, or does not answer. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#stopListening?.();
    this.#retry?.cancel();
    const life = this.#life;
    this.#life = null;
    if (life !== null) {
      life.ended = new Error('stopped');
      if (life.open !== null) this.#closing = closeChannel(life.open.channel, this.#time);
    }
    await within(this.#time, Promise.all([this.#closing, life?.opening]), stopTimeoutMs);
  }

  #tryOpen(): void {
    const { connection } = this.#options;
    if (this.#stopped || this.#life !== null || connection.current === null) return;
    this.#retry?.cancel();
    this.#retry = null;
    const life: Life<C> = {
      generation: ++this.#generation,
      open: null,
      announcedAtMs: null,
      refusedBy: null,
      ended: null,
      opening: Promise.resolve(),
    };
    this.#life = life;
    life.opening = this.#open(life, connection.current);
  }

  async #open(life: Life<C>, connection: ChannelModel): Promise<void> {
    const { open, prepare, opened } = this.#options;
    let channel: C | null = null;
    try {
      channel = await open(connection);
      this.#watch(life, channel);
      life.open = { generation: life.generation, channel };
      if (life.ended === null) await prepare?.(life.open);
      if (life.ended !== null) throw life.ended;
      life.announcedAtMs = this.#time.nowMs();
      opened(life.open);
    } catch (error) {
      this.#end(life, life.refusedBy ?? (error as Error));
      if (channel !== null) await closeChannel(channel, this.#time);
    }
  }

  #watch(life: Life<C>, channel: C): void {
    channel.on('error', (error: Error) => {
      life.refusedBy = error;
    });
    // Before the client library's own listener, which rejects every unconfirmed publish as if it had been refused.
    channel.prependListener('close', () => {
      this.#end(life, life.refusedBy ?? this.#options.connection.ending ?? new Error('the channel was closed'));
    });
  }

  #end(life: Life<C>, cause: Error): void {
    if (life.ended !== null) return;
    life.ended = cause;
    const { log, purpose, explain } = this.#options;
    if (this.#life === life) this.#life = null;
    if (life.announcedAtMs !== null && this.#time.nowMs() - life.announcedAtMs > stableAfterMs) this.#failures = 0;
    this.#retryLater();
    if (life.announcedAtMs !== null && life.open !== null) {
      this.#closing = closeChannel(life.open.channel, this.#time);
      this.#tellLost(life.open, cause);
    } else if (this.#options.connection.current !== null) {
      log.warn({ ...purpose, cause: explain?.(cause) ?? brokerWords(cause) }, 'the channel cannot be opened; trying again');
    }
  }

  #tellLost(open: OpenChannel<C>, cause: Error): void {
    try {
      this.#options.lost(open, cause);
    } catch (error) {
      // A bug of the owner must end the process, and not be caught by the client library, which is the caller here.
      this.#time.afterTick(() => {
        throw error;
      });
    }
  }

  #retryLater(): void {
    if (this.#stopped || this.#retry !== null) return;
    this.#failures++;
    this.#retry = this.#time.after(backOffMs(reopen, this.#failures, this.#time), () => {
      this.#retry = null;
      this.#tryOpen();
    });
  }
}

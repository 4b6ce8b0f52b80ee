/**
 * Notices a shard that is given nothing although its queue has messages: a broker may wedge a queue with a single active
 * consumer, for instance after a consumer time-out. What looks so twice in a row is consumed again on another channel,
 * and a channel that is dead without having said so is at once. A busy shard is not looked at, nor one that
 * waits for what it has given back for want of memory, nor a standby, which has been given nothing yet: that its queue has messages is
 * the business of whoever is active.
 */
import { UnavailableError } from '../errors.ts';
import type { Log } from '../observability/log.ts';
import type { Time, Timer } from '../time.ts';

export interface WatchedShard {
  readonly shard: number;
  readonly queue: string;
  /** Deliveries on the present channel, all of them settled; null when it has had none, or some are not settled or were given back and have not come again. */
  settledDeliveries(): number | null;
  /** Asks the broker whether the channel lives. */
  isAlive(): Promise<boolean>;
  /** Gives the channel up and consumes on another. */
  reopenChannel(cause: Error): void;
}

export interface WatchdogOptions {
  readonly shards: readonly WatchedShard[];
  /** Messages that lie ready in each queue. Rejects with `UnavailableError`. */
  readonly readyIn: (queues: readonly string[]) => Promise<ReadonlyMap<string, number>>;
  readonly intervalMs: number;
  readonly time: Time;
  readonly log: Pick<Log, 'warn'>;
  readonly onError: (error: unknown) => void;
}

interface Sight {
  readonly deliveries: number;
  readonly hadReady: boolean;
}

export class Watchdog {
  readonly #options: WatchdogOptions;
  readonly #seen = new Map<WatchedShard, Sight>();
  #timer: Timer | null = null;
  #stopped = false;

  constructor(options: WatchdogOptions) {
    this.#options = options;
  }

  start(): void {
    const { time, intervalMs } = this.#options;
    this.#timer = time.after(intervalMs, () => void this.look().finally(() => this.#stopped || this.start()));
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** Compares every shard with how it was the last time. */
  async look(): Promise<void> {
    try {
      const quiet = this.#options.shards.filter((shard) => this.#isQuiet(shard));
      if (quiet.length === 0) return;
      const ready = await this.#options.readyIn(quiet.map(({ queue }) => queue));
      for (const shard of quiet) if ((ready.get(shard.queue) ?? 0) > 0) await this.#judge(shard);
    } catch (error) {
      // A broker that is unavailable says nothing; the connection notices that by itself.
      if (!this.#stopped && !(error instanceof UnavailableError)) this.#options.onError(error);
    }
  }

  /** Nothing has come since the last look. */
  #isQuiet(shard: WatchedShard): boolean {
    const before = this.#seen.get(shard);
    const deliveries = shard.settledDeliveries();
    if (deliveries === null) {
      this.#seen.delete(shard);
      return false;
    }
    if (before?.deliveries === deliveries) return true;
    this.#seen.set(shard, { deliveries, hadReady: false });
    return false;
  }

  async #judge(shard: WatchedShard): Promise<void> {
    const before = this.#seen.get(shard);
    if (before === undefined) return;
    const isAlive = await shard.isAlive();
    // While that was asked something may have come after all.
    if (this.#stopped || shard.settledDeliveries() !== before.deliveries) return;
    if (isAlive && !before.hadReady) {
      this.#seen.set(shard, { ...before, hadReady: true });
      return;
    }
    this.#seen.delete(shard);
    const cause = new Error(isAlive ? 'the queue has messages and delivers none' : 'the channel does not answer');
    this.#options.log.warn({ shard: shard.shard, queue: shard.queue, cause: cause.message }, 'reopening the channel');
    shard.reopenChannel(cause);
  }
}

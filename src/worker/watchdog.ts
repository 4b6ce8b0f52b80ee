/**
 * Notices a shard that gets no deliveries although its queue has messages: a broker may wedge a queue with a single active
 * consumer, for instance after a consumer time-out. If this is seen twice in a row the channel is reopened; a channel that no
 * longer answers is reopened at once. Not checked: a shard with unsettled deliveries, one that waits for deliveries that it gave
 * back for lack of memory, and a standby, which has had no deliveries yet.
 */
import { messageOf, UnavailableError } from '../errors.ts';
import type { Log } from '../observability/log.ts';
import type { Time, Timer } from '../time.ts';

export interface WatchedShard {
  readonly shard: number;
  readonly queue: string;
  /** The number of deliveries so far, if all of them are settled; null for a standby, or while any is unsettled or was given back. */
  settledDeliveries(): number | null;
  /** Asks the broker whether the channel is alive. */
  isAlive(): Promise<boolean>;
  /** Abandons the channel and consumes on a new one. */
  reopenChannel(cause: Error): void;
}

export interface WatchdogOptions {
  readonly shards: readonly WatchedShard[];
  /** The number of ready messages in each queue. Rejects with `UnavailableError`. */
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

  /** Compares every shard with the previous look. */
  async look(): Promise<void> {
    try {
      const quiet = this.#options.shards.filter((shard) => this.#isQuiet(shard));
      if (quiet.length === 0) return;
      const ready = await this.#options.readyIn(quiet.map(({ queue }) => queue));
      for (const shard of quiet) if ((ready.get(shard.queue) ?? 0) > 0) await this.#judge(shard);
    } catch (error) {
      // An unavailable broker proves nothing; the connection notices it by itself.
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
    // A delivery may have come while waiting for the answer.
    if (this.#stopped || shard.settledDeliveries() !== before.deliveries) return;
    if (isAlive && !before.hadReady) {
      this.#seen.set(shard, { ...before, hadReady: true });
      return;
    }
    this.#seen.delete(shard);
    const cause = new Error(isAlive ? 'the queue has messages and delivers none' : 'the channel does not answer');
    this.#options.log.warn({ shard: shard.shard, queue: shard.queue, cause: messageOf(cause) }, 'reopening the channel');
    shard.reopenChannel(cause);
  }
}

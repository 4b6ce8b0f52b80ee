/**
 * The sizes of the stream's queues, asked of the broker in the background and not during a scrape. Every worker asks for all
 * queues, so that no leader is needed. Counts that are too old are left out.
 */
import type { Config } from '../config/config.ts';
import type { QueueReading } from '../observability/metrics.ts';
import { type ManagementClient, managementOf } from '../rabbitmq/management.ts';
import { type QueueDepth, streamDepths } from '../rabbitmq/queue-depths.ts';
import type { ConnectionSource } from '../rabbitmq/channels.ts';
import type { Time, Timer } from '../time.ts';

export interface QueueWatchOptions {
  readonly config: Config;
  readonly source: ConnectionSource;
  readonly time: Time;
}

const intervalMs = 15_000;
/** In intervals. Older counts are left out: they would look like a queue that stands still. */
const staleAfter = 4;

export class QueueWatch {
  readonly #options: QueueWatchOptions;
  readonly #management: ManagementClient | null;
  #timer: Timer | null = null;
  #stopped = false;
  #last: Omit<QueueReading, 'ageSeconds'> | null = null;
  #lastAtMs: number;

  constructor(options: QueueWatchOptions) {
    this.#options = options;
    this.#lastAtMs = options.time.nowMs();
    const { broker } = options.config;
    this.#management = broker.managementUrl === null ? null : managementOf(broker, options.time);
  }

  /** Asks at once, then at every interval. */
  start(): void {
    void this.#ask().finally(() => {
      if (!this.#stopped) this.#timer = this.#options.time.after(intervalMs, () => this.start(), { unref: true });
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** The last counts, without those that are too old. */
  reading(): QueueReading {
    const ageMs = this.#options.time.nowMs() - this.#lastAtMs;
    const known = this.#last === null || ageMs > staleAfter * intervalMs ? nothing : this.#last;
    return { ...known, ageSeconds: ageMs / 1_000 };
  }

  async #ask(): Promise<void> {
    const { source, config } = this.#options;
    try {
      const [depths, unacked] = await Promise.all([streamDepths(await source.ready(), config.broker, source.time), this.#unacked()]);
      const counts = ({ queue, ready, consumers }: QueueDepth) => ({ ready, consumers, unacked: unacked.get(queue) ?? null });
      this.#last = { shards: depths.shards.map(counts), deadLetters: counts(depths.deadLetters), unrouted: depths.unrouted.ready };
      this.#lastAtMs = this.#options.time.nowMs();
    } catch {
      // The connection notices an unavailable broker; here it only means that the counts are unknown.
    }
  }

  /** Known to the management API only; empty without it. */
  async #unacked(): Promise<ReadonlyMap<string, number>> {
    const answer = await this.#management?.queues();
    if (answer?.ok !== true) return new Map();
    return new Map(answer.value.map(({ name, messages_unacknowledged: count }) => [name, count ?? 0]));
  }
}

const nothing: Omit<QueueReading, 'ageSeconds'> = { shards: [], deadLetters: null, unrouted: null };

/**
 * How full the stream's queues are, asked of the broker in the background and never while somebody scrapes. Every worker asks for
 * all of them, so that nobody has to be elected; what could not be asked lately is not told at all.
 */
import type { Config } from '../config/config.ts';
import type { QueueReading } from '../observability/metrics.ts';
import { ManagementClient } from '../rabbitmq/management.ts';
import { queueDepths } from '../rabbitmq/queue-depths.ts';
import { virtualHostOf } from '../rabbitmq/refusal.ts';
import type { ConnectionSource } from '../rabbitmq/scratch-channel.ts';
import { deadLetterQueueName, shardQueueName, unroutedQueueName } from '../rabbitmq/topology-plan.ts';
import type { Time, Timer } from '../time.ts';

export interface QueueWatchOptions {
  readonly config: Config;
  readonly source: ConnectionSource;
  /** Default 15,000. */
  readonly intervalMs?: number;
  readonly time: Time;
}

const defaultIntervalMs = 15_000;
/** Older counts are not told: they would look like a queue that stands still. */
const staleAfter = 4;

export class QueueWatch {
  readonly #options: QueueWatchOptions;
  readonly #intervalMs: number;
  readonly #management: ManagementClient | null;
  #timer: Timer | null = null;
  #stopped = false;
  #last: Omit<QueueReading, 'ageSeconds'> | null = null;
  #lastAtMs: number;

  constructor(options: QueueWatchOptions) {
    this.#options = options;
    this.#lastAtMs = options.time.nowMs();
    this.#intervalMs = options.intervalMs ?? defaultIntervalMs;
    const { managementUrl, urls } = options.config.broker;
    const asked = { virtualHost: virtualHostOf(urls[0]), time: options.time };
    this.#management = managementUrl === null ? null : new ManagementClient({ url: managementUrl, ...asked });
  }

  /** Asks at once, and from then on. */
  start(): void {
    void this.#ask().finally(() => {
      if (!this.#stopped) this.#timer = this.#options.time.after(this.#intervalMs, () => this.start(), { unref: true });
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** What was last counted, without counts that are too old. */
  reading(): QueueReading {
    const ageMs = this.#options.time.nowMs() - this.#lastAtMs;
    const known = this.#last === null || ageMs > staleAfter * this.#intervalMs ? nothing : this.#last;
    return { ...known, ageSeconds: ageMs / 1_000 };
  }

  async #ask(): Promise<void> {
    const {
      source,
      config: {
        broker: { stream, shards },
      },
    } = this.#options;
    const names = [
      ...Array.from({ length: shards }, (_, shard) => shardQueueName(stream, shard)),
      deadLetterQueueName(stream),
      unroutedQueueName(stream),
    ];
    try {
      const [depths, unacked] = await Promise.all([queueDepths(await source.ready(), names, source.time), this.#unacked()]);
      const counts = depths.map(({ queue, ready, consumers }) => ({ ready, consumers, unacked: unacked.get(queue) ?? null }));
      this.#last = { shards: counts.slice(0, shards), deadLetters: counts[shards] ?? null, unrouted: counts[shards + 1]?.ready ?? null };
      this.#lastAtMs = this.#options.time.nowMs();
    } catch {
      // A broker that is unavailable is noticed by the connection; here it only means that nothing is known.
    }
  }

  /** Only the management API tells; empty where there is none. */
  async #unacked(): Promise<ReadonlyMap<string, number>> {
    const answer = await this.#management?.queues();
    if (answer?.ok !== true) return new Map();
    return new Map(answer.value.map(({ name, messages_unacknowledged: count }) => [name, count ?? 0]));
  }
}

const nothing: Omit<QueueReading, 'ageSeconds'> = { shards: [], deadLetters: null, unrouted: null };

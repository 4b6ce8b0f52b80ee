/**
 * The numbers of messages in queues, from passive declarations: these need no management API and change nothing.
 * Unacknowledged deliveries are counted only where a `QueueWatch` has the management API.
 */
import type { Channel, ChannelModel } from 'amqplib';
import type { BrokerConfig, Config } from '../config/config.ts';
import type { QueueReading } from '../observability/metrics.ts';
import type { Time, Timer } from '../time.ts';
import { closeChannel, type ConnectionSource, openChannel } from './channels.ts';
import { type ManagementClient, managementOf } from './management.ts';
import { refused, replyCodeOf, replyCodes } from './refusal.ts';
import { deadLetterQueueName, shardQueueNames, unroutedQueueName } from './topology-plan.ts';

export interface QueueDepth {
  readonly queue: string;
  /** Messages ready for delivery; null if there is no such queue. */
  readonly ready: number | null;
  readonly consumers: number | null;
}

type Connection = Pick<ChannelModel, 'createChannel'>;

/** In the order of `queues`. @throws UnavailableError when they cannot be counted. */
export async function queueDepths(connection: Connection, queues: readonly string[], time: Time): Promise<readonly QueueDepth[]> {
  const depths: QueueDepth[] = [];
  let channel: Channel | null = null;
  for (const queue of queues) {
    try {
      channel ??= await openChannel(connection);
      const { messageCount, consumerCount } = await channel.checkQueue(queue);
      depths.push({ queue, ready: messageCount, consumers: consumerCount });
    } catch (error) {
      if (replyCodeOf(error) !== replyCodes.notFound) {
        throw refused(`queue ${queue} cannot be counted`, error);
      }
      depths.push({ queue, ready: null, consumers: null });
      // The broker closes the channel when a queue is not found.
      channel = null;
    }
  }
  if (channel !== null) await closeChannel(channel, time);
  return depths;
}

/** Of all queues that a stream has for events. @throws UnavailableError when they cannot be counted. */
export async function streamDepths(connection: Connection, { stream, shards }: Pick<BrokerConfig, 'stream' | 'shards'>, time: Time) {
  const queues = [...shardQueueNames({ stream, shards }), deadLetterQueueName(stream), unroutedQueueName(stream)];
  const depths = await queueDepths(connection, queues, time);
  return { shards: depths.slice(0, shards), deadLetters: depths[shards]!, unrouted: depths[shards + 1]! };
}

/** Ready messages of each queue; 0 for a missing queue. @throws UnavailableError when the broker cannot be asked. */
export async function readyIn(source: ConnectionSource, queues: readonly string[]): Promise<ReadonlyMap<string, number>> {
  return new Map((await queueDepths(await source.ready(), queues, source.time)).map(({ queue, ready }) => [queue, ready ?? 0]));
}

/** Consumers of each queue, in the given order; null for a missing queue, or if the broker cannot be asked. Never rejects. */
export async function consumersOf(source: ConnectionSource, queues: readonly string[]): Promise<readonly (number | null)[]> {
  try {
    return (await queueDepths(await source.ready(), queues, source.time)).map(({ consumers }) => consumers);
  } catch {
    return queues.map(() => null);
  }
}

/** Why a shard's queue is not consumed; empty if it is. A standby of a quorum queue does not count as a consumer. */
export function whyNobodyConsumes({ queue, ready, consumers }: QueueDepth): readonly string[] {
  if (ready === null) return [`there is no queue ${queue}`];
  return consumers === 0 ? [`nobody consumes ${queue}`] : [];
}

export interface QueueWatchOptions {
  readonly config: Config;
  readonly source: ConnectionSource;
  readonly time: Time;
}

const intervalMs = 15_000;
/** In intervals. Older counts are left out: they would look like a queue that stands still. */
const staleAfter = 4;

/**
 * The sizes of the stream's queues, asked of the broker in the background and not during a scrape. Every worker asks for all
 * queues, so that no leader is needed. Counts that are too old are left out.
 */
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

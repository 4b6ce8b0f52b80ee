/** The gauges, which are read at each scrape. */
import type { Gauge } from 'prom-client';
import { BoundedChildren, type MetricMaker } from './metric-maker.ts';

/** There is no `standby`: RabbitMQ does not say which consumer is active. */
export const shardStates = ['closed', 'consuming', 'paused', 'draining', 'halted'] as const;
export type ShardState = (typeof shardStates)[number];

/** The values of one shard. */
export interface ShardReading {
  readonly shard: number;
  readonly state: ShardState;
  readonly gapsOpen: number;
  /** The longest wait of an open gap; 0 if none is open. */
  readonly gapOldestSeconds: number;
  /** Unsettled deliveries. */
  readonly unacked: number;
  /** Held events by entity type. */
  readonly held: ReadonlyMap<string, number>;
}

/** The values of the stream's queues. */
export interface QueueReading {
  /** By shard; empty if unknown. */
  readonly shards: readonly QueueCounts[];
  readonly deadLetters: QueueCounts | null;
  readonly unrouted: number | null;
  /** The age of the counts. */
  readonly ageSeconds: number;
}

/** Null if unknown. */
export interface QueueCounts {
  readonly ready: number | null;
  readonly unacked: number | null;
  readonly consumers: number | null;
}

/** The limits that alerts compare with. */
export interface ConfiguredLimits {
  readonly gapTimeoutSeconds: number;
  readonly prefetch: number;
}

/** Returns a function that updates the gauges of the shards. */
export function makeShardGauges(make: MetricMaker, service: string): (shards: Iterable<ShardReading>) => void {
  const bufferSize = make.gauge('message_buffer_size');
  const held = make.gauge('inorder_held');
  const gapsOpen = make.gauge('inorder_gaps_open');
  const gapOldest = make.gauge('inorder_gap_oldest_seconds');
  const unacked = make.gauge('inorder_unacked');
  const state = make.gauge('inorder_shard_state');
  const bufferSizeOf = new BoundedChildren((entityType) => bufferSize.labels(service, entityType));
  return (shards) => {
    // A shard that is no longer reported disappears; an entity type without held events is 0.
    for (const gauge of [held, gapsOpen, gapOldest, unacked, state]) gauge.reset();
    for (const child of bufferSizeOf.all()) child.set(0);
    for (const reading of shards) {
      const shard = String(reading.shard);
      let total = 0;
      for (const [entityType, count] of reading.held) {
        bufferSizeOf.get(entityType).inc(count);
        total += count;
      }
      held.labels(service, shard).set(total);
      gapsOpen.labels(service, shard).set(reading.gapsOpen);
      gapOldest.labels(service, shard).set(reading.gapOldestSeconds);
      unacked.labels(service, shard).set(reading.unacked);
      for (const name of shardStates) state.labels(service, shard, name).set(name === reading.state ? 1 : 0);
    }
  };
}

/** The same for the queues. Unknown counts are left out: an old count would look like a queue that stands still. */
export function makeQueueGauges(make: MetricMaker, service: string): (reading: QueueReading) => void {
  const messages = make.gauge('inorder_shard_queue_messages');
  const consumers = make.gauge('inorder_shard_queue_consumers');
  const deadLetters = make.gauge('inorder_dead_letter_queue_messages');
  const unrouted = make.gauge('inorder_unrouted_messages');
  const age = make.gauge('inorder_queue_reading_age_seconds');
  const tell = (gauge: Gauge, value: number | null | undefined, ...labels: readonly string[]) => {
    if (value !== null && value !== undefined) gauge.labels(service, ...labels).set(value);
  };
  return (reading) => {
    for (const gauge of [messages, consumers, deadLetters, unrouted, age]) gauge.reset();
    for (const [shard, counts] of reading.shards.entries()) {
      tell(messages, counts.ready, String(shard), 'ready');
      tell(messages, counts.unacked, String(shard), 'unacked');
      tell(consumers, counts.consumers, String(shard));
    }
    tell(deadLetters, reading.deadLetters?.ready, 'ready');
    tell(deadLetters, reading.deadLetters?.unacked, 'unacked');
    tell(unrouted, reading.unrouted);
    tell(age, reading.ageSeconds);
  };
}

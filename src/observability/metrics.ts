/**
 * The metrics of a worker. Guarantees that every name, label and bucket is a row of `metric-table.ts`; that a
 * settled message is counted once, by outcome and, if dead-lettered, by reason; and that no label has
 * unbounded values. Counters are incremented in batches, through children whose labels were resolved once; gauges
 * are read at each scrape.
 */
import { collectDefaultMetrics, openMetricsContentType, prometheusContentType, Registry, type RegistryContentType } from 'prom-client';
import { packageVersion } from '../config/config.ts';
import { type ConfiguredLimits, makeQueueGauges, makeShardGauges, type QueueReading, type ShardReading } from './gauges.ts';
import { BoundedChildren, MetricMaker, startedAtZero } from './metric-maker.ts';
import { makeShardMetrics, type ShardMetrics } from './shard-metrics.ts';

export type { ConfiguredLimits, QueueCounts, QueueReading, ShardReading, ShardState } from './gauges.ts';
export { shardStates } from './gauges.ts';
export type { HaltCause, ShardMetrics, ShardTotals } from './shard-metrics.ts';

export const gapRepairOutcomes = ['repaired', 'missing', 'failed'] as const;
export type GapRepairOutcome = (typeof gapRepairOutcomes)[number];

export const autoReplayOutcomes = ['replayed', 'nothing', 'put_off'] as const;
export type AutoReplayOutcome = (typeof autoReplayOutcomes)[number];

export const droppedReplyCauses = ['not_allowed', 'no_queue', 'no_permission', 'no_connection', 'backlog'] as const;
/** Why a reply was not sent, or did not arrive. */
export type DroppedReplyCause = (typeof droppedReplyCauses)[number];

export interface Metrics {
  /** Returns the same object for the same shard. */
  shard(shard: number): ShardMetrics;
  /** An event came too early; `missing` is the number of missing sequences before it, at least 1. */
  violation(eventType: string, entityType: string, missing: number, traceId?: string): void;
  /** Seconds from an event's own time to its commit. A producer whose clock is ahead counts as 0. */
  lag(eventType: string, seconds: number, traceId?: string): void;
  committed(seconds: number): void;
  storeUnavailable(): void;
  /** An attempt of a handler began. */
  processorAttempted(): void;
  processorRetried(): void;
  reconnected(): void;
  replyDropped(cause: DroppedReplyCause): void;
  /** An automatic replay has ended. */
  autoReplayEnded(outcome: AutoReplayOutcome): void;
  autoReplayed(letters: number): void;
  /** A source was asked for missing events. */
  gapRepairEnded(outcome: GapRepairOutcome): void;
  /** Sets the source of the gauges, which is called at each scrape; a later one replaces it. */
  readShardsFrom(read: () => Iterable<ShardReading>): void;
  /** The same for the queues. */
  readQueuesFrom(read: () => QueueReading): void;
  configured(limits: ConfiguredLimits): void;
  /** All metrics in the format of `contentType`. */
  render(): Promise<string>;
  readonly contentType: string;
}

export interface MetricsOptions {
  /** Whether values have exemplars: the format is then OpenMetrics, else Prometheus' own. Default false. */
  readonly exemplars?: boolean;
}

/** Metrics in a separate registry. `service` is the label `service` of each. */
export function createMetrics(service: string, { exemplars = false }: MetricsOptions = {}): Metrics {
  const registry = new Registry<RegistryContentType>();
  registry.setContentType(exemplars ? openMetricsContentType : prometheusContentType);
  collectDefaultMetrics({ register: registry as Registry, labels: { service } });
  const make = new MetricMaker(registry);
  const tellShards = makeShardGauges(make, service);
  const tellQueues = makeQueueGauges(make, service);
  let readShards: () => Iterable<ShardReading> = () => [];
  let readQueues: (() => QueueReading) | null = null;
  const gapTimeout = make.gauge('inorder_gap_timeout_seconds').labels(service);
  const prefetch = make.gauge('inorder_prefetch').labels(service);
  make.gauge('inorder_build_info').labels(service, packageVersion()).set(1);
  const violations = make.counter('message_ordering_violations_total');
  const gap = make.histogram('message_sequence_gap');
  const lag = make.histogram('message_processing_lag_seconds');
  const violationsOf = new BoundedChildren((eventType) => violations.labels(service, eventType));
  const gapOf = new BoundedChildren((entityType) => make.observer(gap, { service, entity_type: entityType }));
  const lagOf = new BoundedChildren((eventType) => make.observer(lag, { service, event_type: eventType }));
  const commits = make.histogram('inorder_commit_seconds').labels(service);
  const storeUnavailable = startedAtZero(make.counter('inorder_store_unavailable_total').labels(service));
  const attempts = startedAtZero(make.counter('inorder_processor_attempts_total').labels(service));
  const retries = startedAtZero(make.counter('inorder_processor_retries_total').labels(service));
  const reconnects = startedAtZero(make.counter('inorder_reconnects_total').labels(service));
  const repliesDropped = make.counter('inorder_replies_dropped_total');
  for (const cause of droppedReplyCauses) startedAtZero(repliesDropped.labels(service, cause));
  const autoReplays = make.counter('inorder_auto_replays_total');
  for (const outcome of autoReplayOutcomes) startedAtZero(autoReplays.labels(service, outcome));
  const autoReplayed = startedAtZero(make.counter('inorder_auto_replayed_letters_total').labels(service));
  const gapRepairs = make.counter('inorder_gap_repairs_total');
  for (const outcome of gapRepairOutcomes) startedAtZero(gapRepairs.labels(service, outcome));
  const shards = makeShardMetrics(make, service);
  return {
    shard: shards,
    violation(eventType, entityType, missing, traceId) {
      violationsOf.get(eventType).inc();
      gapOf.get(entityType)(missing, traceId);
    },
    lag: (eventType, seconds, traceId) => lagOf.get(eventType)(Math.max(0, seconds), traceId),
    committed: (seconds) => commits.observe(seconds),
    storeUnavailable: () => storeUnavailable.inc(),
    processorAttempted: () => attempts.inc(),
    processorRetried: () => retries.inc(),
    reconnected: () => reconnects.inc(),
    replyDropped: (cause) => repliesDropped.labels(service, cause).inc(),
    autoReplayEnded: (outcome) => autoReplays.labels(service, outcome).inc(),
    autoReplayed: (letters) => autoReplayed.inc(letters),
    gapRepairEnded: (outcome) => gapRepairs.labels(service, outcome).inc(),
    readShardsFrom: (read) => void (readShards = read),
    readQueuesFrom: (read) => void (readQueues = read),
    configured(limits) {
      gapTimeout.set(limits.gapTimeoutSeconds);
      prefetch.set(limits.prefetch);
    },
    async render() {
      tellShards(readShards());
      if (readQueues !== null) tellQueues(readQueues());
      return registry.metrics();
    },
    contentType: registry.contentType,
  };
}

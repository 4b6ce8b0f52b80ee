/**
 * What a worker counts. Guarantees that every name, label and bucket is a row of `metric-table.ts`; that a
 * message which ends is counted once, by outcome and, if dead-lettered, by reason; that no label takes
 * unbounded values. Counters are pushed in batches through children whose labels were resolved once; gauges
 * are pulled when somebody asks, so they cannot drift from what they describe.
 */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import { rejectionReasons } from '../events/reasons.ts';
import type { RejectionReason } from '../events/reasons.ts';
import type { Outcome } from '../ordering/facts.ts';
import { BoundedChildren } from './bounded-labels.ts';
import { metricTable } from './metric-table.ts';
import type { MetricName } from './metric-table.ts';

/** `standby` cannot be told from `consuming`: RabbitMQ does not say who is active. */
export const shardStates = ['closed', 'consuming', 'paused', 'draining', 'halted'] as const;
export type ShardState = (typeof shardStates)[number];

export const gapRepairOutcomes = ['repaired', 'missing', 'failed'] as const;
export type GapRepairOutcome = (typeof gapRepairOutcomes)[number];

export const autoReplayOutcomes = ['replayed', 'nothing', 'put_off'] as const;
export type AutoReplayOutcome = (typeof autoReplayOutcomes)[number];

/** What the gauges say of one shard. */
export interface ShardReading {
  readonly shard: number;
  readonly state: ShardState;
  readonly gapsOpen: number;
  /** Held events by entity type. */
  readonly held: ReadonlyMap<string, number>;
}

/** Messages of one shard since the process began. */
export interface ShardTotals {
  readonly delivered: number;
  readonly applied: number;
  readonly duplicate: number;
  readonly skipped: number;
  readonly dead_lettered: number;
}

/** The counters of one shard. `count` is how many at once; 0 is allowed. */
export interface ShardMetrics {
  /** What has been counted so far, for `/status`. */
  readonly totals: ShardTotals;
  delivered(count: number): void;
  ended(outcome: Outcome, count: number): void;
  deadLettered(reason: RejectionReason, count: number): void;
  /** Events that were fetched from a source and applied; they are no messages, and not counted as such. */
  repaired(count: number): void;
}

export interface Metrics {
  /** The same object for the same shard. */
  shard(shard: number): ShardMetrics;
  /** An event came too early; `missing` is how many sequences lie before it, at least 1. */
  violation(eventType: string, entityType: string, missing: number): void;
  /** Seconds from an event's own time to its commit. A producer whose clock is ahead counts as 0. */
  lag(eventType: string, seconds: number): void;
  committed(seconds: number): void;
  storeUnavailable(): void;
  processorRetried(): void;
  reconnected(): void;
  /** A replay that nobody asked for has ended. */
  autoReplayEnded(outcome: AutoReplayOutcome): void;
  autoReplayed(letters: number): void;
  /** A source was asked for missing events. */
  gapRepairEnded(outcome: GapRepairOutcome): void;
  /** Called at each scrape, for the gauges. There is one source; a later one replaces it. */
  readShardsFrom(read: () => Iterable<ShardReading>): void;
  /** Everything in Prometheus' text format. */
  render(): Promise<string>;
  readonly contentType: string;
}

/** Metrics in a registry of their own. `service` is the `service` label of each. */
export function createMetrics(service: string): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, labels: { service } });
  const make = new MetricMaker(registry);
  const gauges = makeGauges(make, service);
  const violations = make.counter('message_ordering_violations_total');
  const gap = make.histogram('message_sequence_gap');
  const lag = make.histogram('message_processing_lag_seconds');
  const violationsOf = new BoundedChildren((eventType) => violations.labels(service, eventType));
  const gapOf = new BoundedChildren((entityType) => gap.labels(service, entityType));
  const lagOf = new BoundedChildren((eventType) => lag.labels(service, eventType));
  const commits = make.histogram('inorder_commit_seconds').labels(service);
  const storeUnavailable = startedAtZero(make.counter('inorder_store_unavailable_total').labels(service));
  const retries = startedAtZero(make.counter('inorder_processor_retries_total').labels(service));
  const reconnects = startedAtZero(make.counter('inorder_reconnects_total').labels(service));
  const autoReplays = make.counter('inorder_auto_replays_total');
  for (const outcome of autoReplayOutcomes) startedAtZero(autoReplays.labels(service, outcome));
  const autoReplayed = startedAtZero(make.counter('inorder_auto_replayed_letters_total').labels(service));
  const gapRepairs = make.counter('inorder_gap_repairs_total');
  for (const outcome of gapRepairOutcomes) startedAtZero(gapRepairs.labels(service, outcome));
  const shards = makeShardMetrics(make, service);
  return {
    shard: shards,
    violation(eventType, entityType, missing) {
      violationsOf.get(eventType).inc();
      gapOf.get(entityType).observe(missing);
    },
    lag: (eventType, seconds) => lagOf.get(eventType).observe(Math.max(0, seconds)),
    committed: (seconds) => commits.observe(seconds),
    storeUnavailable: () => storeUnavailable.inc(),
    processorRetried: () => retries.inc(),
    reconnected: () => reconnects.inc(),
    autoReplayEnded: (outcome) => autoReplays.labels(service, outcome).inc(),
    autoReplayed: (letters) => autoReplayed.inc(letters),
    gapRepairEnded: (outcome) => gapRepairs.labels(service, outcome).inc(),
    readShardsFrom: gauges.readFrom,
    async render() {
      gauges.refresh();
      return registry.metrics();
    },
    contentType: registry.contentType,
  };
}

/** Makes prom-client's metrics from the rows of the table. */
class MetricMaker {
  readonly #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  counter(name: MetricName): Counter {
    return new Counter(this.#base(name));
  }

  gauge(name: MetricName): Gauge {
    return new Gauge(this.#base(name));
  }

  histogram(name: 'message_sequence_gap' | 'message_processing_lag_seconds' | 'inorder_commit_seconds'): Histogram {
    return new Histogram({ ...this.#base(name), buckets: [...metricTable[name].buckets] });
  }

  #base(name: MetricName) {
    const { help, labels } = metricTable[name];
    return { name, help, labelNames: ['service', ...labels], registers: [this.#registry] };
  }
}

function makeShardMetrics(make: MetricMaker, service: string): (shard: number) => ShardMetrics {
  const deliveries = make.counter('inorder_deliveries_total');
  const events = make.counter('inorder_events_total');
  const deadLetters = make.counter('inorder_dead_letters_total');
  const repairs = make.counter('inorder_repaired_events_total');
  const shards = new Map<number, ShardMetrics>();

  function makeOne(label: string): ShardMetrics {
    const outcome = (name: string) => startedAtZero(events.labels(service, label, name));
    const delivered = startedAtZero(deliveries.labels(service, label));
    const outcomes = { applied: outcome('applied'), duplicate: outcome('duplicate'), skipped: outcome('skipped') };
    const deadLettered = outcome('dead-lettered');
    const repaired = startedAtZero(repairs.labels(service, label));
    const reasons = new Map(
      Object.keys(rejectionReasons).map((reason) => [reason, deadLetters.labels(service, label, reason)]),
    );
    const totals = { delivered: 0, applied: 0, duplicate: 0, skipped: 0, dead_lettered: 0 };
    return {
      totals,
      delivered(count) {
        totals.delivered += count;
        delivered.inc(count);
      },
      ended(name, count) {
        totals[name] += count;
        outcomes[name].inc(count);
      },
      deadLettered(reason, count) {
        totals.dead_lettered += count;
        deadLettered.inc(count);
        reasons.get(reason)!.inc(count);
      },
      repaired: (count) => repaired.inc(count),
    };
  }

  return (shard) => {
    const known = shards.get(shard);
    if (known !== undefined) return known;
    const made = makeOne(String(shard));
    shards.set(shard, made);
    return made;
  };
}

function makeGauges(make: MetricMaker, service: string) {
  const bufferSize = make.gauge('message_buffer_size');
  const held = make.gauge('inorder_held');
  const gapsOpen = make.gauge('inorder_gaps_open');
  const state = make.gauge('inorder_shard_state');
  const bufferSizeOf = new BoundedChildren((entityType) => bufferSize.labels(service, entityType));
  let read: () => Iterable<ShardReading> = () => [];
  return {
    readFrom(source: () => Iterable<ShardReading>) {
      read = source;
    },
    refresh() {
      // A shard that is no longer reported disappears; an entity type of which nothing is held reads 0.
      for (const gauge of [held, gapsOpen, state]) gauge.reset();
      for (const child of bufferSizeOf.all()) child.set(0);
      for (const reading of read()) {
        const shard = String(reading.shard);
        let total = 0;
        for (const [entityType, count] of reading.held) {
          bufferSizeOf.get(entityType).inc(count);
          total += count;
        }
        held.labels(service, shard).set(total);
        gapsOpen.labels(service, shard).set(reading.gapsOpen);
        for (const name of shardStates) state.labels(service, shard, name).set(name === reading.state ? 1 : 0);
      }
    },
  };
}

/** A counter that appears with its first increment has no rate over it. */
function startedAtZero(child: Counter.Internal): Counter.Internal {
  child.inc(0);
  return child;
}

/** The counters of a shard, incremented in batches through children whose labels were resolved once. */
import { rejectionReasons } from '../events/reasons.ts';
import type { RejectionReason } from '../events/reasons.ts';
import type { Outcome } from '../ordering/facts.ts';
import { type MetricMaker, startedAtZero } from './metric-maker.ts';

export const haltCauses = ['store_went_backwards', 'bug'] as const;
export type HaltCause = (typeof haltCauses)[number];

/** Messages of one shard since the process started. */
export interface ShardTotals {
  readonly delivered: number;
  readonly applied: number;
  readonly duplicate: number;
  readonly skipped: number;
  readonly dead_lettered: number;
}

/** The counters of one shard. `count` may be 0. */
export interface ShardMetrics {
  /** The totals so far, for `/status`. */
  readonly totals: ShardTotals;
  /** `again` of them were redelivered. */
  delivered(count: number, again: number): void;
  /** A sequence was passed, because the event's id was applied under another one. It counts as a duplicate as well. */
  absorbed(): void;
  /** Given back to the broker for lack of memory; they count as delivered when they come again. */
  givenBack(count: number): void;
  ended(outcome: Outcome, count: number): void;
  deadLettered(reason: RejectionReason, count: number): void;
  /** Events that were fetched from a source and applied; they do not count as messages. */
  repaired(count: number): void;
  parked(): void;
  unparked(): void;
  fenced(): void;
  /** The shard has halted; `inorder_shard_state` shows whether it still is. */
  halted(cause: HaltCause): void;
}

export function makeShardMetrics(make: MetricMaker, service: string): (shard: number) => ShardMetrics {
  const deliveries = make.counter('inorder_deliveries_total');
  const events = make.counter('inorder_events_total');
  const deadLetters = make.counter('inorder_dead_letters_total');
  const repairs = make.counter('inorder_repaired_events_total');
  const redeliveries = make.counter('inorder_redeliveries_total');
  const repetitions = make.counter('inorder_repeated_ids_total');
  const returns = make.counter('inorder_deliveries_given_back_total');
  const parkings = make.counter('inorder_entities_parked_total');
  const unparkings = make.counter('inorder_entities_unparked_total');
  const fencings = make.counter('inorder_fenced_total');
  const halts = make.counter('inorder_shard_halts_total');
  const shards = new Map<number, ShardMetrics>();

  function makeOne(label: string): ShardMetrics {
    const outcome = (name: string) => startedAtZero(events.labels(service, label, name));
    const delivered = startedAtZero(deliveries.labels(service, label));
    const outcomes = { applied: outcome('applied'), duplicate: outcome('duplicate'), skipped: outcome('skipped') };
    const deadLettered = outcome('dead-lettered');
    const repaired = startedAtZero(repairs.labels(service, label));
    const redelivered = startedAtZero(redeliveries.labels(service, label));
    const absorbed = startedAtZero(repetitions.labels(service, label));
    const givenBack = startedAtZero(returns.labels(service, label));
    const parked = startedAtZero(parkings.labels(service, label));
    const unparked = startedAtZero(unparkings.labels(service, label));
    const fenced = startedAtZero(fencings.labels(service, label));
    for (const cause of haltCauses) startedAtZero(halts.labels(service, label, cause));
    const reasons = new Map(Object.keys(rejectionReasons).map((reason) => [reason, deadLetters.labels(service, label, reason)]));
    const totals = { delivered: 0, applied: 0, duplicate: 0, skipped: 0, dead_lettered: 0 };
    return {
      totals,
      delivered(count, again) {
        totals.delivered += count;
        delivered.inc(count);
        if (again > 0) redelivered.inc(again);
      },
      absorbed: () => absorbed.inc(),
      givenBack: (count) => givenBack.inc(count),
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
      parked: () => parked.inc(),
      unparked: () => unparked.inc(),
      fenced: () => fenced.inc(),
      halted: (cause) => halts.labels(service, label, cause).inc(),
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

/**
 * The stream at a glance, put together from what the broker says of its queues and what the workers that could be asked say of
 * themselves. Pure. What nobody has said is null.
 */
import type { ShardStatus, WorkerStatus } from '../observability/worker-status.ts';
import type { QueueDepth } from '../rabbitmq/queue-depths.ts';
import type { Overview, Shard } from './page/answers.d.ts';

/** A worker that was asked, with the name that the console has for it. */
export interface AskedWorker {
  readonly name: string;
  /** Null: it did not answer. */
  readonly report: WorkerStatus | null;
}

export interface OverviewInput {
  readonly workers: readonly AskedWorker[];
  /** Of the shards, in their order; null when the broker could not be asked. */
  readonly depths: readonly QueueDepth[] | null;
  /** By queue: the address of the consumer that is active; null when the management API is not known. */
  readonly activeConsumers: ReadonlyMap<string, string> | null;
}

/** Gaps that are told one by one. */
const maxGaps = 200;

export function shardRows(queues: readonly string[], { workers, depths, activeConsumers }: OverviewInput): readonly Shard[] {
  return queues.map((queue, shard): Shard => {
    const reports = reportsOf(workers, shard);
    const consumers = depths?.[shard]?.consumers ?? null;
    const owner = ownerOf(reports, consumers);
    return {
      shard,
      queue,
      ready: depths?.[shard]?.ready ?? null,
      consumers,
      worker: owner?.name ?? null,
      consumer: activeConsumers?.get(queue) ?? null,
      state: owner?.report.channel ?? (reports.length > 0 ? 'standby' : 'unknown'),
      held: owner?.report.held ?? null,
      gaps: owner?.report.gaps ?? null,
      totals: owner?.report.totals ?? null,
    };
  });
}

/** The open gaps that end soonest first, and how many there are; null when nobody knows. */
export function gapRows(shards: readonly Shard[], { workers }: OverviewInput): Overview['gaps'] {
  const rows = shards.flatMap(({ shard, worker }) => {
    const owner = reportsOf(workers, shard).find(({ name }) => name === worker);
    return owner === undefined ? [] : owner.report.open_gaps.map((gap) => ({ ...gap, shard, worker: owner.name }));
  });
  const total = shards.reduce<number | null>((sum, { gaps }) => (gaps === null ? sum : (sum ?? 0) + gaps), null);
  return { rows: rows.sort((a, b) => a.ends_in_ms - b.ends_in_ms).slice(0, maxGaps), total };
}

interface NamedReport {
  readonly name: string;
  readonly report: ShardStatus;
}

function reportsOf(workers: readonly AskedWorker[], shard: number): readonly NamedReport[] {
  return workers.flatMap(({ name, report }) =>
    (report?.shards ?? []).filter((one) => one.shard === shard).map((one) => ({ name, report: one })),
  );
}

/** A worker that lost a shard may not know it yet: the later epoch counts. The only consumer owns what it was given nothing of yet. */
function ownerOf(reports: readonly NamedReport[], consumers: number | null): NamedReport | null {
  const owners = reports.filter(({ report }) => report.epoch !== null).sort((a, b) => b.report.epoch! - a.report.epoch!);
  return owners[0] ?? (consumers === 1 && reports.length === 1 ? reports[0]! : null);
}

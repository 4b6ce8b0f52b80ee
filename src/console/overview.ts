/**
 * The overview of the stream, from the broker's queues and the reports of the known workers. Pure. Unknown values
 * are null.
 */
import type { ShardStatus, WorkerStatus } from '../observability/worker-status.ts';
import type { QueueDepth } from '../rabbitmq/queue-depths.ts';
import type { Overview, Shard } from './page/answers.d.ts';

/** A worker with its name in the console. */
export interface AskedWorker {
  readonly name: string;
  /** Null: it did not answer. */
  readonly report: WorkerStatus | null;
}

export interface OverviewInput {
  readonly workers: readonly AskedWorker[];
  /** The queues of the shards, in order; null if the broker did not answer. */
  readonly depths: readonly QueueDepth[] | null;
  /** The address of the active consumer by queue; null without the management API. */
  readonly activeConsumers: ReadonlyMap<string, string> | null;
}

/** The most gaps to list. */
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
      state: owner?.report.state ?? (reports.length > 0 ? 'standby' : 'unknown'),
      held: owner?.report.held ?? null,
      gaps: owner?.report.gaps ?? null,
      totals: owner?.report.totals ?? null,
    };
  });
}

/** The open gaps, those that end first at the top, and their number; null if unknown. */
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

/** A worker may not know yet that it lost a shard: the later epoch counts. Without any epoch the only consumer is the owner. */
function ownerOf(reports: readonly NamedReport[], consumers: number | null): NamedReport | null {
  const owners = reports.filter(({ report }) => report.epoch !== null).sort((a, b) => b.report.epoch! - a.report.epoch!);
  return owners[0] ?? (consumers === 1 && reports.length === 1 ? reports[0]! : null);
}

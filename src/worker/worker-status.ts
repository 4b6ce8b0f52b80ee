/** What `/status` and `Worker.status()` return: a snapshot of a worker, with the field names of the JSON. */
import type { OrderingStatistics } from '../detection/detector.ts';
import type { SequencerOverview, ShardSequencer } from '../ordering/sequencer.ts';
import type { ShardState, ShardTotals } from '../observability/metrics.ts';
import { haltText } from '../stores/halts.ts';
import type { Halt } from '../stores/store.ts';

/** A gap that is open now. */
export interface GapStatus {
  readonly entity_type: string;
  readonly entity_id: string;
  readonly version: number;
  /** The first missing sequence. */
  readonly missing_from: number;
  /** The last missing sequence: one below the lowest held. */
  readonly missing_to: number;
  readonly held: number;
  /** Runs of held sequences, in order; at most the first 50. */
  readonly held_sequences: readonly (readonly [first: number, last: number])[];
  /** Time since the first event was held for this gap, without the time in which the missing event could not have arrived. */
  readonly waiting_ms: number;
  /** Time until the gap ends if nothing arrives, counted in the same way. */
  readonly ends_in_ms: number;
}

export interface ShardStatus extends SequencerOverview {
  readonly shard: number;
  readonly queue: string;
  readonly channel: ShardState;
  /** Null before the first delivery on this channel: a standby has none. */
  readonly epoch: number | null;
  /** Since the process started. */
  readonly totals: ShardTotals;
  /** The gaps that have waited longest, at most 100. */
  readonly open_gaps: readonly GapStatus[];
}

/** What the detector has seen since the worker started. */
export interface ViolationsStatus {
  readonly total: number;
  readonly affected_entities: number;
  readonly average_gap: number;
  readonly max_gap: number;
  /** The last ten, the latest last. */
  readonly recent: readonly {
    readonly entity_type: string;
    readonly entity_id: string;
    readonly type: string;
    readonly message_id: string;
    readonly expected: number;
    readonly received: number;
    /** ISO 8601. */
    readonly at: string;
  }[];
}

export interface WorkerStatus {
  readonly service: string;
  readonly stream: string;
  readonly state: 'starting' | 'running' | 'stopping' | 'stopped';
  /** Why it is not ready; empty when it is. */
  readonly not_ready: readonly string[];
  readonly shards: readonly ShardStatus[];
  readonly violations: ViolationsStatus;
}

const runsInStatus = 50;

export function gapStatus({ lane, waitedMs, endsInMs }: ReturnType<ShardSequencer['openGaps']>[number]): GapStatus {
  const { version } = lane.known;
  return {
    entity_type: lane.entity.entityType,
    entity_id: lane.entity.entityId,
    version,
    missing_from: version + 1,
    missing_to: Math.max(version, (lane.held.lowest() ?? 0) - 1),
    held: lane.held.count,
    held_sequences: lane.held.runs().slice(0, runsInStatus),
    waiting_ms: waitedMs,
    ends_in_ms: endsInMs,
  };
}

export interface Readiness {
  readonly state: WorkerStatus['state'];
  readonly isConnected: boolean;
  readonly halts: readonly Halt[];
  readonly shards: readonly { readonly shard: number; readonly state: ShardState }[];
}

/** What keeps shards of this worker from working; empty if each of them works or is a standby. */
export function whyNotReady({ state, isConnected, halts, shards }: Readiness): readonly string[] {
  const inState = (wanted: ShardState) =>
    shards
      .filter((one) => one.state === wanted)
      .map(({ shard }) => shard)
      .join(', ');
  const [closed, paused] = [inState('closed'), inState('paused')];
  return [
    ...halts.map(haltText),
    ...(state === 'stopping' || state === 'stopped' ? ['stopping'] : []),
    ...(isConnected ? [] : ['the broker is not connected']),
    ...(closed === '' ? [] : [`no channel for shard ${closed}`]),
    ...(paused === '' ? [] : [`the store does not serve shard ${paused}`]),
  ];
}

export function violationsStatus({ total, affectedEntities, averageGap, maxGap, recent }: OrderingStatistics): ViolationsStatus {
  return {
    total,
    affected_entities: affectedEntities,
    average_gap: averageGap,
    max_gap: maxGap,
    recent: recent.map(({ entityType, entityId, type, messageId, expected, received, atMs }) => ({
      entity_type: entityType,
      entity_id: entityId,
      type,
      message_id: messageId,
      expected,
      received,
      at: new Date(atMs).toISOString(),
    })),
  };
}

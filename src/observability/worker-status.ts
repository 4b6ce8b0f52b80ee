/**
 * The status of a worker, as `/status` and `Worker.status()` return it, with the field names of JSON, and how a command asks
 * for it. Another program may listen on the port: an answer of another form is ignored.
 */
import type { Config, HttpConfig } from '../config/config.ts';
import type { OrderingStatistics } from '../detection/detector.ts';
import { entityFields, type EntityRef } from '../events/event.ts';
import type { SequencerOverview, ShardSequencer } from '../ordering/sequencer.ts';
import { type Time, timeLimit } from '../time.ts';
import { longestDelayMs } from './gate.ts';
import type { ShardState, ShardTotals } from './metrics.ts';

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

/** What a shard does differently since a process died: what was on record is tried alone, which holds back everything else. */
export interface TrialsStatus {
  /** Events that were being processed when a process died, and are not settled since. */
  readonly accused: number;
  /** Those on record now, at most ten: the one that is tried alone first, then what is processed beside others. */
  readonly on_trial: readonly {
    readonly entity_type: string;
    readonly entity_id: string;
    readonly sequence: number | null;
    readonly alone: boolean;
  }[];
}

export interface ShardStatus extends Omit<SequencerOverview, 'state'> {
  readonly shard: number;
  readonly queue: string;
  readonly state: ShardState;
  /** Null before the first delivery on its channel: a standby has none. */
  readonly epoch: number | null;
  /** Since the process started. */
  readonly totals: ShardTotals;
  /** The gaps that have waited longest, at most 100. */
  readonly open_gaps: readonly GapStatus[];
  /** Null: it suspects nothing, or has no session. */
  readonly trials: TrialsStatus | null;
}

/** What the detector has seen since the worker started. */
export interface ViolationsStatus {
  readonly total: number;
  /** At most 10,000: then a lower bound. */
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
    ...entityFields(lane.entity),
    version,
    missing_from: version + 1,
    missing_to: Math.max(version, (lane.held.lowest() ?? 0) - 1),
    held: lane.held.count,
    held_sequences: lane.held.runs().slice(0, runsInStatus),
    waiting_ms: waitedMs,
    ends_in_ms: endsInMs,
  };
}

export function violationsStatus({ total, affectedEntities, averageGap, maxGap, recent }: OrderingStatistics): ViolationsStatus {
  return {
    total,
    affected_entities: affectedEntities,
    average_gap: averageGap,
    max_gap: maxGap,
    recent: recent.map(({ type, messageId, expected, received, atMs, ...entity }) => ({
      ...entityFields(entity),
      type,
      message_id: messageId,
      expected,
      received,
      at: new Date(atMs).toISOString(),
    })),
  };
}

/** The status for those who may not see entities, which says so. */
export function withoutEntities({ shards, violations, ...status }: WorkerStatus): WorkerStatus & { readonly withheld: string } {
  return {
    ...status,
    not_ready: status.not_ready.map(withoutParticulars),
    shards: shards.map((shard) => ({ ...shard, open_gaps: [], trials: shard.trials && { ...shard.trials, on_trial: [] } })),
    violations: { ...violations, recent: [] },
    withheld:
      'open_gaps, on_trial, recent violations and the particulars of not_ready may name entities: they need READ_TOKEN or another token',
  };
}

/** A reason without what follows the colon, such as the entity or the server that it concerns. */
export function withoutParticulars(reason: string): string {
  return reason.split(': ', 1)[0]!;
}

/** For an answer that nothing delays. */
const timeoutMs = 2_000;

/** What a worker says of itself; `refused`: it does not take READ_TOKEN; null: none of the stream answers. */
export type WorkerAnswer = WorkerStatus | 'refused' | null;

export function isReport(answer: WorkerAnswer): answer is WorkerStatus {
  return answer !== null && answer !== 'refused';
}

export const tokenRefused = { what: 'refuses READ_TOKEN', remedy: 'give it the value that the worker has' } as const;

/** The worker at HTTP_HOST and HTTP_PORT. */
export async function askWorker(config: Config, time: Time): Promise<WorkerAnswer> {
  return config.http.port === 0 ? null : askWorkerAt(urlOf(config.http), config, time);
}

/** The worker at `http://host:port`. It is shown READ_TOKEN, never more. */
export async function askWorkerAt(url: string, { http, broker: { stream } }: Config, time: Time): Promise<WorkerAnswer> {
  try {
    const headers: Record<string, string> = http.readToken === null ? {} : { authorization: `Bearer ${http.readToken}` };
    const limitMs = timeoutMs + (http.readToken === null ? 0 : longestDelayMs);
    const response = await fetch(new URL('/status', url), { headers, signal: timeLimit(time, limitMs) });
    if (response.status === 401 && http.readToken !== null) return 'refused';
    const status: unknown = await response.json();
    return isWorkerStatus(status) && status.stream === stream ? status : null;
  } catch {
    // No answer, or not from a worker: the caller reports it.
    return null;
  }
}

/** The gap of the entity, if one of the workers has it. */
export function gapOf(workers: readonly WorkerStatus[], { entityType, entityId }: EntityRef): GapStatus | null {
  const gaps = workers.flatMap(({ shards }) => shards).flatMap(({ open_gaps }) => open_gaps);
  return gaps.find((gap) => gap.entity_type === entityType && gap.entity_id === entityId) ?? null;
}

/**
 * The number of held events of an entity at a worker. Null if unknown: an unlisted entity
 * may belong to another worker, unless this one owns every shard and lists every gap.
 */
export function heldBy(status: WorkerAnswer, entity: EntityRef, shards: number): number | null {
  if (!isReport(status)) return null;
  const gap = gapOf([status], entity);
  if (gap !== null) return gap.held;
  const owned = status.shards.filter(({ epoch, gaps, open_gaps }) => epoch !== null && open_gaps.length === gaps);
  return owned.length === shards ? 0 : null;
}

/** The URL at which a client reaches a server. */
export function urlOf({ host, port }: Pick<HttpConfig, 'host' | 'port'>): string {
  // Addresses for every interface are only for listening.
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
}

function isWorkerStatus(value: unknown): value is WorkerStatus {
  if (!isRecord(value) || !Array.isArray(value['shards']) || !Array.isArray(value['not_ready'])) return false;
  if (typeof value['stream'] !== 'string' || typeof value['state'] !== 'string') return false;
  return value['shards'].every((shard) => isRecord(shard) && typeof shard['shard'] === 'number' && Array.isArray(shard['open_gaps']));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/**
 * What a running worker says of itself on `/status`, as far as commands use it. The worker may be another
 * version, or something else altogether may listen on the port: what does not have the shape is no answer.
 */
import type { Config, HttpConfig } from '../config/config.ts';
import type { EntityRef } from '../events/event.ts';
import { type Time, timeLimit } from '../time.ts';
import type { ShardTotals } from './metrics.ts';

const timeoutMs = 2_000;

export interface GapReport {
  readonly entity_type: string;
  readonly entity_id: string;
  readonly version: number;
  readonly missing_from: number;
  readonly held: number;
  /** These three since the console needs them; an older worker does not say them. */
  readonly missing_to?: number;
  readonly held_sequences?: readonly (readonly [first: number, last: number])[];
  readonly ends_in_ms?: number;
}

export interface ShardReport {
  readonly shard: number;
  readonly channel: string;
  /** Null: it has not been given anything yet, so it may be a standby. */
  readonly epoch: number | null;
  readonly held: number;
  readonly gaps: number;
  /** Not from an older worker. */
  readonly totals?: ShardTotals;
  /** The ones that wait longest; not all of them when there are many. */
  readonly open_gaps: readonly GapReport[];
}

export interface WorkerReport {
  readonly service: string;
  readonly stream: string;
  readonly state: string;
  readonly not_ready: readonly string[];
  readonly shards: readonly ShardReport[];
}

/** The worker at HTTP_HOST and HTTP_PORT; null when none answers there, or one of another stream. */
export async function askWorker({ http, broker }: Config, time: Time): Promise<WorkerReport | null> {
  return http.port === 0 ? null : askWorkerAt(urlOf(http), broker.stream, time);
}

/** The worker at `http://host:port`; null when none of this stream answers there. */
export async function askWorkerAt(url: string, stream: string, time: Time): Promise<WorkerReport | null> {
  try {
    const response = await fetch(new URL('/status', url), { signal: timeLimit(time, timeoutMs) });
    const report: unknown = await response.json();
    return isWorkerReport(report) && report.stream === stream ? report : null;
  } catch {
    // Nobody there, or not a worker: the caller says so.
    return null;
  }
}

/**
 * How many events of an entity the worker holds. Null when it cannot know: an entity that it does not list
 * may be with another worker, unless it owns every shard and lists every gap.
 */
export function heldBy(report: WorkerReport | null, entity: EntityRef, shards: number): number | null {
  if (report === null) return null;
  const gap = report.shards
    .flatMap(({ open_gaps }) => open_gaps)
    .find(({ entity_type, entity_id }) => entity_type === entity.entityType && entity_id === entity.entityId);
  if (gap !== undefined) return gap.held;
  const owned = report.shards.filter(({ epoch, gaps, open_gaps }) => epoch !== null && open_gaps.length === gaps);
  return owned.length === shards ? 0 : null;
}

/** Where a client reaches what listens there. */
export function urlOf({ host, port }: Pick<HttpConfig, 'host' | 'port'>): string {
  // Addresses that mean "every interface" are for listening only.
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
}

function isWorkerReport(value: unknown): value is WorkerReport {
  if (!isRecord(value) || !Array.isArray(value['shards']) || !Array.isArray(value['not_ready'])) return false;
  if (typeof value['stream'] !== 'string' || typeof value['state'] !== 'string') return false;
  return value['shards'].every((shard) => isRecord(shard) && typeof shard['shard'] === 'number' && Array.isArray(shard['open_gaps']));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

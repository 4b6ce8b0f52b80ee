/**
 * The order in which a worker subscribes to its shards when several workers start at once. The first to subscribe becomes the
 * active consumer of a shard, so each worker starts with its own share and becomes a standby for the rest once the others have
 * taken theirs. The wait is short: a shard that still has no consumer is taken.
 */
import { sleep, type Time } from '../time.ts';

export interface WorkerShare {
  /** From 0. */
  readonly ordinal: number;
  readonly replicas: number;
}

export interface StartOrderOptions {
  readonly shards: readonly number[];
  /** Null: all shards at once. */
  readonly share: WorkerShare | null;
  readonly start: (shard: number) => void;
  /** Consumers of each shard, in the order asked; null where that is not known. Never rejects. */
  readonly consumersOf: (shards: readonly number[]) => Promise<readonly (number | null)[]>;
  readonly signal: AbortSignal;
  /** How long to wait for the other workers, in milliseconds. Default 10,000. */
  readonly patienceMs?: number;
  readonly time: Time;
}

const defaultPatienceMs = 10_000;
const pollMs = 250;

/** The share of an ordinal: the shards whose remainder by `replicas` it is. */
export function isOwnShare(shard: number, { ordinal, replicas }: WorkerShare): boolean {
  return shard % replicas === ordinal % replicas;
}

/** Starts the shards in turn; resolves when all are started, or the signal aborts. */
export async function startShards(options: StartOrderOptions): Promise<void> {
  const { shards, share, start, consumersOf, signal, patienceMs = defaultPatienceMs, time } = options;
  const own = share === null ? shards : shards.filter((shard) => isOwnShare(shard, share));
  for (const shard of own) start(shard);
  let others = shards.filter((shard) => !own.includes(shard));
  for (const deadlineMs = time.nowMs() + patienceMs; others.length > 0 && time.nowMs() < deadlineMs; ) {
    const consumers = await consumersOf(others);
    if (signal.aborted) return;
    const taken = others.filter((_, index) => (consumers[index] ?? 0) > 0);
    for (const shard of taken) start(shard);
    others = others.filter((shard) => !taken.includes(shard));
    if (others.length > 0) await sleep(time, pollMs, signal);
    if (signal.aborted) return;
  }
  for (const shard of others) start(shard);
}

/**
 * What became of every message of a `StreamRun`, from the three who know: the worker that counted them, the store that
 * keeps what was applied, and the dead-letter queue that has the rest. Of a stream at rest they must tell the same.
 */
import assert from 'node:assert/strict';
import amqp from 'amqplib';
import { listDeadLetters } from '../../src/dead-letters/inspect.ts';
import { defaultEventLimits } from '../../src/events/event.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import type { Snapshot } from '../../src/ordering/entity.ts';
import type { Store } from '../../src/stores/store.ts';
import { systemTime } from '../../src/time.ts';
import { waitFor } from './services.ts';
import type { StreamRun } from './stream-run.ts';
import type { WorkerProcess } from './worker-process.ts';

/** How messages ended; what is not named is 0. */
export interface Outcomes {
  readonly applied?: number;
  readonly duplicate?: number;
  readonly skipped?: number;
  /** By reason. */
  readonly deadLettered?: Readonly<Record<string, number>>;
}

/** A dead letter as `dead-letters list` tells it. */
export interface Letter {
  readonly entityId: string | null;
  readonly sequence: number | null;
  readonly reason: string;
  readonly detail: string;
}

/** Waits until there are `count` dead letters and reads them, oldest first; they stay where they are. */
export async function deadLettersOf(run: StreamRun, count: number): Promise<Letter[]> {
  await waitFor(async () => (await run.ready(run.deadLetters)) >= count, { what: `${count} dead letters`, timeoutMs: 30_000 });
  const connection = await amqp.connect(run.amqpUrl);
  try {
    return await withStore(run, async (store) => {
      const decoding = { limits: defaultEventLimits, defaultEntityType: 'order', unsequenced: 'reject' as const };
      const found: Letter[] = [];
      for await (const letters of listDeadLetters({ connection, stream: run.stream, store, decoding, time: systemTime })) {
        found.push(...letters.map(({ entityId, sequence, reason, detail }) => ({ entityId, sequence, reason, detail })));
      }
      return found;
    });
  } finally {
    await connection.close();
  }
}

/** What is stored of an entity: the snapshot, and the types that its history holds. */
export async function storedOf(run: StreamRun, entityId: string): Promise<Snapshot & { readonly types: readonly string[] }> {
  const [loaded] = await withStore(run, (store) => store.load([{ entityType: 'trace', entityId }]));
  assert.ok(loaded?.status === 'ok');
  const { state } = loaded.snapshot;
  return { ...loaded.snapshot, types: state === null ? [] : JSON.parse(state).types };
}

/** Waits until the worker has ended as many messages as were published to it, each arrived once, and compares how. */
export async function assertLedger(worker: WorkerProcess, published: number, expected: Outcomes): Promise<void> {
  const { applied = 0, duplicate = 0, skipped = 0, deadLettered = {} } = expected;
  const letters = Object.values(deadLettered).reduce((sum, count) => sum + count, 0);
  assert.equal(applied + duplicate + skipped + letters, published, 'what is expected balances');
  let ended: Required<Outcomes> = { applied: 0, duplicate: 0, skipped: 0, deadLettered: {} };
  const counted = async () => {
    ended = await outcomesOf(worker);
    return [ended.applied, ended.duplicate, ended.skipped, ...Object.values(ended.deadLettered)].reduce((sum, count) => sum + count, 0);
  };
  // A time-out shows in the comparison, which says more.
  await waitFor(async () => (await counted()) >= published, { what: 'every message ended', timeoutMs: 30_000 }).catch(() => undefined);
  assert.deepEqual(ended, { applied, duplicate, skipped, deadLettered });
  assert.equal(await worker.metric('inorder_events_total', { outcome: 'dead-lettered' }), letters);
  assert.equal(await worker.metric('inorder_deliveries_total'), published);
}

/** As `assertNothingLeft`, if the applied log is not 1, 2, 3…: the worker ends, and all queues but the dead letters' are empty. */
export async function assertAtRest(run: StreamRun, worker: WorkerProcess, deadLetters: number): Promise<void> {
  assert.equal(await worker.metric('inorder_held'), 0);
  await run.end(worker);
  const expected = [0, 0, 0, deadLetters];
  let left: number[] = [];
  const settled = async () => {
    left = await Promise.all([run.queue(0), run.queue(1), run.unrouted, run.deadLetters].map((queue) => run.ready(queue)));
    return left.every((count, index) => count === expected[index]);
  };
  await waitFor(settled, { what: 'the queues to settle' }).catch(() => undefined);
  assert.deepEqual(left, expected, 'shards, unrouted, dead letters');
}

async function outcomesOf(worker: WorkerProcess): Promise<Required<Outcomes>> {
  const { body } = await worker.get('/metrics');
  const deadLettered: Record<string, number> = {};
  for (const [, reason = '', count] of body.matchAll(/^inorder_dead_letters_total\{.*reason="(\w+)".*\} (\d+)$/gm)) {
    deadLettered[reason] = (deadLettered[reason] ?? 0) + Number(count);
  }
  const outcome = (name: string) => worker.metric('inorder_events_total', { outcome: name });
  return { applied: await outcome('applied'), duplicate: await outcome('duplicate'), skipped: await outcome('skipped'), deadLettered };
}

async function withStore<T>(run: StreamRun, use: (store: Store) => Promise<T>): Promise<T> {
  const store = createRedisStore({ url: run.redisUrl, stream: run.stream, idempotencyTtlSeconds: 3_600 });
  try {
    return await use(store);
  } finally {
    await store.close();
  }
}

/** The account of one worker: how every message that was published has ended, and the worker's own numbers, which must say the same. */
import assert from 'node:assert/strict';
import { waitFor } from './services.ts';
import type { StreamRun } from './stream-run.ts';
import type { WorkerProcess } from './worker-process.ts';

export interface Account {
  readonly applied: number;
  readonly duplicate: number;
  readonly 'dead-lettered': number;
  readonly skipped: number;
}

export async function accountOf(worker: WorkerProcess): Promise<Account> {
  const outcome = (name: string) => worker.metric('inorder_events_total', { outcome: name });
  const [applied, duplicate, deadLettered, skipped] = await Promise.all([outcome('applied'), outcome('duplicate'), outcome('dead-lettered'), outcome('skipped')]);
  return { applied, duplicate, 'dead-lettered': deadLettered, skipped };
}

/** Waits until so many messages have ended, and checks that they ended like this, in the metrics and in the queue. */
export async function assertAccount(run: StreamRun, worker: WorkerProcess, expected: Partial<Account>): Promise<void> {
  const account = { applied: 0, duplicate: 0, 'dead-lettered': 0, skipped: 0, ...expected };
  const sum = (one: Account) => one.applied + one.duplicate + one['dead-lettered'] + one.skipped;
  await waitFor(async () => sum(await accountOf(worker)) >= sum(account), { what: `${sum(account)} messages to end`, timeoutMs: 30_000 });
  assert.deepEqual(await accountOf(worker), account);
  assert.equal(await worker.metric('inorder_held'), 0);
  await waitFor(async () => (await run.ready(run.deadLetters)) === account['dead-lettered'], { what: 'the dead letters' });
}

/** The detector's metrics: how many violations, and the sizes of the gaps as count and sum. */
export async function violationsOf(worker: WorkerProcess) {
  const [total, gaps, missing] = await Promise.all([
    worker.metric('message_ordering_violations_total'),
    worker.metric('message_sequence_gap_count'),
    worker.metric('message_sequence_gap_sum'),
  ]);
  return { total, gaps, missing };
}

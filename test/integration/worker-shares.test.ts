/** Workers that are started together divide the shards as their ordinals say, and each shard has a standby. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { interleaved } from '../support/trace.ts';
import type { WorkerProcess } from '../support/worker-process.ts';

/** Shards of which the worker has been given messages. */
async function fed(worker: WorkerProcess): Promise<readonly number[]> {
  const { shards } = await worker.status();
  return shards
    .filter(({ totals }: { totals: { delivered: number } }) => totals.delivered > 0)
    .map(({ shard }: { shard: number }) => shard);
}

test('each of two workers is fed by its own share of the shards, and by all once the other is gone', async (t) => {
  const run = new StreamRun(t, 'shares', { ...(await useServices(t)), variables: { WORKER_REPLICAS: '2' } });
  // In the order in which they would be wrong if whoever subscribes first had everything.
  const [second, first] = await Promise.all([run.worker({ WORKER_ORDINAL: '1' }), run.worker({ WORKER_ORDINAL: '0' })]);
  await run.publish(interleaved(40, 3));
  await run.untilApplied(120);
  assert.deepEqual([await fed(first), await fed(second)], [[0], [1]]);
  await run.kill(second);
  await run.publish(interleaved(40, 3, 'later'));
  await run.untilApplied(240);
  await waitFor(async () => (await fed(first)).length === 2, { what: 'the standby fed by both' });
  await run.assertBalanced(80, 3);
});

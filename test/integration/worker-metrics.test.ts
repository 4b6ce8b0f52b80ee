/** That a real worker gives what alerts and panels are built on. What is counted of messages is held against the books elsewhere. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';

const of = (entityId: string, ...sequences: readonly number[]) => sequences.map((sequence) => ({ entityId, sequence }));

test('gaps, parkings, redeliveries and the counts of queues are told as they are', async (t) => {
  const { managementUrl, ...services } = await useServices(t);
  const managed: Record<string, string> = managementUrl === null ? {} : { MANAGEMENT_URL: managementUrl };
  const run = new StreamRun(t, 'metrics', { ...services, variables: { ...managed, GAP_TIMEOUT_MS: '20000', PREFETCH: '500' } });
  const first = await run.worker();
  const second = await run.worker();
  assert.deepEqual([await first.metric('inorder_gap_timeout_seconds'), await first.metric('inorder_prefetch')], [20, 500]);
  assert.equal(await first.metric('inorder_gap_oldest_seconds'), 0);
  await waitFor(async () => (await second.metric('inorder_shard_queue_consumers', { shard: '1' })) === 1, {
    what: 'the active consumer counted',
    timeoutMs: 40_000,
  });

  await run.publish(of('a', 1, 3, 4));
  await waitFor(async () => (await first.metric('inorder_gap_oldest_seconds')) > 1, { what: 'a gap that gets older' });
  assert.equal(await first.metric('inorder_unacked'), 2);
  await run.kill(first);
  await waitFor(async () => (await second.metric('inorder_redeliveries_total')) === 2, { what: 'what the other had', timeoutMs: 30_000 });

  await waitFor(async () => (await second.metric('inorder_entities_parked_total')) === 1, { what: 'the entity parked', timeoutMs: 40_000 });
  await waitFor(async () => (await second.metric('inorder_dead_letter_queue_messages', { state: 'ready' })) === 2, {
    what: 'the dead letters counted',
    timeoutMs: 40_000,
  });
  assert.equal(await second.metric('inorder_unrouted_messages'), 0);
  assert.ok((await second.metric('inorder_queue_reading_age_seconds')) < 60);
  const { body } = await second.get('/metrics');
  assert.equal(
    /inorder_shard_queue_messages\{.*state="unacked"/.test(body),
    managementUrl !== null,
    'unacked is known where the management API is',
  );
  assert.equal(await second.metric('inorder_entities_unparked_total'), 0);
});

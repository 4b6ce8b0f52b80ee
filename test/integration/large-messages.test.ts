/** A worker with little memory and large messages: none is lost or overtaken, and those without room stay with the broker. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { useServices } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { bodyOf, interleaved, type TraceEvent } from '../support/trace.ts';

test('messages beyond the memory budget wait at the broker, and every entity is applied in order', async (t) => {
  const run = new StreamRun(t, 'large', { ...(await useServices(t)), variables: { MEMORY_BUDGET_MIB: '16' } });
  const first = await run.worker();
  await run.end(first);
  const channel = await run.channel();
  const publish = async (events: readonly TraceEvent[], bytes: number) => {
    for (const event of events)
      channel.publish(run.stream, event.entityId, bodyOf(event, 'x'.repeat(bytes)), {
        persistent: true,
        messageId: `${event.entityId}/${event.sequence}`,
      });
    await channel.waitForConfirms();
  };
  await publish([{ entityId: 'late', sequence: 2 }], 50_000);
  await publish(interleaved(8, 4), 900_000);
  await publish([{ entityId: 'late', sequence: 1 }], 50_000);
  const worker = await run.worker();
  await run.untilApplied(34, 120_000);
  assert.ok((await worker.metric('inorder_deliveries_given_back_total')) > 0, 'there was no room for all of them at once');
  // The one that came too early did so by itself: nothing passed another on its way back to the queue.
  assert.equal(await worker.metric('message_ordering_violations_total'), 1);
  assert.equal(await worker.metric('inorder_events_total', { outcome: 'applied' }), 34);
  await run.assertNothingLeft();
});

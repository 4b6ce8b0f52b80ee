/**
 * One handler that never succeeds, one entity whose keys stay unusable, and gaps that nothing closes: whatever the order in
 * which all of that comes, everything else of the shard is settled.
 */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import type { Event } from '../../src/events/event.ts';
import { event, ModelStore, SequencerHarness } from '../support/sequencer-harness.ts';
import { Run, traffic } from '../support/sequencer-run.ts';

const stuck = [event(1, { entityId: 'handler' }), event(1, { entityId: 'keys' })];
const early = Array.from({ length: 12 }, (_, index) => event(2, { entityId: `gap-${index}` }));
const limits = { gapTimeoutMs: 1_000, gapRereadMs: 200, maxFold: 4, prefetch: 10, maxHeld: 8 };

type Asked = SequencerHarness['asked'][number];
const isOf = (one: Asked, entityId: string) => 'entity' in one && one.entity.entityId === entityId;
const isStuck = (one: Asked) => isOf(one, 'keys') || (isOf(one, 'handler') && one.kind === 'commit');

/** Until nothing but what is stuck is left. */
function finish(harness: SequencerHarness, run: Run): void {
  const processing = new Set<number>();
  for (let steps = 0; steps < 3_000; steps++) {
    if (run.queue.length === 0 && harness.unsettledCount === stuck.length) return;
    if (run.deliver(7)) continue;
    const at = harness.asked.findIndex((one) => !isStuck(one));
    const unusable = harness.asked.findIndex((one) => isOf(one, 'keys'));
    const runs = harness.asked.find((one) => isOf(one, 'handler') && one.kind === 'commit' && !processing.has(one.op));
    if (at >= 0) harness.answer(at);
    else if (harness.turn !== null) run.take({ kind: 'turn' });
    else if (runs !== undefined) {
      processing.add(runs.op);
      harness.fact({ kind: 'processing', op: runs.op });
    } else if (unusable >= 0) harness.fact({ kind: 'entityUnavailable', op: harness.loseReply(unusable, false), retryInMs: 100 });
    else assert.ok(harness.toNextDeadline(), 'the shard waits for nothing');
  }
  assert.fail(`the shard stands still: ${JSON.stringify(harness.sequencer.overview())}`);
}

for (const gapTimeoutAction of ['dead-letter', 'skip-ahead'] as const) {
  it(`settles everything else beside what is stuck for ever and more gaps than may be held, with ${gapTimeoutAction}`, () => {
    const arrivals = traffic.chain(({ arrivals: others }) => {
      const all: Event[] = [...stuck, ...early, ...others];
      return fc.shuffledSubarray(all, { minLength: all.length });
    });
    fc.assert(
      fc.property(arrivals, (all) => {
        const harness = new SequencerHarness({ ...limits, gapTimeoutAction }, new ModelStore({ allowsLeaps: true }));
        const run = new Run(harness, all);
        finish(harness, run);
        assert.equal(harness.settled.length, all.length - stuck.length);
      }),
      { numRuns: 100 },
    );
  });
}

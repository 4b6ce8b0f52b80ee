/** How much may be held, for one entity and for the shard, and copies among it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { event, ModelStore, SequencerHarness } from '../support/sequencer-harness.ts';

const limits = { gapTimeoutMs: 30_000, gapRereadMs: 5_000 };

/** An entity at version 1 that holds 3, its gap claimed and read. */
function waitingFor2(more = {}): SequencerHarness {
  const harness = new SequencerHarness({ ...limits, ...more });
  harness.process(event(1), event(3));
  return harness;
}

describe('the limits on what is held', () => {
  it('end the gap of an entity that holds too much, after one more reading, and drop nothing', () => {
    const harness = new SequencerHarness({ ...limits, maxHeldPerEntity: 3 });
    const tags = harness.process(event(3), event(4));
    assert.equal(harness.store.parkedFor(), null);
    const more = harness.process(event(5), event(6));
    assert.equal(harness.store.parkedFor(), 'buffer_overflow');
    for (const tag of [...tags, ...more]) assert.equal(harness.outcomeOf(tag), 'buffer_overflow');
    assert.equal(harness.unsettledCount, 0);
  });

  it('end the gap that is nearest to its end when the shard holds too much', () => {
    const harness = new SequencerHarness({ ...limits, maxHeld: 3 });
    harness.process(event(3, { entityId: 'b' }));
    harness.nowMs += 10;
    harness.process(event(2, { entityId: 'a' }));
    harness.nowMs += 10;
    harness.process(event(2, { entityId: 'c' }));
    assert.equal(harness.sequencer.nextDeadlineMs(), harness.nowMs);
    harness.toNextDeadline();
    harness.answerAll();
    assert.equal(harness.store.parkedFor('b'), 'buffer_overflow');
    assert.equal(harness.store.parkedFor('a'), null);
    assert.equal(harness.store.parkedFor('c'), null);
    assert.equal(harness.sequencer.overview().held, 2);
  });

  it('end as many gaps as it takes when one delivery of many events fills the shard', () => {
    const harness = new SequencerHarness({ ...limits, maxHeld: 6 });
    for (const entityId of ['a', 'b', 'c', 'd']) harness.process(event(2, { entityId }));
    harness.nowMs += 10;
    harness.process(...[2, 3, 4, 5].map((sequence) => event(sequence, { entityId: 'z' })));
    harness.pass(200);
    harness.answerAll();
    assert.equal(harness.sequencer.overview().held, 5);
    assert.deepEqual(
      ['a', 'b', 'c', 'd', 'z'].map((entityId) => harness.store.parkedFor(entityId) !== null),
      [true, true, true, false, false],
    );
  });

  it('do not end a gap that closes in time', () => {
    const harness = new SequencerHarness({ ...limits, maxHeld: 2 });
    harness.process(event(2, { entityId: 'a' }));
    harness.process(event(2, { entityId: 'b' }));
    harness.process(event(1, { entityId: 'a' }));
    harness.toNextDeadline();
    harness.answerAll();
    assert.equal(harness.store.parkedFor('a'), null);
    assert.deepEqual(harness.store.applied('a'), [1, 2]);
  });

  it('count every copy', () => {
    const harness = new SequencerHarness({ ...limits, maxHeldPerEntity: 3 });
    harness.process(event(3), event(3), event(3));
    assert.deepEqual(harness.sequences('buffer_overflow'), [3, 3, 3]);
  });

  it('skip ahead where that is chosen', () => {
    const harness = new SequencerHarness(
      { ...limits, maxHeldPerEntity: 2, gapTimeoutAction: 'skip-ahead' },
      new ModelStore({ allowsLeaps: true }),
    );
    harness.process(event(3), event(4));
    assert.deepEqual(harness.store.applied(), [3, 4]);
  });
});

describe('duplicates among what is held', () => {
  it('leave with the event: one is applied, the other is a duplicate', () => {
    const harness = waitingFor2();
    harness.process(event(3));
    harness.process(event(2));
    assert.deepEqual(harness.sequences('applied'), [1, 2, 3]);
    assert.deepEqual(harness.sequences('duplicate'), [3]);
    assert.equal(harness.unsettledCount, 0);
  });

  it('are a sequence_conflict when their payload differs from what was applied', () => {
    const harness = waitingFor2();
    const [other] = harness.process(event(3, { id: 'x', payloadHash: 'x' })) as [number];
    harness.process(event(2));
    assert.equal(harness.outcomeOf(other), 'sequence_conflict');
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
  });
});

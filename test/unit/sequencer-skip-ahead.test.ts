/** `GAP_TIMEOUT_ACTION=skip-ahead`, and the holes that it and the strategies leave. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { maxIntervals } from '../../src/ordering/holes.ts';
import { event, ModelStore, SequencerHarness } from '../support/sequencer-harness.ts';

const leaping = () => new ModelStore({ allowsLeaps: true });

describe('skip-ahead at the end of a gap', () => {
  const limits = { gapTimeoutMs: 10_000, gapTimeoutAction: 'skip-ahead' } as const;

  it('goes on with the lowest held event and leaves a hole', () => {
    const harness = new SequencerHarness(limits, leaping());
    harness.process(event(1), event(5), event(4));
    harness.pass(10_000);
    harness.answerAll();
    assert.deepEqual(harness.store.applied(), [1, 4, 5]);
    assert.equal(harness.store.snapshot(event(1)).holes, '2-3');
    assert.equal(harness.store.parkedFor(), null);
    assert.equal(harness.unsettledCount, 0);
  });

  it('counts the wait of what is held behind the next gap from when it came, too', () => {
    const harness = new SequencerHarness(limits, leaping());
    harness.process(event(3));
    harness.pass(6_000);
    harness.answerAll();
    harness.process(event(9));
    harness.pass(4_000);
    harness.answerAll();
    assert.deepEqual(harness.store.applied(), [3]);
    harness.pass(6_000);
    harness.answerAll();
    assert.deepEqual(harness.store.applied(), [3, 9]);
  });

  it('settles copies of the event that it goes on with as duplicates', () => {
    const harness = new SequencerHarness(limits, leaping());
    harness.process(event(3), event(3));
    harness.pass(10_000);
    harness.answerAll();
    assert.deepEqual(harness.sequences('applied'), [3]);
    assert.deepEqual(harness.sequences('duplicate'), [3]);
  });

  it('rejects what was passed over as late, and parks nothing', () => {
    const harness = new SequencerHarness(limits, leaping());
    harness.process(event(3));
    harness.pass(10_000);
    harness.answerAll();
    const [late, next] = harness.process(event(2), event(4)) as [number, number];
    assert.equal(harness.outcomeOf(late), 'late');
    assert.equal(harness.outcomeOf(next), 'applied');
    assert.equal(harness.store.parkedFor(), null);
  });

  it('parks the entity when the event that it goes on with fails', () => {
    const harness = new SequencerHarness(limits, new ModelStore({ allowsLeaps: true, fails: ({ sequence }) => sequence === 3 }));
    harness.process(event(3), event(5));
    harness.pass(10_000);
    harness.answerAll();
    assert.deepEqual(harness.sequences('handler_failed'), [3]);
    assert.deepEqual(harness.sequences('entity_parked'), [5]);
    assert.deepEqual(harness.store.applied(), []);
  });

  it('goes on at once where the id of that event is known: it consumes the slot, or is rejected and parks', () => {
    for (const [payloadHash, outcome] of [
      [event(1).payloadHash, 'duplicate'],
      ['other', 'message_id_conflict'],
    ] as const) {
      const harness = new SequencerHarness(limits, leaping());
      harness.process(event(1), event(4, { id: 'e1-1', payloadHash }));
      harness.pass(10_000);
      harness.answerAll();
      assert.deepEqual(harness.sequences(outcome), [4]);
      harness.process(event(5));
      assert.equal(harness.unsettledCount, 0);
      assert.deepEqual(harness.store.applied(), outcome === 'duplicate' ? [1, 5] : [1]);
    }
  });

  it('consumes that event also when its predecessors arrive before it is decided again', () => {
    const harness = new SequencerHarness(limits, leaping());
    harness.process(event(1), event(4, { id: 'e1-1', payloadHash: event(1).payloadHash }));
    harness.pass(10_000);
    harness.answer();
    assert.deepEqual(harness.askedKinds, ['commit']);
    harness.arrive(event(2), event(3));
    harness.answerAll();
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
    assert.deepEqual(harness.sequences('duplicate'), [4]);
    assert.equal(harness.effects('commit').length, 3, 'no commit is refused twice');
  });

  it('decides again when the version has moved meanwhile', () => {
    const harness = new SequencerHarness(limits, leaping());
    harness.process(event(3));
    harness.pass(10_000);
    harness.answer();
    assert.deepEqual(harness.askedKinds, ['commit']);
    harness.store.applyElsewhere(event(1), event(2));
    harness.answerAll();
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
    assert.equal(harness.store.snapshot(event(1)).holes, '');
  });
});

describe('holes', () => {
  it('are bounded: beyond that the lowest are forgotten, and what falls there is late unless it is remembered', () => {
    const harness = new SequencerHarness({ strategy: 'log_and_process', maxHeld: 10_000 }, leaping());
    for (let sequence = 2; sequence <= 2 * (maxIntervals + 2); sequence += 2) harness.process(event(sequence));
    const [forgotten, kept, again] = harness.process(event(1), event(5), event(2)) as [number, number, number];
    assert.equal(harness.outcomeOf(forgotten), 'late');
    assert.equal(harness.outcomeOf(kept), 'applied');
    assert.equal(harness.outcomeOf(again), 'duplicate');
  });
});

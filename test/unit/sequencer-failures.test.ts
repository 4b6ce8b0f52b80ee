/** A processor that fails for good. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { event, ModelStore, SequencerHarness } from '../support/sequencer-harness.ts';

describe('a failing processor', () => {
  const failingAt = (bad: number) => new SequencerHarness({}, new ModelStore({ fails: ({ sequence }) => sequence === bad }));

  for (const [place, bad] of [
    ['first', 1],
    ['middle', 3],
    ['last', 5],
  ] as const) {
    it(`rejects the ${place} event of a run, keeps what is before it and lets nothing pass it`, () => {
      const harness = failingAt(bad);
      harness.process(...[1, 2, 3, 4, 5].map((sequence) => event(sequence)));
      const before = [1, 2, 3, 4].filter((sequence) => sequence < bad);
      const behind = [2, 3, 4, 5].filter((sequence) => sequence > bad);
      assert.deepEqual(harness.store.applied(), before);
      assert.deepEqual(harness.sequences('applied'), before);
      assert.deepEqual(harness.sequences('handler_failed'), [bad]);
      assert.deepEqual(harness.sequences('entity_parked'), behind);
      assert.equal(harness.store.parkedFor(), 'handler_failed');
    });
  }

  it('rejects its event before what follows, and only once the entity is parked', () => {
    const harness = failingAt(1);
    harness.arrive(event(1), event(2));
    harness.answer();
    harness.answer();
    assert.deepEqual(harness.askedKinds, ['park']);
    assert.equal(harness.settled.length, 0);
    harness.answerAll();
    assert.deepEqual(
      harness.settled.map(({ event: one }) => one?.sequence),
      [1, 2],
    );
  });

  it('rejects what was held behind it', () => {
    const harness = failingAt(2);
    harness.process(event(1), event(4), event(5));
    harness.process(event(2));
    assert.deepEqual(harness.sequences('handler_failed'), [2]);
    assert.deepEqual(harness.sequences('entity_parked'), [4, 5]);
    assert.equal(harness.sequencer.overview().gaps, 0);
  });

  it('is tried again when the event comes again, and rejected again', () => {
    const harness = failingAt(1);
    harness.process(event(1));
    harness.process(event(1));
    assert.deepEqual(harness.sequences('handler_failed'), [1, 1]);
    assert.equal(harness.store.parkedFor(), 'handler_failed');
  });

  it('does not park when another owner has processed the event meanwhile', () => {
    const harness = failingAt(2);
    harness.process(event(1));
    harness.arrive(event(2));
    harness.answer();
    assert.deepEqual(harness.askedKinds, ['park']);
    harness.store.applyElsewhere(event(2));
    harness.answerAll();
    assert.deepEqual(harness.sequences('duplicate'), [2]);
    assert.equal(harness.store.parkedFor(), null);
  });

  it('delays no other entity', () => {
    const harness = new SequencerHarness({}, new ModelStore({ fails: ({ entityId }) => entityId === 'bad' }));
    harness.process(event(1, { entityId: 'bad' }), event(1, { entityId: 'good' }), event(2, { entityId: 'good' }));
    assert.deepEqual(harness.store.applied('good'), [1, 2]);
  });
});

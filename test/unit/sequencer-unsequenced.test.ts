/** Events without a sequence, rejected or applied in the order of delivery. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { event, ModelStore, SequencerHarness } from '../support/sequencer-harness.ts';

describe('an event without a sequence', () => {
  const loose = (id: string, fields = {}) => event(null, { id, payloadHash: id, ...fields });

  it('is rejected as invalid_sequence by default', () => {
    const harness = new SequencerHarness();
    const [tag] = harness.process(loose('x')) as [number];
    assert.equal(harness.outcomeOf(tag), 'invalid_sequence');
    assert.deepEqual(
      harness.log.map(({ kind }) => kind),
      ['reject'],
    );
  });

  it('is applied in the order of delivery when UNSEQUENCED is process', () => {
    const harness = new SequencerHarness({ unsequenced: 'process' });
    harness.process(loose('x'), loose('y'));
    harness.process(loose('z'));
    assert.deepEqual(
      harness.store.entity(event(1)).applied.map(({ id }) => id),
      ['x', 'y', 'z'],
    );
  });

  it('is a duplicate when its id is known', () => {
    const harness = new SequencerHarness({ unsequenced: 'process' });
    harness.process(loose('x'));
    const [again, other, twin] = harness.process(loose('x'), loose('y'), loose('y')) as [number, number, number];
    assert.equal(harness.outcomeOf(again), 'duplicate');
    assert.equal(harness.outcomeOf(other), 'applied');
    assert.equal(harness.outcomeOf(twin), 'duplicate');
  });

  it('is rejected as message_id_conflict when its id is known with another payload, and parks nothing', () => {
    const harness = new SequencerHarness({ unsequenced: 'process' });
    harness.process(loose('x'));
    const [bad, next] = harness.process(loose('x', { payloadHash: 'other' }), loose('y')) as [number, number];
    assert.equal(harness.outcomeOf(bad), 'message_id_conflict');
    assert.equal(harness.outcomeOf(next), 'applied');
    assert.equal(harness.store.parkedFor(), null);
  });

  it('is rejected alone when its processor fails', () => {
    const harness = new SequencerHarness({ unsequenced: 'process' }, new ModelStore({ fails: ({ id }) => id === 'bad' }));
    const [before, bad, after] = harness.process(loose('x'), loose('bad'), loose('y')) as [number, number, number];
    assert.equal(harness.outcomeOf(before), 'applied');
    assert.equal(harness.outcomeOf(bad), 'handler_failed');
    assert.equal(harness.outcomeOf(after), 'applied');
    assert.equal(harness.store.parkedFor(), null);
  });

  it('shares no commit with events that have one', () => {
    const harness = new SequencerHarness({ unsequenced: 'process' });
    harness.process(event(1), loose('x'), event(3));
    assert.deepEqual(
      harness.effects('commit').map(({ slots }) => slots.length),
      [1, 1, 1],
    );
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
  });

  it('does not strand a held event whose sequence it has passed', () => {
    const harness = new SequencerHarness({ unsequenced: 'process' });
    harness.process(event(1), event(3));
    const [one, two] = harness.process(loose('x'), loose('y')) as [number, number];
    assert.equal(harness.outcomeOf(one), 'applied');
    assert.equal(harness.outcomeOf(two), 'applied');
    assert.equal(harness.unsettledCount, 0);
  });
});

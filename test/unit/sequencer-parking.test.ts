/** Parked entities: what is rejected, what is applied, and how they go on. */
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

describe('a parked entity', () => {
  function parked(): SequencerHarness {
    const harness = waitingFor2();
    harness.pass(30_000);
    harness.answerAll();
    assert.equal(harness.store.parkedFor(), 'gap_timeout');
    return harness;
  }

  it('sends what comes later after its predecessors, at once and without a gap', () => {
    const harness = parked();
    const [four, nine] = harness.process(event(4), event(9)) as [number, number];
    assert.equal(harness.outcomeOf(four), 'entity_parked');
    assert.equal(harness.outcomeOf(nine), 'entity_parked');
    assert.equal(harness.sequencer.overview().gaps, 0);
  });

  it('applies the missing event when it arrives, and stays parked', () => {
    const harness = parked();
    const [missing, next] = harness.process(event(2), event(4)) as [number, number];
    assert.equal(harness.outcomeOf(missing), 'applied');
    assert.equal(harness.outcomeOf(next), 'entity_parked');
    assert.equal(harness.store.parkedFor(), 'gap_timeout');
  });

  it('goes on in order when its dead letters are replayed in order', () => {
    const harness = parked();
    harness.process(event(4));
    harness.process(event(2));
    harness.store.unpark();
    harness.process(event(3), event(4), event(5));
    assert.deepEqual(harness.store.applied(), [1, 2, 3, 4, 5]);
  });

  it('is read again before anything has to follow its dead letters, once for what came together', () => {
    const harness = parked();
    const before = harness.effects('load').length;
    harness.process(event(4), event(9), event(5));
    assert.equal(harness.effects('load').length, before + 1);
    harness.process(event(6));
    assert.equal(harness.effects('load').length, before + 2);
  });

  it('holds what arrives while its dead letters are replayed, and is parked no more when the last of them is applied', () => {
    const harness = parked();
    harness.process(event(4));
    harness.store.beginReplay();
    const [live] = harness.process(event(5)) as [number];
    assert.equal(harness.outcomeOf(live), null);
    harness.process(event(2), event(3));
    assert.equal(harness.store.parkedFor(), 'gap_timeout');
    harness.process(event(4));
    assert.equal(harness.store.parkedFor(), null);
    assert.deepEqual(harness.store.applied(), [1, 2, 3, 4, 5]);
    assert.equal(harness.outcomeOf(live), 'applied');
  });

  it('makes what it held follow the dead letters when the replay ends without them', () => {
    const harness = parked();
    harness.store.beginReplay();
    const [live] = harness.process(event(5)) as [number];
    harness.store.endReplay();
    harness.pass(limits.gapRereadMs);
    harness.answerAll();
    assert.equal(harness.outcomeOf(live), 'entity_parked');
    assert.equal(harness.sequencer.overview().held, 0);
  });

  it('ends the replay when an event fails again: what was held behind it follows', () => {
    const store = new ModelStore({ fails: ({ sequence }) => sequence === 2 });
    const harness = new SequencerHarness(limits, store);
    harness.process(event(1), event(2), event(3));
    store.beginReplay();
    harness.process(event(4), event(2));
    assert.deepEqual(harness.sequences('handler_failed'), [2, 2]);
    assert.deepEqual(harness.sequences('entity_parked'), [3, 4]);
    assert.equal(store.snapshot(event(1)).parked?.replaying, false);
  });

  it('settles duplicates as ever', () => {
    const harness = parked();
    const [tag] = harness.process(event(1)) as [number];
    assert.equal(harness.outcomeOf(tag), 'duplicate');
  });

  it('waits for predecessors again once a commit has said that it is parked no more', () => {
    const harness = parked();
    harness.store.unpark();
    harness.process(event(2));
    harness.process(event(4));
    assert.deepEqual(harness.sequencer.heldOf('order', 'e1'), { version: 2, sequences: [4] });
  });

  it('keeps the reasons of one parking out of the next', () => {
    const store = new ModelStore({ fails: ({ sequence }) => sequence === 4 });
    const harness = new SequencerHarness(limits, store);
    harness.process(event(1), event(3));
    harness.pass(30_000);
    harness.answer();
    harness.arrive(event(2));
    harness.answerAll();
    store.unpark();
    harness.process(event(3));
    harness.process(event(6), event(4));
    assert.deepEqual(harness.sequences('handler_failed'), [4]);
    assert.deepEqual(harness.sequences('entity_parked'), [6]);
  });
});

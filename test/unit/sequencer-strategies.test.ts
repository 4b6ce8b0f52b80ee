/** What happens to an event that comes before its predecessor, by strategy; holes; adopting a running stream. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { maxIntervals } from '../../src/ordering/holes.ts';
import { event, ModelStore, SequencerHarness } from '../support/sequencer-harness.ts';

const leaping = () => new ModelStore({ allowsLeaps: true });
const violations = (harness: SequencerHarness) => harness.effects('violation').map(({ expected, received }) => [expected, received]);

describe('a violation', () => {
  it('is reported with what was expected and what came', () => {
    const harness = new SequencerHarness();
    harness.process(event(1), event(5));
    assert.deepEqual(violations(harness), [[2, 5]]);
  });

  it('moves what is expected next, so that what follows it is none', () => {
    const harness = new SequencerHarness();
    harness.process(event(3), event(4), event(2));
    assert.deepEqual(violations(harness), [[1, 3]]);
  });

  it('is reported for every new gap', () => {
    const harness = new SequencerHarness();
    harness.process(event(3), event(6), event(7));
    assert.deepEqual(violations(harness), [[1, 3], [4, 6]]);
  });

  it('is reported once, although the event may be decided several times', () => {
    const harness = new SequencerHarness({ strategy: 'log_and_process' }, leaping());
    harness.process(event(1));
    harness.store.applyElsewhere(event(2));
    harness.process(event(5));
    assert.deepEqual(violations(harness), [[2, 5]]);
    assert.deepEqual(harness.store.applied(), [1, 2, 5]);
  });

  it('is not seen in events that follow a parked predecessor', () => {
    const harness = new SequencerHarness({}, new ModelStore({ fails: ({ sequence }) => sequence === 1 }));
    harness.process(event(1), event(2));
    harness.process(event(9));
    assert.deepEqual(harness.sequences('entity_parked'), [2, 9]);
    assert.deepEqual(violations(harness), []);
  });
});

describe('strategy skip', () => {
  it('does not apply an event that came too early, and goes on behind it', () => {
    const harness = new SequencerHarness({ strategy: 'skip' }, leaping());
    const [first, early, next] = harness.process(event(1), event(4), event(5)) as [number, number, number];
    assert.equal(harness.outcomeOf(first), 'applied');
    assert.equal(harness.outcomeOf(early), 'skipped');
    assert.equal(harness.outcomeOf(next), 'applied');
    assert.deepEqual(harness.store.applied(), [1, 5]);
    assert.equal(harness.store.view(event(1)).holes, '2-4');
  });

  it('skips what was passed over when it comes late, and the same event when it comes again', () => {
    const harness = new SequencerHarness({ strategy: 'skip' }, leaping());
    harness.process(event(1), event(4));
    const [late, again] = harness.process(event(3), event(4)) as [number, number];
    assert.equal(harness.outcomeOf(late), 'skipped');
    assert.equal(harness.outcomeOf(again), 'skipped');
    assert.deepEqual(harness.store.applied(), [1]);
  });
});

describe('strategy log_and_process', () => {
  it('applies an event that came too early, and leaves a hole', () => {
    const harness = new SequencerHarness({ strategy: 'log_and_process' }, leaping());
    harness.process(event(1), event(4), event(5));
    assert.deepEqual(harness.store.applied(), [1, 4, 5]);
    assert.equal(harness.store.view(event(1)).holes, '2-3');
  });

  it('applies what was passed over once when it comes late', () => {
    const harness = new SequencerHarness({ strategy: 'log_and_process' }, leaping());
    harness.process(event(4));
    const [two, twin] = harness.process(event(2), event(2)) as [number, number];
    assert.equal(harness.outcomeOf(two), 'applied');
    assert.equal(harness.outcomeOf(twin), 'duplicate');
    assert.deepEqual(harness.store.applied(), [4, 2]);
    assert.equal(harness.store.view(event(1)).holes, '1,3');
  });

  it('closes every hole, in any order, and ends without one', () => {
    const harness = new SequencerHarness({ strategy: 'log_and_process' }, leaping());
    harness.process(event(5), event(3), event(1), event(4), event(2), event(6));
    assert.deepEqual(harness.sequences('applied'), [5, 3, 1, 4, 2, 6]);
    assert.equal(harness.store.view(event(1)).holes, '');
  });

  it('consumes or rejects an early or late event whose id is known, like any other', () => {
    const harness = new SequencerHarness({ strategy: 'log_and_process' }, leaping());
    harness.process(event(1), event(6));
    const [same, other] = harness.process(event(3, { id: 'e1-1', payloadHash: event(1).payloadHash }), event(4, { id: 'e1-1' })) as [number, number];
    assert.equal(harness.outcomeOf(same), 'duplicate');
    assert.equal(harness.outcomeOf(other), 'message_id_conflict');
    assert.equal(harness.store.parkedFor(), null);
  });

  it('rejects a late event whose processor fails and parks nothing, for its successors were applied long ago', () => {
    const harness = new SequencerHarness({ strategy: 'log_and_process' }, new ModelStore({ allowsLeaps: true, fails: ({ sequence }) => sequence === 2 }));
    const [, late, next] = harness.process(event(4), event(2), event(5)) as [number, number, number];
    assert.equal(harness.outcomeOf(late), 'handler_failed');
    assert.equal(harness.outcomeOf(next), 'applied');
    assert.equal(harness.store.parkedFor(), null);
  });

  it('parks the entity when the processor fails on an early event, so that its successors do not pass it', () => {
    const harness = new SequencerHarness({ strategy: 'log_and_process' }, new ModelStore({ allowsLeaps: true, fails: ({ sequence }) => sequence === 4 }));
    const [, failed, next] = harness.process(event(1), event(4), event(5)) as [number, number, number];
    assert.equal(harness.outcomeOf(failed), 'handler_failed');
    assert.equal(harness.outcomeOf(next), 'entity_parked');
    assert.equal(harness.store.parkedFor(), 'handler_failed');
  });
});

describe('strategy fail', () => {
  it('rejects an early event as out_of_order and parks the entity', () => {
    const harness = new SequencerHarness({ strategy: 'fail' });
    const [first, early, later] = harness.process(event(1), event(3), event(4)) as [number, number, number];
    assert.equal(harness.outcomeOf(first), 'applied');
    assert.equal(harness.outcomeOf(early), 'out_of_order');
    assert.equal(harness.outcomeOf(later), 'entity_parked');
    assert.equal(harness.store.parkedFor(), 'out_of_order');
    assert.deepEqual(violations(harness), [[2, 3]]);
  });

  it('still applies the predecessor when it comes', () => {
    const harness = new SequencerHarness({ strategy: 'fail' });
    harness.process(event(2), event(1));
    assert.deepEqual(harness.store.applied(), [1]);
    assert.deepEqual(harness.sequences('out_of_order'), [2]);
  });

  it('decides again when another owner has applied the predecessor', () => {
    const harness = new SequencerHarness({ strategy: 'fail' });
    harness.process(event(1));
    harness.store.applyElsewhere(event(2));
    const [tag] = harness.process(event(3)) as [number];
    assert.equal(harness.outcomeOf(tag), 'applied');
    assert.equal(harness.store.parkedFor(), null);
  });
});

describe('skip-ahead at the end of a gap', () => {
  const limits = { gapTimeoutMs: 10_000, gapTimeoutAction: 'skip-ahead' } as const;

  it('goes on with the lowest held event and leaves a hole', () => {
    const harness = new SequencerHarness(limits, leaping());
    harness.process(event(1), event(5), event(4));
    harness.pass(10_000);
    harness.answerAll();
    assert.deepEqual(harness.store.applied(), [1, 4, 5]);
    assert.equal(harness.store.view(event(1)).holes, '2-3');
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

  it('decides again when the version has moved meanwhile', () => {
    const harness = new SequencerHarness(limits, leaping());
    harness.process(event(3));
    harness.pass(10_000);
    harness.answer();
    assert.deepEqual(harness.askedKinds, ['commit']);
    harness.store.applyElsewhere(event(1), event(2));
    harness.answerAll();
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
    assert.equal(harness.store.view(event(1)).holes, '');
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

describe('FIRST_SEQUENCE=any', () => {
  const adopting = (options = {}) => new SequencerHarness({ firstSequence: 'any' }, new ModelStore({ allowsAdoption: true, ...options }));

  it('takes the first event of an unknown entity as its base line, without a violation', () => {
    const harness = adopting();
    harness.process(event(57), event(58));
    assert.deepEqual(harness.store.applied(), [57, 58]);
    assert.deepEqual(violations(harness), []);
    assert.equal(harness.effects('commit')[0]?.adopts, true);
  });

  it('takes a base line of any height', () => {
    const harness = adopting();
    harness.process(event(5_000_000));
    assert.deepEqual(harness.store.applied(), [5_000_000]);
  });

  it('rejects what comes from before the base line as late', () => {
    const harness = adopting();
    harness.process(event(57));
    const [before, again] = harness.process(event(56), event(57)) as [number, number];
    assert.equal(harness.outcomeOf(before), 'late');
    assert.equal(harness.outcomeOf(again), 'duplicate');
  });

  it('holds back what is too early for a known entity', () => {
    const harness = adopting();
    harness.process(event(57), event(59));
    assert.deepEqual(harness.store.applied(), [57]);
    assert.deepEqual(harness.sequencer.heldOf('order', 'e1'), { version: 57, sequences: [59] });
  });

  it('lets an entity begin with 1 like any other', () => {
    const harness = adopting();
    harness.process(event(1), event(3), event(2));
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
    assert.equal(harness.store.view(event(1)).holes, '');
  });

  it('lets nothing pass a base line that cannot be processed', () => {
    const harness = adopting({ fails: ({ sequence }: { sequence: number }) => sequence === 57 });
    const [bad, next] = harness.process(event(57), event(58)) as [number, number];
    assert.equal(harness.outcomeOf(bad), 'handler_failed');
    assert.equal(harness.outcomeOf(next), 'entity_parked');
    assert.deepEqual(harness.store.applied(), []);
  });

  it('is asked for: by default an entity begins with 1', () => {
    const harness = new SequencerHarness();
    harness.process(event(57));
    assert.deepEqual(harness.store.applied(), []);
    assert.equal(harness.sequencer.overview().held, 1);
  });
});

/** What happens to an event that comes before its predecessor, by strategy. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
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
    assert.deepEqual(violations(harness), [
      [1, 3],
      [4, 6],
    ]);
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
    assert.equal(harness.store.snapshot(event(1)).holes, '2-4');
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
    assert.equal(harness.store.snapshot(event(1)).holes, '2-3');
  });

  it('applies what was passed over once when it comes late', () => {
    const harness = new SequencerHarness({ strategy: 'log_and_process' }, leaping());
    harness.process(event(4));
    const [two, twin] = harness.process(event(2), event(2)) as [number, number];
    assert.equal(harness.outcomeOf(two), 'applied');
    assert.equal(harness.outcomeOf(twin), 'duplicate');
    assert.deepEqual(harness.store.applied(), [4, 2]);
    assert.equal(harness.store.snapshot(event(1)).holes, '1,3');
  });

  it('closes every hole, in any order, and ends without one', () => {
    const harness = new SequencerHarness({ strategy: 'log_and_process' }, leaping());
    harness.process(event(5), event(3), event(1), event(4), event(2), event(6));
    assert.deepEqual(harness.sequences('applied'), [5, 3, 1, 4, 2, 6]);
    assert.equal(harness.store.snapshot(event(1)).holes, '');
  });

  it('consumes or rejects an early or late event whose id is known, like any other', () => {
    const harness = new SequencerHarness({ strategy: 'log_and_process' }, leaping());
    harness.process(event(1), event(6));
    const [same, other] = harness.process(event(3, { id: 'e1-1', payloadHash: event(1).payloadHash }), event(4, { id: 'e1-1' })) as [
      number,
      number,
    ];
    assert.equal(harness.outcomeOf(same), 'duplicate');
    assert.equal(harness.outcomeOf(other), 'message_id_conflict');
    assert.equal(harness.store.parkedFor(), null);
  });

  it('rejects a late event whose processor fails and parks nothing, for its successors were applied long ago', () => {
    const harness = new SequencerHarness(
      { strategy: 'log_and_process' },
      new ModelStore({ allowsLeaps: true, fails: ({ sequence }) => sequence === 2 }),
    );
    const [, late, next] = harness.process(event(4), event(2), event(5)) as [number, number, number];
    assert.equal(harness.outcomeOf(late), 'handler_failed');
    assert.equal(harness.outcomeOf(next), 'applied');
    assert.equal(harness.store.parkedFor(), null);
  });

  it('parks the entity when the processor fails on an early event, so that its successors do not pass it', () => {
    const harness = new SequencerHarness(
      { strategy: 'log_and_process' },
      new ModelStore({ allowsLeaps: true, fails: ({ sequence }) => sequence === 4 }),
    );
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

for (const strategy of ['fail', 'skip', 'log_and_process'] as const) {
  describe(`while dead letters are replayed, strategy ${strategy}`, () => {
    /** Parked at version 1, with this dead letter and what followed it. */
    const replayed = (...letters: readonly number[]) => {
      let isBroken = true;
      const store = new ModelStore({ allowsLeaps: true, fails: ({ sequence }) => isBroken && sequence === 2 });
      const harness = new SequencerHarness({ strategy }, store);
      harness.process(event(1), ...letters.map((sequence) => event(sequence)));
      assert.equal(store.parkedFor(), 'handler_failed');
      isBroken = false;
      store.beginReplay();
      return harness;
    };

    it('lets a new event follow them instead of passing over them', () => {
      const harness = replayed(2, 3);
      const [live] = harness.process(event(4)) as [number];
      assert.equal(harness.outcomeOf(live), null);
      harness.process(event(2), event(3));
      assert.equal(harness.outcomeOf(live), 'applied');
      assert.deepEqual(harness.store.applied(), [1, 2, 3, 4]);
      assert.equal(harness.store.snapshot(event(1)).holes, '');
    });

    it('decides afterwards about what was held behind a gap, in sequence', () => {
      const harness = replayed(2);
      const [early] = harness.process(event(5)) as [number];
      assert.equal(harness.outcomeOf(early), null);
      harness.arrive(event(2));
      const [later] = harness.arrive(event(7)) as [number];
      harness.answerAll();
      const become = { fail: ['out_of_order', 'entity_parked'], skip: ['skipped', 'skipped'], log_and_process: ['applied', 'applied'] };
      assert.deepEqual([harness.outcomeOf(early), harness.outcomeOf(later)], become[strategy]);
      assert.deepEqual(harness.store.applied(), strategy === 'log_and_process' ? [1, 2, 5, 7] : [1, 2]);
      assert.equal(harness.sequencer.overview().held, 0);
    });
  });
}

it('a replay whose held events are too many parks again, and skip-ahead does not pass over its letters', () => {
  const store = new ModelStore({ allowsLeaps: true, fails: ({ sequence }) => sequence === 2 });
  const harness = new SequencerHarness({ gapTimeoutAction: 'skip-ahead', maxHeldPerEntity: 3 }, store);
  harness.process(event(1), event(2), event(3));
  store.beginReplay();
  harness.process(event(4), event(5), event(6));
  harness.answerAll();
  assert.deepEqual(harness.sequences('buffer_overflow'), [4, 5, 6]);
  assert.deepEqual(store.applied(), [1]);
});

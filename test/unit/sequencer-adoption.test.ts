/** Where an entity begins: `FIRST_SEQUENCE=any` joins a stream that is already running, `FIRST_SEQUENCE=0` takes one that counts from 0. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { maxIntervals } from '../../src/ordering/holes.ts';
import type { SequencerLimits } from '../../src/ordering/facts.ts';
import { event, ModelStore, SequencerHarness } from '../support/sequencer-harness.ts';

const violations = (harness: SequencerHarness) => harness.effects('violation').map(({ expected, received }) => [expected, received]);

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

  it('measures how far ahead an event is from the base line that came with it', () => {
    const harness = adopting();
    const [, next, tooFar] = harness.process(event(5_000_000), event(5_000_002), event(6_000_001)) as [number, number, number];
    assert.equal(harness.outcomeOf(next), null);
    assert.equal(harness.outcomeOf(tooFar), 'invalid_sequence');
    harness.process(event(5_000_001));
    assert.deepEqual(harness.store.applied(), [5_000_000, 5_000_001, 5_000_002]);
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
    assert.equal(harness.store.snapshot(event(1)).holes, '');
  });

  it('lets nothing pass a base line that cannot be processed', () => {
    const harness = adopting({ fails: ({ sequence }: { sequence: number }) => sequence === 57 });
    const [bad, next] = harness.process(event(57), event(58)) as [number, number];
    assert.equal(harness.outcomeOf(bad), 'handler_failed');
    assert.equal(harness.outcomeOf(next), 'entity_parked');
    assert.deepEqual(harness.store.applied(), []);
  });

  it('lets what follows a base line that was dead-lettered follow it, however far from version 0 that is', () => {
    const harness = adopting({ fails: ({ sequence }: { sequence: number }) => sequence === 5_000_000 });
    harness.process(event(5_000_000));
    harness.process(event(5_000_001));
    harness.process(event(7_000_000));
    assert.deepEqual(harness.sequences('entity_parked'), [5_000_001, 7_000_000]);
  });

  it('takes the base line that was dead-lettered when that is replayed, and holds what comes before it', () => {
    let fails = true;
    const harness = adopting({ fails: () => fails });
    harness.process(event(5_000_000), event(5_000_001));
    fails = false;
    harness.store.beginReplay();
    const [live] = harness.process(event(5_000_002)) as [number];
    assert.equal(harness.outcomeOf(live), null);
    harness.process(event(5_000_000), event(5_000_001));
    assert.deepEqual(harness.store.applied(), [5_000_000, 5_000_001, 5_000_002]);
    assert.equal(harness.store.parkedFor(), null);
  });

  it('decides an event once whose id is known when its entity was set back to version 0', () => {
    for (const [payloadHash, outcome] of [
      [event(3).payloadHash, 'duplicate'],
      ['other', 'message_id_conflict'],
    ] as const) {
      const harness = adopting();
      harness.process(event(1), event(2), event(3));
      harness.store.resync(0);
      harness.fact({ kind: 'channelLost' });
      harness.process(event(7, { id: 'e1-3', payloadHash }));
      assert.deepEqual(harness.sequences(outcome), [7]);
    }
  });

  it('is asked for: by default an entity begins with 1', () => {
    const harness = new SequencerHarness();
    harness.process(event(57));
    assert.deepEqual(harness.store.applied(), []);
    assert.equal(harness.sequencer.overview().held, 1);
  });
});

describe('FIRST_SEQUENCE=0', () => {
  const fromZero = (limits: Partial<SequencerLimits> = {}, options = {}) =>
    new SequencerHarness({ firstSequence: 0, ...limits }, new ModelStore({ initialVersion: -1, ...options }));

  it('applies 0, 1, 2 in order and says of a 1 that comes first that it is early', () => {
    const harness = fromZero();
    harness.process(event(1));
    assert.deepEqual([harness.store.applied(), violations(harness)], [[], [[0, 1]]]);
    assert.deepEqual(harness.sequencer.heldOf('order', 'e1'), { version: -1, sequences: [1] });
    const [, again] = harness.process(event(0), event(0), event(2)) as [number, number, number];
    assert.deepEqual(harness.store.applied(), [0, 1, 2]);
    assert.equal(harness.outcomeOf(again), 'duplicate');
  });

  it('takes a 0 that comes again for a duplicate, although what is remembered of it has expired', () => {
    const harness = fromZero();
    harness.process(event(0), event(1));
    harness.store.forget();
    const [again] = harness.process(event(0)) as [number];
    assert.equal(harness.outcomeOf(again), 'duplicate');
  });

  it('leaves hole 0 where it is passed over, and closes it when 0 comes', () => {
    const harness = fromZero({ strategy: 'log_and_process' }, { allowsLeaps: true });
    harness.process(event(1));
    assert.equal(harness.store.snapshot(event(1)).holes, '0');
    harness.process(event(0));
    assert.deepEqual([harness.store.applied(), harness.store.snapshot(event(1)).holes], [[1, 0], '']);
  });

  it('keeps 0 as the place below which nobody knows, where so many holes have been left that the first is forgotten', () => {
    const harness = fromZero({ strategy: 'log_and_process' }, { allowsLeaps: true });
    for (let at = 0; at <= maxIntervals; at++) harness.process(event(2 * at + 1));
    assert.match(harness.store.snapshot(event(0)).holes, /^f0;2,/);
    const [late] = harness.process(event(0)) as [number];
    assert.equal(harness.outcomeOf(late), 'late');
  });

  it('parks an entity of which nothing was applied when its 0 fails, and lets nothing pass it', () => {
    const harness = fromZero({}, { fails: ({ sequence }: { sequence: number }) => sequence === 0 });
    const [bad, next] = harness.process(event(0), event(1)) as [number, number];
    assert.deepEqual([harness.outcomeOf(bad), harness.outcomeOf(next)], ['handler_failed', 'entity_parked']);
    assert.equal(harness.store.snapshot(event(0)).version, -1);
  });
});

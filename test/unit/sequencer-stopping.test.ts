/** Draining, and halting when the store went backwards. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { event, ModelStore, SequencerHarness, snapshot } from '../support/sequencer-harness.ts';

const others = (count: number) => Array.from({ length: count }, (_, index) => event(1, { entityId: `o${index}` }));

describe('draining', () => {
  it('finishes what is in flight, starts nothing, and then says so', () => {
    const harness = new SequencerHarness();
    harness.process(event(1), event(5));
    harness.arrive(event(2));
    harness.arrive(event(3));
    harness.fact({ kind: 'drainRequested' });
    assert.equal(harness.sequencer.overview().state, 'draining');
    harness.answer();
    assert.deepEqual(harness.askedKinds, []);
    assert.deepEqual(harness.sequences('applied'), [1, 2]);
    assert.equal(harness.effects('drained').length, 1);
    assert.equal(harness.sequencer.overview().state, 'drained');
  });

  it('is over at once when nothing is in flight, although something is held', () => {
    const harness = new SequencerHarness();
    harness.process(event(2));
    const effects = harness.fact({ kind: 'drainRequested' });
    assert.deepEqual(
      effects.map(({ kind }) => kind),
      ['drained'],
    );
  });

  it('leaves what arrives to the broker', () => {
    const harness = new SequencerHarness();
    harness.fact({ kind: 'drainRequested' });
    const effects = harness.sequencer.handle(0, { kind: 'delivered', deliveries: [{ tag: 1, event: event(1) }] });
    assert.deepEqual(effects, []);
    assert.equal(harness.sequencer.overview().unsettled, 0);
  });

  it('opens no gap and reads none', () => {
    const harness = new SequencerHarness({ gapRereadMs: 100 });
    harness.process(event(2));
    harness.arrive(...others(1));
    harness.fact({ kind: 'drainRequested' });
    harness.pass(100);
    assert.deepEqual(harness.askedKinds, ['load']);
    harness.answer();
    assert.equal(harness.sequencer.overview().state, 'drained');
  });

  it('carries out what a park under way has decided, and nothing more', () => {
    const harness = new SequencerHarness({ gapTimeoutMs: 1_000, gapRereadMs: 1_000 });
    harness.process(event(1), event(3));
    harness.pass(1_000);
    harness.answer();
    assert.deepEqual(harness.askedKinds, ['park']);
    harness.arrive(event(2));
    harness.fact({ kind: 'drainRequested' });
    harness.answerAll();
    assert.deepEqual(harness.sequences('gap_timeout'), [3]);
    assert.deepEqual(harness.store.applied(), [1]);
    assert.equal(harness.sequencer.overview().state, 'drained');
  });

  it('parks the entity of an event that fails meanwhile, so that the successor does not run it first', () => {
    const harness = new SequencerHarness({}, new ModelStore({ fails: ({ sequence }) => sequence === 1 }));
    harness.arrive(event(1), event(2));
    harness.answer();
    harness.fact({ kind: 'drainRequested' });
    harness.answerAll();
    assert.deepEqual(harness.sequences('handler_failed'), [1]);
    assert.equal(harness.store.parkedFor(), 'handler_failed');
    assert.equal(harness.effects('drained').length, 1);
    assert.deepEqual(
      harness.unsettled().map((one) => one?.sequence),
      [2],
    );
  });

  it('waits for the store when that is away', () => {
    const harness = new SequencerHarness();
    harness.process(event(1));
    harness.arrive(event(2));
    harness.fact({ kind: 'storeUnavailable', ops: [harness.loseReply(0, false)], retryInMs: 100 });
    harness.fact({ kind: 'drainRequested' });
    assert.equal(harness.effects('drained').length, 0);
    harness.toNextDeadline();
    harness.answerAll();
    assert.deepEqual(harness.store.applied(), [1, 2]);
    assert.equal(harness.effects('drained').length, 1);
  });

  it('is over when the channel is lost', () => {
    const harness = new SequencerHarness();
    harness.arrive(event(1));
    harness.fact({ kind: 'drainRequested' });
    harness.loseChannel();
    assert.equal(harness.effects('drained').length, 1);
    assert.equal(harness.sequencer.overview().state, 'drained');
  });
});

describe('a store that went backwards', () => {
  it('halts the shard when a reading is below what was committed', () => {
    const harness = new SequencerHarness();
    harness.process(event(1), event(2));
    harness.arrive(event(4));
    const op = harness.loseReply(0, false);
    harness.fact({ kind: 'loaded', op, snapshot: snapshot({ version: 1 }) });
    assert.deepEqual(
      harness.effects('halt').map(({ detail }) => detail),
      ['order e1 is at version 1, but 2 was committed'],
    );
  });

  it('halts the shard when a commit is refused by a lower version', () => {
    const harness = new SequencerHarness();
    harness.process(event(1), event(2));
    harness.arrive(event(3));
    const op = harness.loseReply(0, false);
    harness.fact({ kind: 'stale', op, snapshot: snapshot({ exists: false }) });
    assert.equal(harness.sequencer.overview().state, 'ended');
  });

  it('halts the shard when an event that was committed turns out to be above the version', () => {
    const harness = new SequencerHarness();
    harness.process(event(1), event(2));
    harness.store.entity(event(1)).version = 1;
    harness.process(event(2));
    assert.equal(harness.effects('halt').length, 1);
  });

  it('goes on from a lower version that an operator has set, and applies again what lies above it', () => {
    for (const arrives of [event(2), event(3), event(4)]) {
      const harness = new SequencerHarness();
      harness.process(event(1), event(2), event(3));
      harness.store.resync(1);
      harness.process(arrives, event(2), event(3), event(4));
      assert.deepEqual(harness.effects('halt'), []);
      assert.deepEqual(harness.store.applied(), [1, 2, 3, 2, 3, 4]);
    }
  });

  it('asks for nothing more, not even for time, until the channel is gone', () => {
    const harness = new SequencerHarness({ gapRereadMs: 100 });
    harness.process(event(1), event(2), event(9, { entityId: 'e2' }));
    harness.arrive(event(4));
    harness.fact({ kind: 'loaded', op: harness.loseReply(0, false), snapshot: snapshot({ version: 1 }) });
    assert.equal(harness.sequencer.nextDeadlineMs(), null);
    assert.deepEqual(harness.fact({ kind: 'timePassed' }), []);
    assert.deepEqual(harness.fact({ kind: 'delivered', deliveries: [{ tag: 99, event: event(7) }] }), []);
    harness.loseChannel();
    assert.equal(harness.sequencer.overview().state, 'running');
  });
});

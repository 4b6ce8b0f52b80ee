/** Failing processors, the store away, one entity unusable, a lost channel, draining, halting. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { event, ModelStore, SequencerHarness, view } from '../support/sequencer-harness.ts';

const others = (count: number) => Array.from({ length: count }, (_, index) => event(1, { entityId: `o${index}` }));

describe('a failing processor', () => {
  const failingAt = (bad: number) => new SequencerHarness({}, new ModelStore({ fails: ({ sequence }) => sequence === bad }));

  for (const [place, bad] of [['first', 1], ['middle', 3], ['last', 5]] as const) {
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
    assert.deepEqual(harness.settled.map(({ event: one }) => one?.sequence), [1, 2]);
  });

  it('rejects what was held behind it', () => {
    const harness = failingAt(2);
    harness.process(event(1), event(4), event(5));
    harness.process(event(2));
    assert.deepEqual(harness.sequences('handler_failed'), [2]);
    assert.deepEqual(harness.sequences('entity_parked'), [4, 5]);
    assert.equal(harness.sequencer.overview().gaps, 0);
  });

  it('is tried again when the event comes again, and rejected again without a second park', () => {
    const harness = failingAt(1);
    harness.process(event(1));
    harness.process(event(1));
    assert.deepEqual(harness.sequences('handler_failed'), [1, 1]);
    assert.equal(harness.effects('park').length, 1);
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

describe('an unavailable store', () => {
  it('pauses the shard, rejects nothing, and is asked again after the back-off with the same operation', () => {
    const harness = new SequencerHarness();
    harness.process(event(1));
    harness.arrive(event(2));
    const commit = harness.asked[0];
    const op = harness.loseReply(0, false);
    harness.fact({ kind: 'storeUnavailable', ops: [op], retryInMs: 200 });
    assert.equal(harness.effects('pause').length, 1);
    assert.equal(harness.sequencer.overview().paused, true);
    assert.equal(harness.sequencer.nextDeadlineMs(), 200);
    harness.pass(199);
    assert.deepEqual(harness.asked, []);
    harness.pass(1);
    assert.deepEqual(harness.asked, [commit]);
    harness.answerAll();
    assert.equal(harness.effects('resume').length, 1);
    assert.equal(harness.sequencer.overview().paused, false);
    assert.deepEqual(harness.store.applied(), [1, 2]);
  });

  it('has one effect where the commit went through and only the reply was lost', () => {
    const harness = new SequencerHarness();
    harness.process(event(1));
    harness.arrive(event(2));
    const op = harness.loseReply(0, true);
    harness.fact({ kind: 'storeUnavailable', ops: [op], retryInMs: 200 });
    harness.pass(200);
    harness.answerAll();
    assert.deepEqual(harness.store.applied(), [1, 2]);
    assert.deepEqual(harness.sequences('applied'), [1, 2]);
  });

  it('is asked nothing new while the shard is paused', () => {
    const harness = new SequencerHarness();
    harness.arrive(event(1));
    harness.fact({ kind: 'storeUnavailable', ops: [harness.loseReply(0, false)], retryInMs: 200 });
    harness.arrive(...others(3));
    harness.refuse('malformed');
    assert.deepEqual(harness.asked, []);
    assert.equal(harness.sequencer.overview().unsettled, 4);
  });

  it('gets a probe of a few operations, and everything else only when all of these are answered', () => {
    const harness = new SequencerHarness({ maxProbe: 2 });
    harness.arrive(event(1));
    harness.fact({ kind: 'storeUnavailable', ops: [harness.loseReply(0, false)], retryInMs: 200 });
    harness.arrive(...others(4));
    harness.pass(200);
    assert.equal(harness.asked.length, 2);
    assert.equal(harness.sequencer.nextDeadlineMs(), null);
    harness.answer();
    assert.equal(harness.effects('resume').length, 0);
    harness.answer();
    assert.equal(harness.effects('resume').length, 1);
    harness.answerAll();
    assert.equal(harness.sequences('applied').length, 5);
  });

  it('gets the next probe after the next back-off when one fails, and is said to be away only once', () => {
    const harness = new SequencerHarness({ maxProbe: 2 });
    harness.arrive(event(1), ...others(4));
    const ops = harness.loseReplies(false);
    harness.fact({ kind: 'storeUnavailable', ops, retryInMs: 100 });
    for (const retryInMs of [200, 400]) {
      harness.toNextDeadline();
      assert.equal(harness.asked.length, 2);
      const failed = [harness.loseReply(0, false), harness.loseReply(0, false)];
      harness.fact({ kind: 'storeUnavailable', ops: failed, retryInMs });
      assert.equal(harness.sequencer.nextDeadlineMs(), harness.nowMs + retryInMs);
    }
    harness.toNextDeadline();
    harness.answerAll();
    assert.equal(harness.effects('pause').length, 1);
    assert.equal(harness.effects('resume').length, 1);
    assert.equal(harness.sequences('applied').length, 5);
  });

  it('stays away when a probe is answered in part, and the next probe asks the rest', () => {
    const harness = new SequencerHarness({ maxProbe: 2 });
    harness.arrive(event(1), ...others(2));
    const ops = harness.loseReplies(false);
    harness.fact({ kind: 'storeUnavailable', ops, retryInMs: 100 });
    harness.toNextDeadline();
    harness.fact({ kind: 'storeUnavailable', ops: [harness.loseReply(1, false)], retryInMs: 100 });
    harness.answer();
    assert.equal(harness.sequencer.overview().paused, true);
    harness.toNextDeadline();
    harness.answerAll();
    assert.equal(harness.sequencer.overview().paused, false);
    assert.equal(harness.unsettledCount, 0);
  });

  it('leaves what is in flight and was not lost in flight', () => {
    const harness = new SequencerHarness();
    const [tag] = harness.arrive(event(1), ...others(1)) as [number];
    harness.fact({ kind: 'storeUnavailable', ops: [harness.loseReply(1, false)], retryInMs: 100 });
    harness.answer();
    assert.deepEqual(harness.askedKinds, []);
    harness.toNextDeadline();
    harness.answerAll();
    assert.equal(harness.outcomeOf(tag), 'applied');
  });

  it('asks about duplicates and rejections again, too', () => {
    const harness = new SequencerHarness();
    harness.process(event(1));
    const [copy] = harness.arrive(event(1)) as [number];
    const refused = harness.refuse('malformed');
    const ops = harness.loseReplies(true);
    harness.fact({ kind: 'storeUnavailable', ops, retryInMs: 100 });
    harness.toNextDeadline();
    harness.answerAll();
    assert.equal(harness.outcomeOf(copy), 'duplicate');
    assert.equal(harness.outcomeOf(refused), 'malformed');
  });

  it('parks once where the park went through and only the reply was lost', () => {
    const harness = new SequencerHarness({ gapTimeoutMs: 1_000, gapRereadMs: 1_000 });
    harness.process(event(2));
    harness.pass(1_000);
    harness.answer();
    harness.fact({ kind: 'storeUnavailable', ops: [harness.loseReply(0, true)], retryInMs: 100 });
    harness.toNextDeadline();
    harness.answerAll();
    assert.equal(harness.store.parkedFor(), 'gap_timeout');
    assert.deepEqual(harness.sequences('gap_timeout'), [2]);
  });

  it('does not end a gap that nobody could read', () => {
    const harness = new SequencerHarness({ gapTimeoutMs: 1_000, gapRereadMs: 500 });
    harness.process(event(1), event(3));
    harness.pass(500);
    harness.fact({ kind: 'storeUnavailable', ops: [harness.loseReply(0, false)], retryInMs: 10_000 });
    harness.pass(9_000);
    assert.deepEqual(harness.asked, []);
    harness.store.applyElsewhere(event(2));
    harness.pass(1_000);
    harness.answerAll();
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
    assert.equal(harness.store.parkedFor(), null);
  });
});

describe('an entity that cannot be used', () => {
  it('waits alone and is asked again with the same operation, while the others go on', () => {
    const harness = new SequencerHarness();
    const [bad] = harness.arrive(event(1)) as [number];
    const load = harness.asked[0];
    harness.fact({ kind: 'entityUnavailable', op: harness.loseReply(0, false), retryInMs: 700 });
    const [good] = harness.process(event(1, { entityId: 'e2' })) as [number];
    assert.equal(harness.outcomeOf(good), 'applied');
    assert.equal(harness.effects('pause').length, 0);
    assert.equal(harness.sequencer.nextDeadlineMs(), 700);
    harness.toNextDeadline();
    assert.deepEqual(harness.asked, [load]);
    harness.answerAll();
    assert.equal(harness.outcomeOf(bad), 'applied');
  });

  it('is an answer like any other to a probe: the store is back', () => {
    const harness = new SequencerHarness({ maxProbe: 1 });
    harness.arrive(event(1), ...others(2));
    const ops = harness.loseReplies(false);
    harness.fact({ kind: 'storeUnavailable', ops, retryInMs: 100 });
    harness.toNextDeadline();
    harness.fact({ kind: 'entityUnavailable', op: harness.loseReply(0, false), retryInMs: 700 });
    assert.equal(harness.effects('resume').length, 1);
    assert.equal(harness.asked.length, 2, 'all but the one that has to wait');
    harness.answerAll();
    assert.equal(harness.unsettledCount, 1);
    harness.toNextDeadline();
    harness.answerAll();
    assert.equal(harness.unsettledCount, 0);
  });

  it('is not forgotten when the store goes away before it is asked again', () => {
    const harness = new SequencerHarness();
    harness.arrive(event(1));
    harness.fact({ kind: 'entityUnavailable', op: harness.loseReply(0, false), retryInMs: 100 });
    harness.arrive(...others(1));
    harness.fact({ kind: 'storeUnavailable', ops: [harness.loseReply(0, false)], retryInMs: 1_000 });
    harness.pass(100);
    harness.pass(900);
    harness.answerAll();
    assert.equal(harness.unsettledCount, 0);
  });
});

describe('a lost channel', () => {
  it('takes everything that is not settled with it, and answers that come later are ignored', () => {
    const harness = new SequencerHarness();
    harness.process(event(1), event(3));
    harness.arrive(event(2));
    const op = harness.asked[0]?.op ?? 0;
    assert.deepEqual(harness.loseChannel().map((one) => one?.sequence), [3, 2]);
    const { held, gaps, entities, unsettled, operations } = harness.sequencer.overview();
    assert.deepEqual({ held, gaps, entities, unsettled, operations }, { held: 0, gaps: 0, entities: 0, unsettled: 0, operations: 0 });
    assert.equal(harness.sequencer.nextDeadlineMs(), null);
    assert.deepEqual(harness.fact({ kind: 'committed', op, done: 1, parked: false, failure: null }), []);
    assert.deepEqual(harness.fact({ kind: 'storeUnavailable', ops: [op], retryInMs: 100 }), []);
  });

  it('is followed by a fresh start: what comes again is compared with the store', () => {
    const harness = new SequencerHarness();
    harness.arrive(event(1), event(2));
    harness.answer();
    harness.loseReply(0, true);
    harness.loseChannel();
    harness.process(event(1), event(2), event(3));
    assert.deepEqual(harness.sequences('duplicate'), [1, 2]);
    assert.deepEqual(harness.sequences('applied'), [3]);
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
  });

  it('ends a pause', () => {
    const harness = new SequencerHarness();
    harness.arrive(event(1));
    harness.fact({ kind: 'storeUnavailable', ops: [harness.loseReply(0, false)], retryInMs: 100 });
    harness.loseChannel();
    assert.equal(harness.sequencer.overview().paused, false);
    harness.process(event(1));
    assert.deepEqual(harness.store.applied(), [1]);
  });

  it('forgets that an operation of its entity was under way', () => {
    const harness = new SequencerHarness();
    harness.process(event(1));
    harness.arrive(event(2));
    harness.loseChannel();
    harness.process(event(2));
    assert.deepEqual(harness.store.applied(), [1, 2]);
  });
});

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
    assert.deepEqual(effects.map(({ kind }) => kind), ['drained']);
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
    assert.deepEqual(harness.unsettled().map((one) => one?.sequence), [2]);
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
    harness.fact({ kind: 'loaded', op, view: view({ version: 1 }) });
    assert.deepEqual(harness.effects('halt').map(({ cause, detail }) => [cause, detail]), [
      ['store-went-backwards', 'order e1 is at version 1, but 2 was committed'],
    ]);
  });

  it('halts the shard when a commit is refused by a lower version', () => {
    const harness = new SequencerHarness();
    harness.process(event(1), event(2));
    harness.arrive(event(3));
    const op = harness.loseReply(0, false);
    harness.fact({ kind: 'stale', op, view: view({ exists: false }) });
    assert.equal(harness.sequencer.overview().state, 'halted');
  });

  it('asks for nothing more, not even for time, until the channel is gone', () => {
    const harness = new SequencerHarness({ gapRereadMs: 100 });
    harness.process(event(1), event(2), event(9, { entityId: 'e2' }));
    harness.arrive(event(4));
    harness.fact({ kind: 'loaded', op: harness.loseReply(0, false), view: view({ version: 1 }) });
    assert.equal(harness.sequencer.nextDeadlineMs(), null);
    assert.deepEqual(harness.fact({ kind: 'timePassed' }), []);
    assert.deepEqual(harness.fact({ kind: 'delivered', deliveries: [{ tag: 99, event: event(7) }] }), []);
    harness.loseChannel();
    assert.equal(harness.sequencer.overview().state, 'running');
  });
});

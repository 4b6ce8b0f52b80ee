/** The store away, one entity unusable, a lost channel. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { event, SequencerHarness } from '../support/sequencer-harness.ts';

const others = (count: number) => Array.from({ length: count }, (_, index) => event(1, { entityId: `o${index}` }));

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
    assert.equal(harness.sequencer.overview().unsettled, 5, 'the refused one is not settled before it is on record');
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

  it('is not waited for by others while a processor of the probe is running, however long that takes', () => {
    const harness = new SequencerHarness({ maxProbe: 2 });
    harness.process(event(1), event(1, { entityId: 'slow' }));
    harness.arrive(event(2));
    harness.fact({ kind: 'storeUnavailable', ops: [harness.loseReply(0, false)], retryInMs: 200 });
    harness.arrive(event(2, { entityId: 'slow' }), ...others(4));
    harness.pass(200);
    const slow = harness.asked[1];
    assert.ok(slow?.kind === 'commit' && slow.entity.entityId === 'slow');
    harness.fact({ kind: 'processing', op: slow.op });
    assert.equal(harness.effects('resume').length, 0, 'a processor that runs is no answer of the store');
    harness.answer(0);
    assert.equal(harness.effects('resume').length, 1);
    while (harness.asked.length > 1) harness.answer(harness.asked[0] === slow ? 1 : 0);
    assert.equal(harness.sequences('applied').length, 7);
    harness.answerAll();
    assert.equal(harness.unsettledCount, 0);
  });

  it('gets the next probe at once where only processors are running in the present one', () => {
    const harness = new SequencerHarness({ maxProbe: 1 });
    harness.process(event(1));
    harness.arrive(event(2));
    const op = harness.loseReply(0, false);
    harness.fact({ kind: 'storeUnavailable', ops: [op], retryInMs: 200 });
    harness.arrive(...others(2));
    harness.pass(200);
    harness.fact({ kind: 'processing', op });
    assert.equal(harness.effects('resume').length, 0);
    assert.deepEqual(harness.askedKinds, ['commit', 'load']);
    harness.answer(1);
    assert.equal(harness.effects('resume').length, 1);
    harness.answerAll();
    assert.equal(harness.sequences('applied').length, 4);
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

  it('lets nothing more in beside what is held, for no gap ends meanwhile', () => {
    const harness = new SequencerHarness();
    harness.process(event(1));
    harness.process(event(3));
    assert.equal(harness.sequencer.waiting, 1);
    harness.arrive(event(1, { entityId: 'other' }));
    const op = harness.loseReply(0, false);
    harness.fact({ kind: 'storeUnavailable', ops: [op], retryInMs: 200 });
    assert.equal(harness.sequencer.waiting, 0);
    harness.pass(200);
    harness.answerAll();
    assert.equal(harness.sequencer.waiting, 1);
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
    assert.deepEqual(
      harness.loseChannel().map((one) => one?.sequence),
      [3, 2],
    );
    const { held, gaps, entities, unsettled, operations } = harness.sequencer.overview();
    assert.deepEqual({ held, gaps, entities, unsettled, operations }, { held: 0, gaps: 0, entities: 0, unsettled: 0, operations: 0 });
    assert.equal(harness.sequencer.nextDeadlineMs(), null);
    assert.deepEqual(harness.fact({ kind: 'committed', op, done: 1, parked: null, failure: null }), []);
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

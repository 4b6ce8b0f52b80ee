/** The clock of a gap stands still while its missing event could not come, and before a gap ends the broker has a turn. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { event, ModelStore, SequencerHarness } from '../support/sequencer-harness.ts';

const limits = { gapTimeoutMs: 30_000, gapRereadMs: 5_000, prefetch: 5 };
const others = (count: number, from = 0) => Array.from({ length: count }, (_, index) => event(1, { entityId: `o${from + index}` }));
const of = (entityId: string) => (sequence: number) => event(sequence, { entityId });
const b = of('b');

/** `b` waits for 1, and the rest of the window is full of what is not answered. */
function fullWindow(more = {}): SequencerHarness {
  const harness = new SequencerHarness({ ...limits, ...more }, new ModelStore({ allowsLeaps: true }));
  harness.process(b(2));
  harness.arrive(...others(4));
  return harness;
}

for (const gapTimeoutAction of ['dead-letter', 'skip-ahead'] as const) {
  describe(`the clock of a gap with ${gapTimeoutAction}`, () => {
    it('stands still while the store does not answer', () => {
      const harness = fullWindow({ gapTimeoutAction, prefetch: 100 });
      harness.fact({ kind: 'storeUnavailable', ops: harness.loseReplies(false), retryInMs: 60_000 });
      for (let seconds = 0; seconds < 60; seconds++) {
        harness.pass(1_000);
        harness.arrive(b(3));
      }
      harness.answerAll();
      harness.pass(25_000);
      harness.answerAll();
      harness.process(b(1));
      assert.deepEqual(harness.store.applied('b'), [1, 2, 3]);
    });

    it('stands still while handlers of others fill the window, however long they take', () => {
      const harness = fullWindow({ gapTimeoutAction });
      for (const { op } of harness.asked) harness.fact({ kind: 'processing', op });
      harness.pass(600_000);
      assert.equal(harness.store.parkedFor('b'), null);
      harness.answerAll();
      harness.process(...others(3, 4), b(1));
      assert.deepEqual(harness.store.applied('b'), [1, 2]);
    });

    it('takes back what it counted before the store was known to be unavailable', () => {
      const harness = new SequencerHarness({ ...limits, gapRereadMs: 1_000_000, gapTimeoutAction }, new ModelStore({ allowsLeaps: true }));
      harness.process(b(2));
      harness.pass(4_000);
      harness.arrive(...others(3));
      harness.nowMs += 26_000;
      harness.fact({ kind: 'storeUnavailable', ops: harness.loseReplies(false), retryInMs: 100 });
      harness.pass(100);
      harness.answerAll();
      harness.pass(20_000);
      harness.answerAll();
      harness.process(b(1));
      assert.deepEqual(harness.store.applied('b'), [1, 2]);
    });

    it('does not count the time in which the process was blocked', () => {
      const harness = new SequencerHarness({ ...limits, gapTimeoutAction }, new ModelStore({ allowsLeaps: true }));
      harness.process(b(2));
      harness.nowMs += 60_000;
      harness.fact({ kind: 'timePassed' });
      harness.answerAll();
      harness.process(...others(3), b(1));
      assert.deepEqual(harness.store.applied('b'), [1, 2]);
    });

    it('does not end a gap before the broker has had a turn', () => {
      const harness = new SequencerHarness({ ...limits, gapTimeoutAction }, new ModelStore({ allowsLeaps: true }));
      harness.holdsTurns = true;
      harness.process(b(2));
      harness.pass(30_000);
      harness.answerAll();
      assert.notEqual(harness.turn, null);
      harness.process(b(1));
      harness.takeTurn();
      assert.deepEqual(harness.store.applied('b'), [1, 2]);
    });

    it('does not ask the broker again and again while the entity waits for an answer', () => {
      const harness = new SequencerHarness({ ...limits, gapTimeoutAction }, new ModelStore({ allowsLeaps: true }));
      harness.holdsTurns = true;
      harness.process(b(2), b(5));
      harness.pass(30_000);
      harness.answerAll();
      harness.arrive(b(1));
      harness.takeTurn();
      assert.equal(harness.turn, null, 'the handler of event 1 may take its time');
      harness.answerAll();
      assert.deepEqual(harness.store.applied('b'), [1, 2]);
      for (let asked = 0; asked < 20 && harness.turn === null; asked++) {
        harness.toNextDeadline();
        harness.answerAll();
      }
      assert.notEqual(harness.turn, null, 'the gap before event 5 ends in its turn');
    });

    it('runs where what is held has reached its limit and nothing else has moved for as long as a gap is waited for', () => {
      const harness = new SequencerHarness(
        { ...limits, prefetch: 10, maxHeld: 8, gapTimeoutAction },
        new ModelStore({ allowsLeaps: true }),
      );
      harness.arrive(...others(1));
      const [stuck] = harness.asked;
      harness.arrive(...Array.from({ length: 9 }, (_, index) => event(2, { entityId: `e${index}` })));
      const answerOthers = () => {
        for (let at = harness.asked.findIndex((one) => one !== stuck); at >= 0; at = harness.asked.findIndex((one) => one !== stuck))
          harness.answer(at);
      };
      answerOthers();
      assert.equal(harness.unsettledCount, 10);
      harness.pass(29_000);
      answerOthers();
      assert.equal(harness.unsettledCount, 10, 'until then it may make room');
      for (let at = 0; at < 20 && harness.unsettledCount === 10; at++) {
        harness.toNextDeadline();
        answerOthers();
      }
      assert.ok(harness.unsettledCount < 10, 'there is room');
      assert.ok(harness.nowMs < 60_000);
      harness.arrive(event(1, { entityId: 'z' }));
      answerOthers();
      assert.deepEqual(harness.store.applied('z'), [1]);
    });

    it('stands still while the missing event may lie outside, for want of memory, and less than its limit is held', () => {
      const harness = new SequencerHarness({ ...limits, gapTimeoutAction, maxHeldBytes: 100 }, new ModelStore({ allowsLeaps: true }));
      harness.process(b(2));
      harness.fact({ kind: 'memoryFull', isFull: true });
      harness.pass(600_000);
      harness.answerAll();
      assert.equal(harness.sequencer.waiting, 1);
      harness.process(b(1));
      assert.deepEqual(harness.store.applied('b'), [1, 2]);
    });

    it('leaves the broker the time to fill the room that it was given before it is asked', () => {
      const harness = new SequencerHarness({ ...limits, gapTimeoutAction }, new ModelStore({ allowsLeaps: true }));
      harness.holdsTurns = true;
      harness.process(b(2));
      harness.pass(29_999);
      harness.arrive(...others(4));
      harness.pass(9);
      harness.answerAll();
      harness.pass(1);
      harness.answerAll();
      assert.equal(harness.turn, null);
      harness.pass(60);
      harness.process(...others(1, 4));
      harness.pass(60);
      assert.equal(harness.turn, null, 'it is still delivering');
      harness.process(b(1));
      assert.deepEqual(harness.store.applied('b'), [1, 2]);
    });

    it('ends a gap after a second of room, however much of other entities comes meanwhile', () => {
      const harness = new SequencerHarness({ ...limits, gapTimeoutAction }, new ModelStore({ allowsLeaps: true }));
      harness.process(b(2));
      harness.arrive(...others(4));
      harness.pass(10);
      harness.answerAll();
      for (let at = 1; at <= 1_600; at++) {
        harness.pass(20);
        harness.process(...others(1, at * 10));
      }
      assert.deepEqual(
        [harness.store.parkedFor('b'), harness.store.applied('b')],
        gapTimeoutAction === 'dead-letter' ? ['gap_timeout', []] : [null, [2]],
      );
    });

    it('wants another turn where the window was full during the first', () => {
      const harness = new SequencerHarness({ ...limits, gapTimeoutAction }, new ModelStore({ allowsLeaps: true }));
      harness.holdsTurns = true;
      harness.process(b(2));
      harness.pass(30_000);
      harness.answerAll();
      harness.arrive(...others(4));
      harness.takeTurn();
      assert.equal(harness.turn, null, 'there is no room for what is missing');
      harness.answerAll();
      harness.toNextDeadline();
      harness.process(b(1));
      assert.deepEqual(harness.store.applied('b'), [1, 2]);
    });
  });
}

describe('after the clock of a gap has stood still', () => {
  it("a tenth of that time, at most a second, is the broker's before anything counts", () => {
    const harness = fullWindow();
    harness.pass(4_000);
    harness.answerAll();
    const [gap] = harness.sequencer.openGaps(1, harness.nowMs + 400);
    assert.deepEqual([gap?.waitedMs, gap?.endsInMs], [0, 30_000]);
    assert.equal(harness.sequencer.openGaps(1, harness.nowMs + 401)[0]?.waitedMs, 1);
  });

  it('it goes on where it stood', () => {
    const harness = new SequencerHarness(limits);
    harness.process(b(2));
    harness.pass(20_000);
    harness.arrive(...others(4));
    harness.pass(500_000);
    harness.answerAll();
    harness.pass(10_999);
    assert.equal(harness.effects('park').length, 0);
    harness.pass(1);
    harness.answerAll();
    assert.equal(harness.effects('park')[0]?.detail, 'waited 30000 ms for sequence 1');
  });

  it('it does not go on before what was rejected is on record: until then that is in the window', () => {
    const harness = new SequencerHarness({ ...limits, prefetch: 2 });
    harness.process(b(2));
    harness.refuse('malformed');
    harness.pass(60_000);
    assert.equal(harness.sequencer.openGaps(1, harness.nowMs)[0]?.waitedMs, 0);
  });
});

describe('what is stuck in work', () => {
  it('is told from what moves, so that one after the other of what lies outside is let in', () => {
    const harness = new SequencerHarness(limits);
    harness.arrive(...others(1));
    harness.fact({ kind: 'memoryFull', isFull: true });
    const unusable = (ms: number) => {
      for (let passed = 0; passed < ms; passed += 1_000) {
        harness.fact({ kind: 'entityUnavailable', op: harness.loseReply(0, false), retryInMs: 1_000 });
        harness.pass(1_000);
      }
    };
    unusable(29_000);
    assert.equal(harness.sequencer.waiting, 0);
    unusable(2_000);
    assert.equal(harness.sequencer.waiting, 1);
    harness.arrive(event(1, { entityId: 'z' }));
    assert.equal(harness.sequencer.waiting, 0, 'another is in work');
    harness.answer(harness.asked.findIndex((one) => 'entity' in one && one.entity.entityId === 'z'));
    harness.answer(harness.asked.findIndex((one) => 'entity' in one && one.entity.entityId === 'z'));
    assert.equal(harness.sequencer.waiting, 1);
  });

  it('is not what an unavailable store has kept waiting', () => {
    const harness = new SequencerHarness(limits);
    harness.arrive(...others(1));
    harness.fact({ kind: 'memoryFull', isFull: true });
    harness.fact({ kind: 'storeUnavailable', ops: harness.loseReplies(false), retryInMs: 60_000 });
    for (let seconds = 0; seconds < 60; seconds++) harness.pass(1_000);
    harness.fact({ kind: 'entityUnavailable', op: harness.loseReply(0, false), retryInMs: 100 });
    assert.equal(harness.sequencer.overview().paused, false);
    assert.equal(harness.sequencer.waiting, 0);
  });
});

describe('a processor that has failed', () => {
  it('says nothing of the store: what was counted since that answered is taken back all the same', () => {
    const harness = new SequencerHarness(
      { ...limits, gapRereadMs: 1_000_000, prefetch: 100 },
      new ModelStore({ fails: ({ entityId }) => entityId === 'o0' }),
    );
    harness.process(b(2));
    harness.pass(4_000);
    harness.arrive(...others(2));
    harness.answer();
    harness.answer();
    harness.pass(20_000);
    harness.answer(harness.asked.findIndex(({ kind }) => kind === 'commit'));
    harness.fact({ kind: 'storeUnavailable', ops: harness.loseReplies(false), retryInMs: 100 });
    assert.equal(harness.sequencer.openGaps(1, harness.nowMs)[0]?.waitedMs, 4_000);
  });
});

describe('too much that is held', () => {
  it('ends no gap while the rest of the window is in work: there will be room', () => {
    const harness = new SequencerHarness({ ...limits, maxHeld: 4 });
    harness.arrive(...others(1));
    harness.arrive(b(2), b(3), b(4), b(5));
    harness.answer(1);
    harness.answer(1);
    harness.answer(1);
    assert.equal(harness.sequencer.overview().held, 4);
    assert.deepEqual(harness.askedKinds, ['load'], 'only the other entity is not answered');
    harness.pass(29_000);
    assert.equal(harness.store.parkedFor('b'), null);
    harness.holdsTurns = true;
    harness.answerAll();
    harness.toNextDeadline();
    harness.process(b(1));
    assert.deepEqual(harness.store.applied('b'), [1, 2, 3, 4, 5]);
  });

  it('ends the gap nearest to its end where nothing but that makes room', () => {
    const harness = new SequencerHarness({ ...limits, prefetch: 3, maxHeld: 2 });
    harness.process(b(2));
    harness.pass(10);
    assert.equal(harness.store.parkedFor('b'), null, 'the smallest window holds one');
    harness.process(b(3));
    harness.toNextDeadline();
    harness.answerAll();
    assert.equal(harness.store.parkedFor('b'), 'buffer_overflow');
    assert.equal(harness.unsettledCount, 0);
  });
});

describe('what is held for an entity that is being replayed', () => {
  function replayed() {
    const harness = new SequencerHarness({ ...limits, prefetch: 1_000 });
    harness.process(event(1), ...[3, 4, 5, 6].map((sequence) => event(sequence)));
    harness.pass(30_000);
    harness.answerAll();
    assert.equal(harness.store.parkedFor(), 'gap_timeout');
    harness.process(event(2));
    harness.store.beginReplay();
    harness.process(event(7));
    assert.equal(harness.sequencer.overview().held, 1);
    return harness;
  }

  it('waits as long as its version moves, however slowly', () => {
    const harness = replayed();
    for (const sequence of [3, 4, 5, 6]) {
      harness.pass(300_000);
      harness.process(event(sequence));
    }
    assert.deepEqual(harness.store.applied(), [1, 2, 3, 4, 5, 6, 7]);
    assert.equal(harness.store.parkedFor(), null);
  });

  it('is dead-lettered when the version stands still for ten minutes', () => {
    const harness = replayed();
    harness.pass(300_000);
    harness.process(event(3));
    harness.pass(599_999);
    assert.equal(harness.unsettledCount, 1);
    harness.pass(1);
    harness.answerAll();
    assert.deepEqual(harness.sequences('gap_timeout').at(-1), 7);
  });

  it('waits from the end of the replay for what is missing then', () => {
    const harness = replayed();
    harness.process(event(9));
    harness.pass(100_000);
    for (const sequence of [3, 4, 5, 6]) harness.process(event(sequence));
    assert.deepEqual(harness.store.applied().at(-1), 7);
    harness.pass(29_000);
    harness.process(event(8));
    assert.deepEqual(harness.store.applied().at(-1), 9);
  });
});

/** Gaps: claiming and reading, the deadline, parking, late arrival, limits on what is held. */
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

describe('opening a gap', () => {
  it('claims the entity and reads its version again', () => {
    const harness = new SequencerHarness(limits);
    harness.process(event(1));
    harness.arrive(event(3));
    assert.deepEqual(harness.askedKinds, ['openGap']);
    harness.answer();
    assert.deepEqual(harness.askedKinds, []);
    assert.equal(harness.sequencer.overview().gaps, 1);
  });

  it('closes it at once when a previous owner has committed what is missing', () => {
    const harness = new SequencerHarness(limits);
    harness.process(event(1));
    harness.store.applyElsewhere(event(2));
    const [tag] = harness.process(event(3)) as [number];
    assert.equal(harness.outcomeOf(tag), 'applied');
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
    assert.equal(harness.sequencer.overview().gaps, 0);
  });

  it('settles what is held as duplicates when another owner has committed that as well', () => {
    const harness = new SequencerHarness(limits);
    harness.process(event(1));
    harness.store.applyElsewhere(event(2), event(3), event(4));
    const [three, five] = harness.process(event(3), event(5)) as [number, number];
    assert.equal(harness.outcomeOf(three), 'duplicate');
    assert.equal(harness.outcomeOf(five), 'applied');
    assert.equal(harness.unsettledCount, 0);
  });

  it('rejects what is held when the entity turns out to be parked', () => {
    const harness = new SequencerHarness(limits);
    harness.process(event(1));
    harness.store.park(event(1), { shard: 0, epoch: 1 }, 1, 'handler_failed');
    const [tag] = harness.process(event(3)) as [number];
    assert.equal(harness.outcomeOf(tag), 'entity_parked');
    assert.equal(harness.sequencer.overview().gaps, 0);
  });

  it('halts when a later owner has claimed the entity', () => {
    const harness = new SequencerHarness(limits);
    harness.process(event(1));
    harness.store.claim(event(1), { shard: 0, epoch: 2 });
    harness.process(event(3));
    assert.deepEqual(harness.effects('halt').map(({ cause }) => cause), ['fenced']);
    assert.equal(harness.sequencer.overview().state, 'halted');
  });
});

describe('an open gap', () => {
  it('is read again now and then, and closed by what another owner has committed', () => {
    const harness = waitingFor2();
    assert.equal(harness.sequencer.nextDeadlineMs(), 5_000);
    harness.toNextDeadline();
    assert.deepEqual(harness.askedKinds, ['openGap']);
    harness.answer();
    assert.equal(harness.sequencer.nextDeadlineMs(), 10_000);
    harness.store.applyElsewhere(event(2));
    harness.toNextDeadline();
    harness.answerAll();
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
  });

  it('is not read before its time', () => {
    const harness = waitingFor2();
    harness.pass(4_999);
    assert.deepEqual(harness.askedKinds, []);
    harness.process(event(5));
    assert.deepEqual(harness.askedKinds, []);
  });

  it('is closed by the missing event', () => {
    const harness = waitingFor2();
    harness.process(event(2));
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
    assert.equal(harness.sequencer.overview().gaps, 0);
    harness.pass(60_000);
    assert.deepEqual(harness.askedKinds, []);
  });

  it('gives way to a new one when the version moves and something is still held', () => {
    const harness = waitingFor2();
    harness.process(event(6));
    harness.process(event(2));
    assert.deepEqual(harness.sequencer.heldOf('order', 'e1'), { version: 3, sequences: [6] });
    assert.equal(harness.sequencer.overview().gaps, 1);
    assert.deepEqual(harness.sequencer.openGaps(10).map(({ lane, sinceMs }) => [lane.version, sinceMs]), [[3, 0]]);
  });
});

describe("a gap's deadline", () => {
  it('counts from the event that has waited longest, not from the lowest sequence', () => {
    const harness = new SequencerHarness(limits);
    harness.process(event(1), event(9));
    harness.pass(20_000);
    harness.answerAll();
    harness.process(event(3));
    harness.pass(9_999);
    harness.answerAll();
    assert.equal(harness.store.parkedFor(), null);
    harness.pass(1);
    harness.answerAll();
    assert.equal(harness.store.parkedFor(), 'gap_timeout');
  });

  it('counts from the oldest of what is still held when an older one has left', () => {
    const harness = waitingFor2();
    harness.pass(20_000);
    harness.answerAll();
    harness.process(event(5));
    harness.process(event(2));
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
    harness.pass(29_999);
    harness.answerAll();
    assert.equal(harness.store.parkedFor(), null);
    harness.pass(1);
    harness.answerAll();
    assert.equal(harness.store.parkedFor(), 'gap_timeout');
  });

  it('lets the version be read once more before the entity is parked', () => {
    const harness = waitingFor2({ gapRereadMs: 1_000_000 });
    assert.equal(harness.sequencer.nextDeadlineMs(), 30_000);
    harness.toNextDeadline();
    assert.deepEqual(harness.askedKinds, ['openGap']);
    harness.answer();
    assert.deepEqual(harness.askedKinds, ['park']);
  });

  it('parks nothing when that last reading closes the gap', () => {
    const harness = waitingFor2({ gapRereadMs: 1_000_000 });
    harness.store.applyElsewhere(event(2));
    harness.toNextDeadline();
    harness.answerAll();
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
    assert.equal(harness.store.parkedFor(), null);
  });

  it('parks the entity first, then rejects everything held in sequence order', () => {
    const harness = waitingFor2();
    harness.process(event(7), event(5), event(5), event(4));
    harness.pass(30_000);
    harness.answer();
    assert.deepEqual(harness.effects('park').map(({ sequence, reason, expectedVersion }) => [sequence, reason, expectedVersion]), [[3, 'gap_timeout', 1]]);
    assert.deepEqual(harness.settled.filter(({ reason }) => reason !== null), []);
    harness.answerAll();
    assert.deepEqual(harness.sequences('gap_timeout'), [3, 4, 5, 5, 7]);
    assert.equal(harness.effects('reject').length, 1);
    assert.equal(harness.unsettledCount, 0);
  });

  it('says what was waited for, and how long', () => {
    const one = waitingFor2();
    one.pass(30_000);
    one.answerAll();
    assert.equal(one.effects('park')[0]?.detail, 'waited 30000 ms for sequence 2');
    const several = new SequencerHarness(limits);
    several.process(event(5));
    several.pass(30_000);
    several.answerAll();
    assert.equal(several.effects('park')[0]?.detail, 'waited 30000 ms for sequences 1 to 4');
  });

  it('is decided again when the store refuses the park because the version has moved', () => {
    const harness = waitingFor2();
    harness.pass(30_000);
    harness.answer();
    assert.deepEqual(harness.askedKinds, ['park']);
    harness.store.applyElsewhere(event(2));
    harness.answerAll();
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
    assert.equal(harness.store.parkedFor(), null);
    assert.deepEqual(harness.sequences('gap_timeout'), []);
  });

  it('halts when the store refuses the park because a later owner has claimed the entity', () => {
    const harness = waitingFor2();
    harness.pass(30_000);
    harness.answer();
    harness.store.claim(event(1), { shard: 0, epoch: 2 });
    harness.answerAll();
    assert.equal(harness.sequencer.overview().state, 'halted');
    assert.equal(harness.store.parkedFor(), null);
  });

  it('rejects what is held also when the missing event arrives while the entity is being parked', () => {
    const harness = waitingFor2();
    harness.pass(30_000);
    harness.answer();
    assert.deepEqual(harness.askedKinds, ['park']);
    const [tag] = harness.arrive(event(2)) as [number];
    harness.answerAll();
    assert.equal(harness.outcomeOf(tag), 'applied');
    assert.deepEqual(harness.sequences('gap_timeout'), [3]);
    assert.deepEqual(harness.store.applied(), [1, 2]);
  });
});

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

describe('the limits on what is held', () => {
  it('end the gap of an entity that holds too much, after one more reading, and drop nothing', () => {
    const harness = new SequencerHarness({ ...limits, maxHeldPerEntity: 3 });
    const tags = harness.process(event(3), event(4));
    assert.equal(harness.store.parkedFor(), null);
    const more = harness.process(event(5), event(6));
    assert.equal(harness.store.parkedFor(), 'buffer_overflow');
    for (const tag of [...tags, ...more]) assert.equal(harness.outcomeOf(tag), 'buffer_overflow');
    assert.equal(harness.unsettledCount, 0);
  });

  it('end the gap that has waited longest when the shard holds too much', () => {
    const harness = new SequencerHarness({ ...limits, maxHeld: 3 });
    harness.process(event(3, { entityId: 'b' }));
    harness.nowMs += 10;
    harness.process(event(2, { entityId: 'a' }));
    harness.nowMs += 10;
    harness.process(event(2, { entityId: 'c' }));
    assert.equal(harness.sequencer.nextDeadlineMs(), harness.nowMs);
    harness.toNextDeadline();
    harness.answerAll();
    assert.equal(harness.store.parkedFor('b'), 'buffer_overflow');
    assert.equal(harness.store.parkedFor('a'), null);
    assert.equal(harness.store.parkedFor('c'), null);
    assert.equal(harness.sequencer.overview().held, 2);
  });

  it('end as many gaps as it takes when one delivery of many events fills the shard', () => {
    const harness = new SequencerHarness({ ...limits, maxHeld: 6 });
    for (const entityId of ['a', 'b', 'c', 'd']) harness.process(event(2, { entityId }));
    harness.nowMs += 10;
    harness.process(...[2, 3, 4, 5].map((sequence) => event(sequence, { entityId: 'z' })));
    harness.toNextDeadline();
    harness.answerAll();
    assert.equal(harness.sequencer.overview().held, 5);
    assert.deepEqual(['a', 'b', 'c', 'd', 'z'].map((entityId) => harness.store.parkedFor(entityId) !== null), [true, true, true, false, false]);
  });

  it('do not end a gap that closes in time', () => {
    const harness = new SequencerHarness({ ...limits, maxHeld: 2 });
    harness.process(event(2, { entityId: 'a' }));
    harness.process(event(2, { entityId: 'b' }));
    harness.process(event(1, { entityId: 'a' }));
    harness.toNextDeadline();
    harness.answerAll();
    assert.equal(harness.store.parkedFor('a'), null);
    assert.deepEqual(harness.store.applied('a'), [1, 2]);
  });

  it('count every copy', () => {
    const harness = new SequencerHarness({ ...limits, maxHeldPerEntity: 3 });
    harness.process(event(3), event(3), event(3));
    assert.deepEqual(harness.sequences('buffer_overflow'), [3, 3, 3]);
  });

  it('skip ahead where that is chosen', () => {
    const harness = new SequencerHarness({ ...limits, maxHeldPerEntity: 2, gapTimeoutAction: 'skip-ahead' }, new ModelStore({ allowsLeaps: true }));
    harness.process(event(3), event(4));
    assert.deepEqual(harness.store.applied(), [3, 4]);
  });
});

describe('duplicates among what is held', () => {
  it('leave with the event: one is applied, the other is a duplicate', () => {
    const harness = waitingFor2();
    harness.process(event(3));
    harness.process(event(2));
    assert.deepEqual(harness.sequences('applied'), [1, 2, 3]);
    assert.deepEqual(harness.sequences('duplicate'), [3]);
    assert.equal(harness.unsettledCount, 0);
  });

  it('are a sequence_conflict when their payload differs from what was applied', () => {
    const harness = waitingFor2();
    const [other] = harness.process(event(3, { id: 'x', payloadHash: 'x' })) as [number];
    harness.process(event(2));
    assert.equal(harness.outcomeOf(other), 'sequence_conflict');
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
  });
});

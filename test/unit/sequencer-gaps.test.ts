/** Gaps: claiming and reading, the deadline, parking. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { event, SequencerHarness } from '../support/sequencer-harness.ts';

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
    assert.deepEqual(harness.askedKinds, ['claimAndRead']);
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
    harness.store.park(event(1), { shard: 0, epoch: 1 }, { expectedVersion: 1, reason: 'handler_failed', sequence: 2 });
    const [tag] = harness.process(event(3)) as [number];
    assert.equal(harness.outcomeOf(tag), 'entity_parked');
    assert.equal(harness.sequencer.overview().gaps, 0);
  });

  it('ends when a later owner has claimed the entity', () => {
    const harness = new SequencerHarness(limits);
    harness.process(event(1));
    harness.store.claim(event(1), { shard: 0, epoch: 2 });
    harness.process(event(3));
    assert.equal(harness.effects('overtaken').length, 1);
    assert.deepEqual(harness.effects('halt'), [], 'the shard goes on elsewhere');
    assert.equal(harness.sequencer.overview().state, 'ended');
  });
});

describe('an open gap', () => {
  it('is read again now and then, and closed by what another owner has committed', () => {
    const harness = waitingFor2();
    assert.equal(harness.sequencer.nextDeadlineMs(), 5_000);
    harness.toNextDeadline();
    assert.deepEqual(harness.askedKinds, ['claimAndRead']);
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
    assert.deepEqual(
      harness.sequencer.openGaps(10, harness.nowMs).map(({ lane, waitedMs }) => [lane.known.version, waitedMs]),
      [[3, 0]],
    );
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
    assert.deepEqual(harness.askedKinds, ['claimAndRead']);
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

  it('lets a gap that the last reading has moved be read again before it parks', () => {
    const harness = waitingFor2({ gapRereadMs: 1_000_000 });
    harness.process(event(9));
    harness.store.applyElsewhere(event(2), event(3));
    harness.toNextDeadline();
    harness.answer();
    assert.deepEqual(harness.askedKinds, ['claimAndRead', 'lookUp']);
    harness.answerAll();
    assert.deepEqual(harness.sequences('duplicate'), [3]);
    assert.deepEqual(harness.sequences('gap_timeout'), [9]);
  });

  it('parks the entity first, then rejects everything held in sequence order', () => {
    const harness = waitingFor2();
    harness.process(event(7), event(5), event(5), event(4));
    harness.pass(30_000);
    harness.answer();
    assert.deepEqual(
      harness.effects('park').map(({ sequence, reason, expectedVersion }) => [sequence, reason, expectedVersion]),
      [[3, 'gap_timeout', 1]],
    );
    assert.deepEqual(
      harness.settled.filter(({ reason }) => reason !== null),
      [],
    );
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
    assert.equal(harness.sequencer.overview().state, 'ended');
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

/** Folding, forgetting, deadlines and the numbers that the sequencer shows. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InvariantError } from '../../src/errors.ts';
import { defaultSequencerLimits } from '../../src/ordering/facts.ts';
import { ShardSequencer } from '../../src/ordering/sequencer.ts';
import { heapBytes } from '../support/heap.ts';
import { event, ModelStore, SequencerHarness, snapshot } from '../support/sequencer-harness.ts';

const series = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => event(from + index));

describe('a commit', () => {
  it('carries at most so many events, and the rest follows in order', () => {
    const harness = new SequencerHarness({ maxFold: 3 });
    harness.process(...series(1, 8));
    assert.deepEqual(
      harness.effects('commit').map(({ slots }) => slots.length),
      [3, 3, 2],
    );
    assert.deepEqual(harness.sequences('applied'), [1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it('carries at most so many of the events that were held', () => {
    const harness = new SequencerHarness({ maxFold: 3 });
    harness.process(...series(2, 8));
    harness.process(event(1));
    assert.deepEqual(
      harness.effects('commit').map(({ slots }) => slots.map(({ sequence }) => sequence)),
      [
        [1, 2, 3],
        [4, 5, 6],
        [7, 8],
      ],
    );
  });

  it('says where the entity stands, with its holes, after each of its events', () => {
    const harness = new SequencerHarness({ strategy: 'log_and_process' }, new ModelStore({ allowsLeaps: true }));
    harness.process(event(1), event(4), event(5));
    const [commit] = harness.effects('commit');
    assert.deepEqual([commit?.expectedVersion, commit?.expectedHoles, commit?.adopts], [0, '', false]);
    assert.deepEqual(
      commit?.slots.map(({ versionAfter, holesAfter }) => [versionAfter, holesAfter]),
      [
        [1, ''],
        [4, '2-3'],
        [5, '2-3'],
      ],
    );
  });
});

describe('versions remembered', () => {
  it('take so many bytes; entities at rest beyond that are read again when they come', () => {
    const harness = new SequencerHarness({ maxRememberedBytes: 1_000 });
    for (let at = 0; at < 30; at++) harness.process(event(1, { entityId: `e${at}` }));
    const { entities } = harness.sequencer.overview();
    assert.ok(entities > 5 && entities < 15, `${entities} are remembered`);
    harness.arrive(event(2, { entityId: 'e0' }));
    assert.deepEqual(harness.askedKinds, ['load']);
    harness.answerAll();
    assert.deepEqual(harness.store.applied('e0'), [1, 2]);
  });

  it('cost tens of bytes per entity at rest, and no more than they may in all', () => {
    const grownBy = (maxRememberedBytes: number, entities: number) => {
      const sequencer = new ShardSequencer({ ...defaultSequencerLimits, maxRememberedBytes });
      const before = heapBytes();
      for (let at = 0; at < entities; at++) applyOne(sequencer, `customer-${at}`);
      const grown = heapBytes() - before;
      return { grown, entities: sequencer.overview().entities };
    };
    const roomy = grownBy(Number.POSITIVE_INFINITY, 50_000);
    assert.equal(roomy.entities, 50_000);
    assert.ok(roomy.grown / 50_000 < 150, `an entity at rest takes ${roomy.grown / 50_000} bytes`);
    const bounded = grownBy(1_000_000, 50_000);
    assert.ok(bounded.grown < 2_000_000, `1,000,000 bytes are ${bounded.grown}`);
  });

  it('are kept of entities of which something is under way', () => {
    const harness = new SequencerHarness({ maxRememberedBytes: 0 });
    harness.process(event(1));
    harness.arrive(event(2));
    for (let at = 0; at < 10; at++) harness.arrive(event(1, { entityId: `e${at + 2}` }));
    harness.arrive(event(3));
    harness.answerAll();
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
    assert.deepEqual(harness.sequences('duplicate'), []);
  });

  it('are kept of entities that wait for something', () => {
    const harness = new SequencerHarness({ maxRememberedBytes: 0 });
    harness.process(event(2, { entityId: 'held' }));
    for (let at = 0; at < 20; at++) harness.process(event(1, { entityId: `e${at}` }));
    harness.process(event(1, { entityId: 'held' }));
    assert.deepEqual(harness.store.applied('held'), [1, 2]);
    assert.equal(harness.unsettledCount, 0);
  });
});

describe('the next deadline', () => {
  it('is none when nothing waits for time', () => {
    const harness = new SequencerHarness();
    assert.equal(harness.sequencer.nextDeadlineMs(), null);
    harness.process(event(1));
    assert.equal(harness.sequencer.nextDeadlineMs(), null);
  });

  it('is the next reading of a gap, and its end when that comes first', () => {
    const harness = new SequencerHarness({ gapTimeoutMs: 12_000, gapRereadMs: 5_000 });
    harness.nowMs = 1_000;
    harness.process(event(2));
    const deadlines: (number | null)[] = [];
    for (let step = 0; step < 3; step++) {
      deadlines.push(harness.sequencer.nextDeadlineMs());
      harness.toNextDeadline();
      harness.answerAll();
    }
    assert.deepEqual(deadlines, [6_000, 11_000, 13_000]);
    assert.equal(harness.store.parkedFor(), 'gap_timeout');
  });

  it('is the earliest of several gaps', () => {
    const harness = new SequencerHarness({ gapTimeoutMs: 10_000, gapRereadMs: 60_000 });
    harness.process(event(2, { entityId: 'a' }));
    harness.nowMs = 4_000;
    harness.process(event(2, { entityId: 'b' }));
    assert.equal(harness.sequencer.nextDeadlineMs(), 10_000);
    harness.toNextDeadline();
    harness.answerAll();
    assert.equal(harness.sequencer.nextDeadlineMs(), 14_000);
  });

  it('is the probe of a store that is away when that comes first', () => {
    const harness = new SequencerHarness({ gapRereadMs: 5_000 });
    harness.process(event(2));
    harness.arrive(event(1, { entityId: 'e2' }));
    harness.fact({ kind: 'storeUnavailable', ops: [harness.loseReply(0, false)], retryInMs: 300 });
    assert.equal(harness.sequencer.nextDeadlineMs(), 300);
  });

  it('moves on whenever time is told that it has come', () => {
    const harness = new SequencerHarness({ gapTimeoutMs: 10_000, gapRereadMs: 3_000 });
    harness.process(event(2), event(2, { entityId: 'e2' }));
    harness.process(event(1));
    for (let steps = 0; harness.toNextDeadline(); steps++) {
      const next = harness.sequencer.nextDeadlineMs();
      assert.ok(next === null || next > harness.nowMs, 'a deadline in the past would spin the timer');
      harness.answerAll();
      assert.ok(steps < 20);
    }
    assert.equal(harness.unsettledCount, 0);
  });
});

describe('the overview', () => {
  it('counts what is held, gaps, entities, unsettled deliveries and operations', () => {
    const harness = new SequencerHarness();
    harness.process(event(1), event(3), event(3), event(4), event(9, { entityId: 'e2' }));
    harness.arrive(event(1, { entityId: 'e3' }));
    const expected = { held: 4, gaps: 2, entities: 3, unsettled: 5, operations: 1, paused: false, state: 'running' };
    assert.deepEqual(harness.sequencer.overview(), expected);
  });

  it('lists gaps, the longest wait first, and what is held by entity type', () => {
    const harness = new SequencerHarness();
    harness.process(event(2, { entityId: 'late', entityType: 'order' }));
    harness.nowMs = 50;
    harness.process(event(2, { entityId: 'b' }), event(3, { entityId: 'b' }), event(5, { entityId: 'c', entityType: 'invoice' }));
    const gaps = harness.sequencer.openGaps(2, 50).map(({ lane, waitedMs, endsInMs }) => [lane.entity.entityId, waitedMs, endsInMs]);
    assert.deepEqual(gaps, [
      ['late', 50, 29_950],
      ['b', 0, 30_000],
    ]);
    assert.deepEqual(
      [...harness.sequencer.heldByEntityType()],
      [
        ['order', 3],
        ['invoice', 1],
      ],
    );
  });

  it('tells the version and the held sequences of one entity, and nothing of one it does not know', () => {
    const harness = new SequencerHarness();
    harness.process(event(1), event(9), event(4));
    assert.deepEqual(harness.sequencer.heldOf('order', 'e1'), { version: 1, sequences: [4, 9] });
    assert.equal(harness.sequencer.heldOf('order', 'e2'), null);
  });
});

describe('an impossible answer', () => {
  it('is an InvariantError: a bug must stop the shard', () => {
    const failing = { reason: 'handler_failed', detail: '' } as const;
    const commit = new SequencerHarness();
    commit.arrive(event(1));
    commit.answer();
    const op = commit.asked[0]?.op ?? 0;
    assert.throws(() => commit.sequencer.handle(0, { kind: 'committed', op, done: 1, parked: null, failure: failing }), InvariantError);
    const lookUp = new SequencerHarness();
    lookUp.process(event(1));
    lookUp.arrive(event(1));
    assert.throws(() => lookUp.sequencer.handle(0, { kind: 'lookedUp', op: lookUp.asked[0]?.op ?? 0, results: [] }), InvariantError);
  });
});

/** One event of a new entity, from its arrival to its acknowledgement. */
function applyOne(sequencer: ShardSequencer, entityId: string): void {
  const [load] = sequencer.handle(0, { kind: 'delivered', deliveries: [{ tag: 1, event: event(1, { entityId }) }] });
  assert.ok(load?.kind === 'load');
  const [commit] = sequencer.handle(0, { kind: 'loaded', op: load.op, snapshot: snapshot() });
  assert.ok(commit?.kind === 'commit');
  sequencer.handle(0, { kind: 'committed', op: commit.op, done: 1, parked: null, failure: null });
}

/** The table "per delivery" of src/README.md (section 5), row by row, for events that need no strategy. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { event, ModelStore, SequencerHarness } from '../support/sequencer-harness.ts';

describe('an event that is next in line', () => {
  it('is committed and only then acknowledged', () => {
    const harness = new SequencerHarness();
    const [tag] = harness.arrive(event(1)) as [number];
    assert.deepEqual(harness.askedKinds, ['load']);
    harness.answer();
    assert.deepEqual(harness.askedKinds, ['commit']);
    assert.equal(harness.outcomeOf(tag), null);
    harness.answer();
    assert.equal(harness.outcomeOf(tag), 'applied');
    assert.deepEqual(harness.store.applied(), [1]);
  });

  it('costs one question more only for the first event of an entity', () => {
    const harness = new SequencerHarness();
    harness.process(event(1));
    harness.arrive(event(2));
    assert.deepEqual(harness.askedKinds, ['commit']);
  });

  it('is committed together with everything that arrived with it and follows', () => {
    const harness = new SequencerHarness();
    harness.process(event(1), event(2), event(3));
    assert.deepEqual(
      harness.effects('commit').map(({ slots }) => slots.map(({ sequence }) => sequence)),
      [[1, 2, 3]],
    );
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
  });

  it('waits while a commit of its entity is under way, and then goes without being asked for', () => {
    const harness = new SequencerHarness();
    harness.process(event(1));
    harness.arrive(event(2));
    harness.arrive(event(3));
    assert.deepEqual(harness.askedKinds, ['commit']);
    harness.answer();
    assert.deepEqual(harness.askedKinds, ['commit']);
    harness.answer();
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
  });

  it('takes along everything held that now follows, and leaves what does not', () => {
    const harness = new SequencerHarness();
    harness.process(event(3), event(2), event(5));
    harness.process(event(1));
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
    assert.equal(harness.sequencer.overview().held, 1);
    assert.deepEqual(harness.sequencer.heldOf('order', 'e1'), { version: 3, sequences: [5] });
  });

  it('is not delayed by another entity whose predecessor is missing', () => {
    const harness = new SequencerHarness();
    harness.process(event(2, { entityId: 'stuck' }));
    harness.process(event(1, { entityId: 'free' }), event(2, { entityId: 'free' }));
    assert.deepEqual(harness.store.applied('free'), [1, 2]);
    assert.deepEqual(harness.store.applied('stuck'), []);
  });

  it('is told apart by entity type as well as by id', () => {
    const harness = new SequencerHarness();
    harness.process(event(1), event(1, { entityType: 'invoice' }));
    assert.deepEqual(harness.store.applied('e1', 'order'), [1]);
    assert.deepEqual(harness.store.applied('e1', 'invoice'), [1]);
  });

  it('is decided again when another owner was faster', () => {
    const harness = new SequencerHarness();
    harness.process(event(1));
    harness.store.applyElsewhere(event(2));
    const [second, third] = harness.process(event(2), event(3)) as [number, number];
    assert.equal(harness.outcomeOf(second), 'duplicate');
    assert.equal(harness.outcomeOf(third), 'applied');
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
  });

  it('is asked again when the driver carried out only the first of its slots', () => {
    const harness = new SequencerHarness({}, new ModelStore({ maxDone: 1 }));
    harness.process(event(1), event(2), event(3));
    assert.deepEqual(harness.store.applied(), [1, 2, 3]);
    assert.deepEqual(harness.sequences('applied'), [1, 2, 3]);
  });
});

describe('an event at or below the version', () => {
  it('is a duplicate when the remembered payload is the same', () => {
    const harness = new SequencerHarness();
    harness.process(event(1), event(2));
    const [tag] = harness.process(event(1)) as [number];
    assert.equal(harness.outcomeOf(tag), 'duplicate');
    assert.deepEqual(harness.store.applied(), [1, 2]);
  });

  it('is a duplicate when what it was is forgotten', () => {
    const harness = new SequencerHarness();
    harness.process(event(1));
    harness.store.forget();
    const [tag] = harness.process(event(1)) as [number];
    assert.equal(harness.outcomeOf(tag), 'duplicate');
  });

  it('is rejected as sequence_conflict when another payload was applied, and parks nothing', () => {
    const harness = new SequencerHarness();
    harness.process(event(1));
    const [tag] = harness.process(event(1, { id: 'other', payloadHash: 'other' })) as [number];
    assert.equal(harness.outcomeOf(tag), 'sequence_conflict');
    assert.equal(harness.store.parkedFor(), null);
    harness.process(event(2));
    assert.deepEqual(harness.store.applied(), [1, 2]);
  });

  it('is not acknowledged before the store has said what it remembers', () => {
    const harness = new SequencerHarness();
    harness.process(event(1));
    const [tag] = harness.arrive(event(1)) as [number];
    assert.deepEqual(harness.askedKinds, ['lookUp']);
    assert.equal(harness.outcomeOf(tag), null);
  });

  it('shares one question with the duplicates of other entities that arrived with it', () => {
    const harness = new SequencerHarness();
    harness.process(event(1), event(1, { entityId: 'e2' }));
    harness.arrive(event(1), event(1, { entityId: 'e2' }));
    assert.deepEqual(
      harness.effects('lookUp').map(({ deliveries }) => deliveries.length),
      [2],
    );
  });

  it('waits for the commit when its copy is part of it', () => {
    const harness = new SequencerHarness();
    const [first, copy] = harness.arrive(event(1), event(1)) as [number, number];
    harness.answer();
    assert.deepEqual(harness.askedKinds, ['commit']);
    harness.answerAll();
    assert.equal(harness.outcomeOf(first), 'applied');
    assert.equal(harness.outcomeOf(copy), 'duplicate');
  });

  it('is asked about again later, alone, when its entity cannot be read', () => {
    const harness = new SequencerHarness({ entityRetryMs: 500 });
    harness.process(event(1), event(1, { entityId: 'e2' }));
    const [bad, good] = harness.arrive(event(1), event(1, { entityId: 'e2' })) as [number, number];
    const op = harness.loseReply(0, false);
    harness.fact({
      kind: 'lookedUp',
      op,
      results: [
        { status: 'failed', error: new Error('wrong type') },
        { status: 'known', sequence: 1, payloadHash: 'hash of e2 1', result: null },
      ],
    });
    assert.equal(harness.outcomeOf(good), 'duplicate');
    assert.equal(harness.outcomeOf(bad), null);
    assert.deepEqual(harness.askedKinds, []);
    assert.equal(harness.sequencer.nextDeadlineMs(), 500);
    harness.toNextDeadline();
    harness.answerAll();
    assert.equal(harness.outcomeOf(bad), 'duplicate');
  });

  it('keeps what is known of its entity while the store is asked, however little may be remembered', () => {
    const harness = new SequencerHarness({ maxRememberedBytes: 0 });
    harness.process(event(1));
    const [tag] = harness.arrive(event(1)) as [number];
    harness.answer();
    assert.deepEqual(harness.askedKinds, ['lookUp']);
    harness.store.forget();
    harness.answer();
    assert.equal(harness.outcomeOf(tag), 'duplicate');
    assert.equal(harness.sequencer.heldOf('order', 'e1'), null);
  });
});

describe('an event whose id was applied under another sequence', () => {
  it('consumes its slot when the payload is the same: the version passes it, nothing is applied', () => {
    const harness = new SequencerHarness();
    harness.process(event(1));
    const [again, next] = harness.process(event(2, { id: 'e1-1', payloadHash: event(1).payloadHash }), event(3)) as [number, number];
    assert.equal(harness.outcomeOf(again), 'duplicate');
    assert.equal(harness.outcomeOf(next), 'applied');
    assert.deepEqual(harness.store.applied(), [1, 3]);
    const last = harness.effects('commit').at(-1);
    assert.deepEqual(
      last?.slots.map(({ action }) => action),
      ['absorb', 'apply'],
    );
  });

  it('is told each time, with the sequence that was passed and the one under which the id was applied', () => {
    const harness = new SequencerHarness();
    harness.process(event(1), event(2));
    harness.process(event(3, { id: 'e1-2', payloadHash: event(2).payloadHash }), event(4));
    harness.process(event(5, { id: 'e1-1', payloadHash: event(1).payloadHash }));
    assert.deepEqual(
      harness.effects('absorbed').map(({ sequence, appliedAs }) => [sequence, appliedAs]),
      [
        [3, 2],
        [5, 1],
      ],
    );
  });

  it('is noticed within one batch as well', () => {
    const harness = new SequencerHarness();
    const [first, again] = harness.process(event(1), event(2, { id: 'e1-1', payloadHash: event(1).payloadHash })) as [number, number];
    assert.equal(harness.outcomeOf(first), 'applied');
    assert.equal(harness.outcomeOf(again), 'duplicate');
    assert.deepEqual(harness.store.applied(), [1]);
  });

  it('is noticed in the middle of a batch, and among held events', () => {
    const harness = new SequencerHarness();
    harness.process(event(1));
    harness.process(event(4), event(3, { id: 'e1-1', payloadHash: event(1).payloadHash }));
    harness.process(event(2));
    assert.deepEqual(harness.store.applied(), [1, 2, 4]);
    assert.deepEqual(harness.sequences('duplicate'), [3]);
  });

  it('is noticed between two held events', () => {
    const harness = new SequencerHarness();
    harness.process(event(2), event(3, { id: 'e1-2', payloadHash: event(2).payloadHash }));
    harness.process(event(1));
    assert.deepEqual(harness.store.applied(), [1, 2]);
    assert.deepEqual(harness.sequences('duplicate'), [3]);
  });

  it('is rejected as message_id_conflict when the payload differs, and parks the entity', () => {
    const harness = new SequencerHarness();
    harness.process(event(1));
    const [bad, next] = harness.process(event(2, { id: 'e1-1' }), event(3)) as [number, number];
    assert.equal(harness.outcomeOf(bad), 'message_id_conflict');
    assert.equal(harness.outcomeOf(next), 'entity_parked');
    assert.equal(harness.store.parkedFor(), 'message_id_conflict');
    assert.equal(harness.effects('park').at(-1)?.detail, 'the id was already applied with another payload, under sequence 1');
    assert.deepEqual(harness.store.applied(), [1]);
  });

  it('is independent of the same id on another entity', () => {
    const harness = new SequencerHarness();
    harness.process(event(1, { id: 'same' }), event(1, { entityId: 'e2', id: 'same' }));
    assert.deepEqual(harness.store.applied('e2'), [1]);
  });

  it('is applied behind its first use in a batch even when many ids are in it', () => {
    const harness = new SequencerHarness();
    const repeated = event(4, { id: 'e1-2', payloadHash: event(2).payloadHash });
    harness.process(event(1), event(2), event(3), repeated, event(5));
    assert.deepEqual(
      harness.effects('commit')[0]?.slots.map(({ sequence }) => sequence),
      [1, 2, 3],
    );
    assert.deepEqual(harness.store.applied(), [1, 2, 3, 5]);
    assert.deepEqual(harness.sequences('duplicate'), [4]);
  });
});

describe('what is no event, or is none that can be placed', () => {
  it('is rejected with the reason of the decoder', () => {
    const harness = new SequencerHarness();
    const tag = harness.refuse('malformed');
    harness.answerAll();
    assert.equal(harness.outcomeOf(tag), 'malformed');
  });

  it('is not rejected before the reason is on record', () => {
    const harness = new SequencerHarness();
    const tag = harness.refuse('too_large');
    assert.deepEqual(harness.askedKinds, ['reject']);
    assert.equal(harness.outcomeOf(tag), null);
  });

  it('is measured from the version that the events before it lead to, also when they came together', () => {
    const harness = new SequencerHarness();
    const [, ahead, tooFar] = harness.process(event(1), event(1_000_001), event(1_000_002)) as [number, number, number];
    assert.equal(harness.outcomeOf(ahead), null);
    assert.equal(harness.outcomeOf(tooFar), 'invalid_sequence');
    assert.deepEqual(harness.store.applied(), [1]);
  });

  it('is rejected as invalid_sequence more than 1,000,000 ahead of the version, and parks nothing', () => {
    const harness = new SequencerHarness();
    const [far, farthest] = harness.process(event(1_000_001), event(1_000_000)) as [number, number];
    assert.equal(harness.outcomeOf(far), 'invalid_sequence');
    assert.equal(harness.outcomeOf(farthest), null);
    harness.process(event(1));
    const [ahead] = harness.process(event(1_000_001)) as [number];
    assert.equal(harness.outcomeOf(ahead), null);
    assert.equal(harness.store.parkedFor(), null);
  });
});

import assert from 'node:assert/strict';
import { claimOf, commitOne, commitTo, deadLetterOf, eventAt, only, order, orderNamed, parkOf, snapshotOf } from './builders.ts';
import { type Cases, type StoreHarness, whenTimePasses } from './store-conformance.ts';

/** Of a stream that counts from 0: an entity of which nothing was applied is at version -1. */
export const firstSequenceCases: Cases = {
  'an entity of which nothing was applied is at version -1, whoever reads it': async (harness) => {
    const store = await fromZero(harness);
    const unknown = { exists: false, version: -1, state: null, holes: '', parked: null };
    assert.deepEqual(await snapshotOf(store, order), unknown);
    assert.deepEqual(only(await store.claim([claimOf(order, 1)])), { status: 'ok', snapshot: unknown });
    assert.deepEqual(await snapshotOf(store, order), unknown);
    assert.deepEqual(only(await store.operator.beginReplay([order], 60_000)), { status: 'ok', snapshot: unknown });
  },

  'sequence 0 is committed at -1, once, and a commit that expects version 0 before it is stale': async (harness) => {
    const store = await fromZero(harness);
    const early = await commitOne(store, commitTo(order, 0, 1));
    assert.equal(early.status === 'stale' && early.snapshot.version, -1);
    const first = commitTo(order, -1, 0);
    assert.deepEqual((await commitOne(store, first)).status, 'ok');
    assert.deepEqual((await commitOne(store, first)).status, 'duplicate');
    const again = await commitOne(store, commitTo(order, -1, 0));
    assert.equal(again.status === 'stale' && again.snapshot.version, 0);
    assert.equal((await commitOne(store, commitTo(order, 0, 12))).status, 'ok');
    const { exists, version } = await snapshotOf(store, order);
    assert.deepEqual([exists, version], [true, 12]);
  },

  'what was applied under sequence 0 is remembered, and before that the version has not reached it': async (harness) => {
    const store = await fromZero(harness);
    const zero = { ...order, sequence: 0, id: 'event-0' };
    assert.deepEqual(only(await store.lookUp([zero])), { status: 'above' });
    await store.claim([claimOf(order, 1)]);
    assert.deepEqual(only(await store.lookUp([{ ...zero, sequence: 10 }])), { status: 'above' });
    await commitOne(store, commitTo(order, -1, 0, { events: [eventAt(0, { result: '"done"' })] }));
    const known = { status: 'known', sequence: 0, payloadHash: 'hash-0', result: '"done"' };
    assert.deepEqual(await store.lookUp([zero, { ...zero, sequence: null }, { ...zero, sequence: 1 }]), [
      known,
      known,
      { status: 'above' },
    ]);
    const conflict = await commitOne(store, commitTo(order, 0, 1, { events: [eventAt(1, { id: 'event-0' })] }));
    assert.deepEqual(conflict, { status: 'conflict', conflicts: [{ index: 0, recordedSequence: 0, samePayload: false }] });
  },

  'parked before anything was applied, it waits for its dead letters, also for sequence 0, and is whole once it has passed them': async (
    harness,
  ) => {
    const store = await fromZero(harness);
    assert.equal(only(await store.park([parkOf(order, 0)])).status, 'stale');
    assert.equal(only(await store.park([parkOf(order, -1, { sequence: 0, reason: 'handler_failed' })])).status, 'ok');
    await store.recordDeadLetters([deadLetterOf('zero', { sequence: 0, reason: 'handler_failed' })]);
    const listed = [];
    for await (const entity of store.listEntities({})) listed.push([entity.version, entity.parked?.sequence]);
    assert.deepEqual(listed, [[-1, 0]]);
    assert.deepEqual(await commitOne(store, commitTo(order, -1, 0)), { status: 'ok', parked: null, unparked: true });
    const other = orderNamed('o-2');
    await store.park([parkOf(other, -1)]);
    await store.recordDeadLetters([deadLetterOf('one', { ...other, sequence: 1 }), deadLetterOf('ten', { ...other, sequence: 10 })]);
    for (const [from, to] of [
      [-1, 0],
      [0, 1],
      [1, 9],
    ] as const) {
      const { parked } = { parked: null, ...(await commitOne(store, commitTo(other, from, to))) };
      assert.equal(parked?.sequence, 1, `at ${to}`);
    }
    assert.deepEqual(await commitOne(store, commitTo(other, 9, 10)), { status: 'ok', parked: null, unparked: true });
  },

  'set back to where nothing was applied it stays parked for its sequence 0, and begins again': async (harness) => {
    const store = await fromZero(harness);
    await commitOne(store, commitTo(order, -1, 3));
    await store.park([parkOf(order, 3, { sequence: 4 })]);
    const back = await commitOne(store, commitTo(order, 3, 3, { newVersion: -1, newHoles: 'r1;', events: [] }));
    assert.equal(back.status === 'ok' && back.parked?.sequence, 4);
    const { exists, version } = await snapshotOf(store, order);
    assert.deepEqual([exists, version], [true, -1]);
    assert.deepEqual(only(await store.lookUp([{ ...order, sequence: 0, id: 'event-0' }])), { status: 'above' });
    await store.recordDeadLetters([deadLetterOf('five', { sequence: 5 })]);
    assert.equal((await commitOne(store, commitTo(order, -1, 4, { expectedHoles: 'r1;', newHoles: 'r1;' }))).status, 'ok');
    assert.equal((await snapshotOf(store, order)).parked?.sequence, 4);
    assert.deepEqual(await commitOne(store, commitTo(order, 4, 5, { expectedHoles: 'r1;', newHoles: 'r1;' })), {
      status: 'ok',
      parked: null,
      unparked: true,
    });
  },

  'a replay that has published nothing ends with its lease; one that has published sequence 0 waits for it': async (harness) => {
    const store = await fromZero(harness);
    await store.park([parkOf(order, -1, { sequence: 0 })]);
    const isReplaying = async () => (await snapshotOf(store, order)).parked?.replaying;
    await store.operator.beginReplay([order], 1);
    await whenTimePasses(harness, 'the lease ends', async () => (await isReplaying()) === false);
    await store.operator.beginReplay([{ ...order, replayedTo: 0 }], 1);
    await store.operator.beginReplay([order], 1);
    for (let moment = 0; moment < 3; moment++) await harness.passTime();
    assert.equal(await isReplaying(), true);
    assert.deepEqual(await commitOne(store, commitTo(order, -1, 0)), { status: 'ok', parked: null, unparked: true });
  },
};

function fromZero(harness: StoreHarness) {
  return harness.open({ initialVersion: -1 });
}

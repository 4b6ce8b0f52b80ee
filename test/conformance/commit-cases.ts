import assert from 'node:assert/strict';
import { commitOne, commitTo, eventAt, order, orderNamed, parkOf, snapshotOf } from './builders.ts';
import type { Cases } from './store-conformance.ts';

export const commitCases: Cases = {
  'moves an entity from version to version': async (harness) => {
    const store = await harness.open();
    assert.deepEqual(await commitOne(store, commitTo(order, 0, 1)), { status: 'ok', parked: null, unparked: false });
    assert.deepEqual(await commitOne(store, commitTo(order, 1, 4, { state: 'four' })), { status: 'ok', parked: null, unparked: false });
    const { version, state } = await snapshotOf(store, order);
    assert.deepEqual({ version, state }, { version: 4, state: 'four' });
  },

  'sent again after a lost reply is a duplicate and changes nothing': async (harness) => {
    const store = await harness.open();
    const commit = commitTo(order, 0, 1);
    await commitOne(store, commit);
    assert.deepEqual(await commitOne(store, commit), { status: 'duplicate', parked: null });
    assert.deepEqual(await commitOne(store, { ...commit, state: 'other' }), { status: 'duplicate', parked: null });
    assert.equal((await snapshotOf(store, order)).state, commit.state);
  },

  'sent again after a lost reply and another commit is stale, with what is there now': async (harness) => {
    const store = await harness.open();
    const lost = commitTo(order, 0, 1);
    await commitOne(store, lost);
    await commitOne(store, commitTo(order, 1, 2, { newHoles: '1', state: 'of the other' }));
    assert.deepEqual(await commitOne(store, lost), {
      status: 'stale',
      snapshot: { exists: true, version: 2, state: 'of the other', holes: '1', parked: null },
    });
  },

  'with a token that was used before is a commit of its own, and no duplicate': async (harness) => {
    const store = await harness.open();
    const first = commitTo(order, 0, 1);
    await commitOne(store, first);
    assert.equal((await commitOne(store, commitTo(order, 1, 2, { token: first.token }))).status, 'ok');
    assert.deepEqual((await snapshotOf(store, order)).version, 2);
    const other = await commitOne(store, commitTo(order, 1, 3, { token: first.token }));
    assert.equal(other.status === 'stale' && other.snapshot.version, 2);
    const elsewhere = await commitOne(store, commitTo(order, 1, 2, { token: first.token, newHoles: '1' }));
    assert.equal(elsewhere.status, 'stale', 'it would leave other holes');
  },

  'sent again after a park is still a duplicate, and says that the entity is parked': async (harness) => {
    const store = await harness.open();
    const commit = commitTo(order, 0, 1);
    await commitOne(store, commit);
    await store.park([parkOf(order, 1)]);
    const again = await commitOne(store, commit);
    assert.equal(again.status, 'duplicate');
    assert.equal(again.status === 'duplicate' && again.parked?.sequence, 3);
  },

  'from another version than the stored one is stale, below and above': async (harness) => {
    const store = await harness.open();
    await commitOne(store, commitTo(order, 0, 5));
    for (const expectedVersion of [0, 4, 6, 50]) {
      const result = await commitOne(store, commitTo(order, expectedVersion, expectedVersion + 1));
      assert.equal(result.status === 'stale' && result.snapshot.version, 5);
    }
    const unknown = await commitOne(store, commitTo(orderNamed('new'), 1, 2));
    assert.equal(unknown.status === 'stale' && unknown.snapshot.exists, false);
    assert.equal((await snapshotOf(store, order)).version, 5);
    assert.equal((await snapshotOf(store, orderNamed('new'))).version, 0);
  },

  'that is stale remembers none of its events': async (harness) => {
    const store = await harness.open();
    await commitOne(store, commitTo(order, 0, 1));
    await commitOne(store, commitTo(order, 5, 6));
    const lookedUp = await store.lookUp([
      { ...order, sequence: 6, id: 'event-6' },
      { ...order, sequence: null, id: 'event-6' },
    ]);
    assert.deepEqual(lookedUp, [{ status: 'above' }, { status: 'unknown' }]);
  },

  'with other holes than the stored ones is stale, though the version is right': async (harness) => {
    const store = await harness.open();
    await commitOne(store, commitTo(order, 0, 9));
    assert.equal((await commitOne(store, commitTo(order, 9, 10, { expectedHoles: '3-5' }))).status, 'stale');
    await commitOne(store, commitTo(order, 9, 9, { newHoles: '3-5', events: [] }));
    for (const expectedHoles of ['', '3-4', '3-5,7']) {
      const result = await commitOne(store, commitTo(order, 9, 10, { expectedHoles }));
      assert.equal(result.status === 'stale' && result.snapshot.holes, '3-5');
    }
    assert.equal((await commitOne(store, commitTo(order, 9, 10, { expectedHoles: '3-5', newHoles: '3-5' }))).status, 'ok');
    assert.equal((await snapshotOf(store, order)).holes, '3-5');
  },

  'that closes a hole leaves the version; of two that close the same hole one wins': async (harness) => {
    const store = await harness.open();
    await commitOne(store, commitTo(order, 0, 9, { newHoles: '4' }));
    const closing = { expectedHoles: '4', newVersion: 9, newHoles: '', events: [eventAt(4, { id: 'late' })] };
    const [first, second] = [commitTo(order, 9, 9, closing), commitTo(order, 9, 9, closing)];
    const results = await Promise.all([commitOne(store, first), commitOne(store, second)]);
    assert.deepEqual(results.map((result) => result.status).sort(), ['ok', 'stale']);
    const { version, holes } = await snapshotOf(store, order);
    assert.deepEqual({ version, holes }, { version: 9, holes: '' });
  },

  'that is stale says that the entity is parked': async (harness) => {
    const store = await harness.open();
    await store.park([parkOf(order, 0, { detail: 'why' })]);
    const result = await commitOne(store, commitTo(order, 1, 2));
    assert.equal(result.status === 'stale' && result.snapshot.parked?.detail, 'why');
  },

  'says when the entity is parked, and leaves it parked': async (harness) => {
    const store = await harness.open();
    await store.park([parkOf(order, 0, { detail: 'first' })]);
    const result = await commitOne(store, commitTo(order, 0, 1));
    assert.equal(result.status === 'ok' && result.parked?.detail, 'first');
    assert.equal((await snapshotOf(store, order)).parked?.detail, 'first');
  },

  'tells neighbouring versions apart up to the largest safe integer': async (harness) => {
    const store = await harness.open();
    const top = Number.MAX_SAFE_INTEGER;
    const events = [eventAt(top - 2)];
    assert.equal((await commitOne(store, commitTo(order, 0, 1, { newVersion: top - 2, events }))).status, 'ok');
    const wrong = commitTo(order, top - 1, top, { events: [eventAt(top)] });
    assert.equal((await commitOne(store, wrong)).status, 'stale');
    const right = commitTo(order, top - 2, top - 1, { events: [eventAt(top - 1)] });
    assert.equal((await commitOne(store, right)).status, 'ok');
    assert.equal((await snapshotOf(store, order)).version, top - 1);
    const conflict = await commitOne(store, commitTo(order, top - 1, top, { events: [eventAt(top, { id: `event-${top - 2}` })] }));
    assert.deepEqual(conflict.status === 'conflict' && conflict.conflicts, [{ index: 0, recordedSequence: top - 2, samePayload: false }]);
  },

  'of fifty that start from one version at once, exactly one wins': async (harness) => {
    const store = await harness.open();
    await commitOne(store, commitTo(order, 0, 1));
    const rivals = Array.from({ length: 50 }, (_, index) => commitTo(order, 1, 2, { state: `rival ${index}` }));
    const results = await Promise.all(rivals.map((rival) => commitOne(store, rival)));
    const winners = rivals.filter((_, index) => results[index]?.status === 'ok');
    assert.equal(winners.length, 1);
    assert.equal(results.filter((result) => result.status === 'stale').length, 49);
    assert.equal((await snapshotOf(store, order)).state, winners[0]?.state);
  },

  'of a batch stands alone: each is answered for itself, in the order of the batch': async (harness) => {
    const store = await harness.open();
    const repeated = commitTo(orderNamed('repeated'), 0, 1);
    await store.commit([repeated, commitTo(orderNamed('moved'), 0, 2), commitTo(orderNamed('known id'), 0, 1)]);
    const results = await store.commit([
      commitTo(orderNamed('new'), 0, 1),
      repeated,
      commitTo(orderNamed('moved'), 1, 2),
      commitTo(orderNamed('known id'), 1, 2, { events: [eventAt(2, { id: 'event-1' })] }),
      commitTo(orderNamed('another'), 0, 1),
    ]);
    assert.deepEqual(
      results.map((result) => result.status),
      ['ok', 'duplicate', 'stale', 'conflict', 'ok'],
    );
  },

  'of a thousand entities goes in one batch': async (harness) => {
    const store = await harness.open();
    const entities = Array.from({ length: 1_000 }, (_, index) => orderNamed(`o-${index}`));
    const results = await store.commit(entities.map((entity, index) => commitTo(entity, 0, 1, { state: `state ${index}` })));
    assert.equal(results.filter((result) => result.status === 'ok').length, 1_000);
    const loaded = await store.load(entities);
    for (const [index, item] of loaded.entries()) assert.equal(item.status === 'ok' && item.snapshot.state, `state ${index}`);
  },

  'of five thousand events is one step, and all of them are remembered': async (harness) => {
    const store = await harness.open();
    assert.equal((await commitOne(store, commitTo(order, 0, 5_000))).status, 'ok');
    const sequences = Array.from({ length: 5_000 }, (_, index) => index + 1);
    const bySequence = await store.lookUp(sequences.map((sequence) => ({ ...order, sequence, id: 'unused' })));
    const byId = await store.lookUp(sequences.map((sequence) => ({ ...order, sequence: null, id: `event-${sequence}` })));
    for (const [index, sequence] of sequences.entries()) {
      const known = { status: 'known', sequence, payloadHash: `hash-${sequence}`, result: null };
      assert.deepEqual([bySequence[index], byId[index]], [known, known]);
    }
    const repeats = sequences.map((sequence) => eventAt(5_000 + sequence, { id: `event-${sequence}` }));
    const again = await commitOne(store, commitTo(order, 5_000, 10_000, { events: repeats }));
    assert.equal(again.status === 'conflict' && again.conflicts.length, 5_000);
    assert.equal((await snapshotOf(store, order)).version, 5_000);
  },
};

import assert from 'node:assert/strict';
import type { Claim, ClaimResult, Park, ParkResult } from '../../src/ordering/entity.ts';
import type { Store } from '../../src/stores/store.ts';
import { claimOf, commitOne, commitTo, only, order, orderNamed, parkOf, snapshotOf, unknownSnapshot } from './builders.ts';
import type { Cases } from './store-conformance.ts';

export const ownershipCases: Cases = {
  'a claim answers what is in the store, whether the entity is known or not': async (harness) => {
    const store = await harness.open();
    assert.deepEqual(await claim(store, claimOf(order, 1)), { status: 'ok', snapshot: unknownSnapshot });
    await commitOne(store, commitTo(order, 0, 5, { newHoles: '3', state: 'five' }));
    const snapshot = { exists: true, version: 5, state: 'five', holes: '3', parked: null };
    assert.deepEqual(await claim(store, claimOf(order, 2)), { status: 'ok', snapshot });
  },

  'a claim of a parked entity says that it is parked': async (harness) => {
    const store = await harness.open();
    await park(store, parkOf(order, 0, { detail: 'why' }));
    const result = await claim(store, claimOf(order, 2));
    assert.equal(result.status === 'ok' && result.snapshot.parked?.detail, 'why');
  },

  'a claim is repeated by its own epoch, taken over by a later one, and then refused to the earlier': async (harness) => {
    const store = await harness.open();
    assert.equal((await claim(store, claimOf(order, 9))).status, 'ok');
    assert.equal((await claim(store, claimOf(order, 9))).status, 'ok');
    assert.equal((await claim(store, claimOf(order, 10))).status, 'ok');
    assert.deepEqual(await claim(store, claimOf(order, 9)), { status: 'fenced' });
    assert.equal((await claim(store, claimOf(order, 10))).status, 'ok');
  },

  'of two sessions that were given the same epoch the last to claim owns the entity, and the other does not park it': async (harness) => {
    const store = await harness.open();
    const [one, other] = [
      { epoch: 5, session: 'one' },
      { epoch: 5, session: 'other' },
    ];
    await claim(store, { ...claimOf(order, 5), ...one });
    assert.equal((await claim(store, { ...claimOf(order, 5), ...other })).status, 'ok');
    assert.deepEqual(await park(store, parkOf(order, 0, one)), { status: 'fenced' });
    assert.equal((await snapshotOf(store, order)).parked, null);
    assert.equal((await park(store, parkOf(order, 0, other))).status, 'ok');
    assert.deepEqual(await park(store, parkOf(order, 0, one)), { status: 'fenced' });
    assert.equal((await park(store, parkOf(order, 0, { epoch: 6, session: 'one' }))).status, 'ok');
  },

  'epochs of different shards do not fence each other, nor do those of different entities': async (harness) => {
    const store = await harness.open();
    await claim(store, claimOf(order, 7, 1));
    assert.equal((await claim(store, claimOf(order, 3, 2))).status, 'ok');
    assert.equal((await claim(store, claimOf(order, 3, 11))).status, 'ok');
    assert.equal((await claim(store, claimOf(orderNamed('o-2'), 3, 1))).status, 'ok');
    assert.equal((await claim(store, claimOf(order, 3, 1))).status, 'fenced');
    assert.equal((await park(store, parkOf(order, 0, { shard: 2, epoch: 3 }))).status, 'ok');
  },

  'a claim by an epoch that was overtaken changes nothing for the others': async (harness) => {
    const store = await harness.open();
    await claim(store, claimOf(order, 5));
    await claim(store, claimOf(order, 4));
    assert.equal((await claim(store, claimOf(order, 5))).status, 'ok');
    assert.equal((await park(store, parkOf(order, 0, { epoch: 4 }))).status, 'fenced');
  },

  'a park is there with its reason, and a time of the store in ISO 8601': async (harness) => {
    const store = await harness.open();
    await commitOne(store, commitTo(order, 0, 4));
    const detail = '| "5" did not\narrive 😀 \u0000 {}';
    const result = await park(store, parkOf(order, 4, { reason: 'handler_failed', detail, sequence: 5 }));
    assert.ok(result.status === 'ok');
    const { at, ...why } = result.parked;
    assert.deepEqual(why, { reason: 'handler_failed', detail, sequence: 5, replaying: false });
    assert.equal(new Date(at).toISOString(), at);
    assert.ok(Math.abs(Date.parse(at) - harness.nowMs()) < 60_000, at);
    const snapshot = await snapshotOf(store, order);
    assert.deepEqual(snapshot, { exists: true, version: 4, state: '{"version":4}', holes: '', parked: result.parked });
  },

  'an entity that was never committed can be parked, and still does not exist': async (harness) => {
    const store = await harness.open();
    const result = await park(store, parkOf(order, 0));
    assert.ok(result.status === 'ok');
    assert.deepEqual(await snapshotOf(store, order), { ...unknownSnapshot, parked: result.parked });
  },

  'parked twice, the first reason stays': async (harness) => {
    const store = await harness.open();
    const first = await park(store, parkOf(order, 0, { detail: 'first' }));
    const second = await park(store, parkOf(order, 0, { detail: 'second', reason: 'handler_failed', sequence: 9 }));
    assert.deepEqual([first.status === 'ok' && first.isNew, second], [true, { ...first, isNew: false }]);
    const later = await park(store, parkOf(order, 0, { detail: 'third', epoch: 2 }));
    assert.deepEqual(later, { ...first, isNew: false });
    assert.equal((await snapshotOf(store, order)).parked?.detail, 'first');
  },

  'a park is stale when the version has moved, with what is there now': async (harness) => {
    const store = await harness.open();
    await commitOne(store, commitTo(order, 0, 5, { newHoles: '2', state: 'five' }));
    for (const expectedVersion of [4, 6]) {
      assert.deepEqual(await park(store, parkOf(order, expectedVersion)), {
        status: 'stale',
        snapshot: { exists: true, version: 5, state: 'five', holes: '2', parked: null },
      });
    }
    assert.equal((await snapshotOf(store, order)).parked, null);
  },

  'a park of a parked entity whose version has moved is stale, and says that it is parked': async (harness) => {
    const store = await harness.open();
    await park(store, parkOf(order, 0, { detail: 'first' }));
    await commitOne(store, commitTo(order, 0, 1));
    const result = await park(store, parkOf(order, 0, { detail: 'second' }));
    assert.equal(result.status === 'stale' && result.snapshot.parked?.detail, 'first');
  },

  'a park by an epoch that was overtaken is refused, and the entity is not parked': async (harness) => {
    const store = await harness.open();
    await claim(store, claimOf(order, 100));
    assert.deepEqual(await park(store, parkOf(order, 0, { epoch: 99 })), { status: 'fenced' });
    assert.deepEqual(await park(store, parkOf(order, 3, { epoch: 99 })), { status: 'fenced' });
    assert.equal((await snapshotOf(store, order)).parked, null);
    assert.equal((await park(store, parkOf(order, 0, { epoch: 100 }))).status, 'ok');
  },

  'a park is a claim as well: earlier epochs are refused from then on': async (harness) => {
    const store = await harness.open();
    await park(store, parkOf(order, 0, { epoch: 10 }));
    assert.deepEqual(await claim(store, claimOf(order, 9)), { status: 'fenced' });
    assert.deepEqual(await park(store, parkOf(order, 0, { epoch: 9 })), { status: 'fenced' });
  },

  'a commit is not fenced by epochs: version and holes decide': async (harness) => {
    const store = await harness.open();
    await claim(store, claimOf(order, 100));
    assert.equal((await commitOne(store, commitTo(order, 0, 1))).status, 'ok');
  },

  'epochs are compared as numbers, up to the largest safe integer': async (harness) => {
    const store = await harness.open();
    const top = Number.MAX_SAFE_INTEGER;
    await claim(store, claimOf(order, 9));
    assert.equal((await claim(store, claimOf(order, 10))).status, 'ok');
    await claim(store, claimOf(order, top - 1));
    assert.equal((await claim(store, claimOf(order, top - 2))).status, 'fenced');
    assert.equal((await claim(store, claimOf(order, top))).status, 'ok');
    assert.equal((await claim(store, claimOf(order, top - 1))).status, 'fenced');
  },

  'epochs only ever rise, for every user of the stream': async (harness) => {
    const stream = `epochs-${process.pid}-${Date.now()}`;
    const [one, other] = [await harness.open({ stream }), await harness.open({ stream })];
    const epochOf = async (store: Store) => (await store.streamState()).epoch;
    const next = async (store: Store, shard: number) => {
      const result = await store.nextEpoch(shard);
      return result.status === 'ok' ? result.epoch : 0;
    };
    assert.equal(await epochOf(one), 0);
    const epochs: number[] = [];
    for (let round = 0; round < 10; round += 1) epochs.push(await next(one, 0), await next(other, round));
    assert.deepEqual(
      epochs,
      [...new Set(epochs)].sort((a, b) => a - b),
    );
    assert.equal(await epochOf(one), epochs.at(-1));
    assert.equal(await epochOf(await harness.open()), 0);
  },

  'a batch of claims and of parks is answered in its order': async (harness) => {
    const store = await harness.open();
    await store.commit([commitTo(orderNamed('b'), 0, 2)]);
    await claim(store, claimOf(orderNamed('c'), 5));
    const claims = await store.claim([claimOf(orderNamed('a'), 1), claimOf(orderNamed('b'), 1), claimOf(orderNamed('c'), 1)]);
    assert.deepEqual(
      claims.map((item) => (item.status === 'ok' ? item.snapshot.version : item.status)),
      [0, 2, 'fenced'],
    );
    const parks = await store.park([parkOf(orderNamed('c'), 0), parkOf(orderNamed('b'), 0), parkOf(orderNamed('a'), 0)]);
    assert.deepEqual(
      parks.map((item) => item.status),
      ['fenced', 'stale', 'ok'],
    );
  },
};

async function claim(store: Store, request: Claim): Promise<ClaimResult> {
  return only(await store.claim([request]));
}

async function park(store: Store, request: Park): Promise<ParkResult> {
  return only(await store.park([request]));
}

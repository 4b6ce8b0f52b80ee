import assert from 'node:assert/strict';
import { commitOne, commitTo, order } from './builders.ts';
import type { Cases } from './store-conformance.ts';

const at = '2026-11-28T10:00:00.000Z';
const detail = 'version 5 of order o-1 was acknowledged, "3" is there\n\\ 😀 {}';

export const streamStateCases: Cases = {
  'a store that nobody has used has no identity, no epoch and no halt': async (harness) => {
    assert.deepEqual(await (await harness.open()).streamState(), { identity: null, epoch: 0, halts: [] });
  },

  'a write that is tried changes nothing, neither of a stream that nobody has used nor of one that is in use': async (harness) => {
    const store = await harness.open();
    await store.tryWrite();
    assert.deepEqual(await store.streamState(), { identity: null, epoch: 0, halts: [] });
    const identity = await store.identify();
    await store.nextEpoch(0);
    await store.tryWrite();
    assert.deepEqual(await store.streamState(), { identity, epoch: 1, halts: [] });
  },

  'an identity is made once, whoever asks first, and stays; another stream has another': async (harness) => {
    const stream = `identity-${process.pid}-${Date.now()}`;
    const stores = await Promise.all(Array.from({ length: 4 }, () => harness.open({ stream })));
    const identities = await Promise.all(stores.map((store) => store.identify()));
    assert.equal(new Set(identities).size, 1);
    assert.notEqual(identities[0], '');
    await commitOne(stores[0]!, commitTo(order, 0, 1));
    assert.deepEqual(await stores[1]!.nextEpoch(0), { status: 'ok', epoch: 1, identity: identities[0] });
    assert.deepEqual(await stores[2]!.streamState(), { identity: identities[0], epoch: 1, halts: [] });
    assert.notEqual(await (await harness.open()).identify(), identities[0]);
  },

  'a session of a halted shard does not begin; those of others do': async (harness) => {
    const store = await harness.open();
    await store.nextEpoch(1);
    const halt = { shard: 1, detail, at };
    await store.halt(halt);
    assert.deepEqual(await store.nextEpoch(1), { status: 'halted', halt });
    assert.deepEqual((await store.streamState()).halts, [halt]);
    for (const shard of [0, 11]) assert.equal((await store.nextEpoch(shard)).status, 'ok');
  },

  'no session begins where every shard is halted, for every user of the stream and for no other': async (harness) => {
    const stream = `halted-${process.pid}-${Date.now()}`;
    const [one, other] = [await harness.open({ stream }), await harness.open({ stream })];
    const halt = { shard: null, detail, at };
    await one.halt(halt);
    for (const shard of [0, 999]) assert.deepEqual(await other.nextEpoch(shard), { status: 'halted', halt });
    assert.equal((await (await harness.open()).nextEpoch(0)).status, 'ok');
  },

  'halted twice, the first reason stays': async (harness) => {
    const store = await harness.open();
    await store.halt({ shard: 3, detail: 'first', at });
    await store.halt({ shard: 3, detail: 'second', at });
    await store.halt({ shard: null, detail: 'all', at });
    const { halts } = await store.streamState();
    assert.deepEqual(halts.map((halt) => halt.detail).sort(), ['all', 'first']);
  },

  'resumed, every shard goes on, above every epoch that is known': async (harness) => {
    const store = await harness.open();
    const identity = await store.identify();
    await store.nextEpoch(0);
    for (const shard of [0, null]) await store.halt({ shard, detail, at });
    assert.deepEqual(await store.operator.resume(12), { identity, epoch: 12, halts: [] });
    assert.deepEqual(await store.nextEpoch(0), { status: 'ok', epoch: 13, identity });
    assert.equal((await store.operator.resume(2)).epoch, 13, 'an epoch never falls');
  },

  'a store that knew nothing has an identity once it is resumed': async (harness) => {
    const store = await harness.open();
    const { identity, epoch } = await store.operator.resume(7);
    assert.equal(epoch, 7);
    assert.equal(await store.identify(), identity);
  },
};

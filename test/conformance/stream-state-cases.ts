import assert from 'node:assert/strict';
import { ConfigError } from '../../src/errors.ts';
import { layoutVersion, type StreamLayout } from '../../src/stores/layout.ts';
import { commitOne, commitTo, order } from './builders.ts';
import type { Cases } from './store-conformance.ts';

const at = '2026-11-28T10:00:00.000Z';
const detail = 'version 5 of order o-1 was acknowledged, "3" is there\n\\ 😀 {}';

export const streamStateCases: Cases = {
  'a store that nobody has used has no identity, no epoch and no halt': async (harness) => {
    assert.deepEqual(await (await harness.open()).streamState(), { identity: null, epoch: 0, halts: [], layout: null });
  },

  'a write that is tried changes nothing, neither of a stream that nobody has used nor of one that is in use': async (harness) => {
    const store = await harness.open();
    await store.tryWrite();
    assert.deepEqual(await store.streamState(), { identity: null, epoch: 0, halts: [], layout: null });
    const identity = await store.identify();
    await store.nextEpoch(0);
    await store.tryWrite();
    assert.deepEqual(await store.streamState(), { identity, epoch: 1, halts: [], layout: null });
  },

  'an identity is made once, whoever asks first, and stays; another stream has another': async (harness) => {
    const stream = `identity-${process.pid}-${Date.now()}`;
    const stores = await Promise.all(Array.from({ length: 4 }, () => harness.open({ stream })));
    const identities = await Promise.all(stores.map((store) => store.identify()));
    assert.equal(new Set(identities).size, 1);
    assert.notEqual(identities[0], '');
    await commitOne(stores[0]!, commitTo(order, 0, 1));
    assert.deepEqual(await stores[1]!.nextEpoch(0), { status: 'ok', epoch: 1, identity: identities[0], unfinished: null });
    assert.deepEqual(await stores[2]!.streamState(), { identity: identities[0], epoch: 1, halts: [], layout: null });
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
    assert.deepEqual(await store.operator.resume(12), { identity, epoch: 12, halts: [], layout: null });
    assert.deepEqual(await store.nextEpoch(0), { status: 'ok', epoch: 13, identity, unfinished: '' });
    assert.equal((await store.operator.resume(2)).epoch, 13, 'an epoch never falls');
  },

  'a session that took no leave leaves its note to the next one of its shard, and of no other': async (harness) => {
    const store = await harness.open();
    const unfinishedOf = async (shard: number) => {
      const result = await store.nextEpoch(shard);
      assert.ok(result.status === 'ok');
      return [result.unfinished, result.epoch] as const;
    };
    const [none, first] = await unfinishedOf(0);
    assert.equal(none, null, 'there was none before');
    await store.noteSession(0, first, 'earlier');
    await store.noteSession(0, first, '{"a":["b c",1]}');
    assert.deepEqual(await unfinishedOf(1), [null, first + 1]);
    const [left, second] = await unfinishedOf(0);
    assert.equal(left, '{"a":["b c",1]}');
    // The answer to the last question may have been lost.
    const [again, third] = await unfinishedOf(0);
    assert.equal(again, left);
    await store.noteSession(0, second, 'too late');
    await store.noteSession(0, second, null);
    const [kept, fourth] = await unfinishedOf(0);
    assert.equal(kept, left, `session ${third} came after ${second}`);
    await store.noteSession(0, fourth, '');
    assert.equal((await unfinishedOf(0))[0], '');
    await store.noteSession(0, fourth + 1, null);
    assert.equal((await unfinishedOf(0))[0], null, 'it took its leave');
    assert.equal((await unfinishedOf(1))[0], '', 'and the other did not');
  },

  'a session of a halted shard begins no record': async (harness) => {
    const store = await harness.open();
    await store.halt({ shard: 1, detail, at });
    assert.equal((await store.nextEpoch(1)).status, 'halted');
    await store.operator.resume(1);
    const result = await store.nextEpoch(1);
    assert.ok(result.status === 'ok' && result.unfinished === null);
  },

  'a store that knew nothing has an identity once it is resumed': async (harness) => {
    const store = await harness.open();
    const { identity, epoch } = await store.operator.resume(7);
    assert.equal(epoch, 7);
    assert.equal(await store.identify(), identity);
  },

  'the layout is recorded once, whoever asks first, and only its shape is changed; another stream has another': async (harness) => {
    const stream = `layout-${process.pid}-${Date.now()}`;
    const stores = await Promise.all(Array.from({ length: 4 }, () => harness.open({ stream })));
    const found = await Promise.all(stores.map((store, n) => store.recordLayout({ shards: 8 + n, exchangeType: 'x-consistent-hash' })));
    assert.equal(new Set(found.map(({ shards }) => shards)).size, 1);
    assert.deepEqual((await stores[3]!.streamState()).layout, found[0]);
    assert.deepEqual(found[0], { version: layoutVersion, shards: found[0]!.shards, exchangeType: 'x-consistent-hash' });
    const wanted = { shards: 32, exchangeType: 'x-modulus-hash' };
    const changed = { version: layoutVersion, shards: 32, exchangeType: 'x-modulus-hash' };
    assert.deepEqual(await stores[1]!.operator.changeShape(wanted, found[0]!), changed);
    assert.deepEqual(await stores[0]!.recordLayout({ shards: 8, exchangeType: 'x-consistent-hash' }), changed);
    assert.equal((await (await harness.open()).streamState()).layout, null);
  },

  'of many who change the layout at once, each from what was on record, one does, and all learn what is on record then': async (
    harness,
  ) => {
    const stream = `changed-${process.pid}-${Date.now()}`;
    const stores = await Promise.all(Array.from({ length: 6 }, () => harness.open({ stream })));
    const change = (from: StreamLayout | null, more: number) =>
      Promise.all(stores.map((store, n) => store.operator.changeShape({ shards: more + n, exchangeType: 'x-consistent-hash' }, from)));
    const agreed = async (answers: readonly StreamLayout[]) => {
      const { layout } = await stores[0]!.streamState();
      for (const answer of answers) assert.deepEqual(answer, layout);
      return layout;
    };
    const first = await agreed(await change(null, 8));
    const second = await agreed(await change(first, 16));
    assert.notDeepEqual(second, first);
    assert.deepEqual(await agreed(await change(first, 32)), second, 'what it was changed from is no longer on record');
  },

  'a record of the layout does away with nothing, and the end of a halt leaves it': async (harness) => {
    const store = await harness.open();
    const identity = await store.identify();
    await store.nextEpoch(0);
    await store.halt({ shard: null, detail, at });
    const layout = await store.recordLayout({ shards: 2, exchangeType: 'x-consistent-hash' });
    await store.operator.changeShape({ shards: 3, exchangeType: 'x-consistent-hash' }, layout);
    const halts = [{ shard: null, detail, at }];
    assert.deepEqual(await store.streamState(), { identity, epoch: 1, halts, layout: { ...layout, shards: 3 } });
    assert.deepEqual(await store.operator.resume(1), { identity, epoch: 1, halts: [], layout: { ...layout, shards: 3 } });
  },

  'a newer layout is refused by name, and stays as it is': async (harness, t) => {
    if (harness.plantLayout === null) return t.skip('nobody else writes into it');
    const stream = `newer-${process.pid}-${Date.now()}`;
    const store = await harness.open({ stream });
    await store.identify();
    const newer = { version: layoutVersion + 1, shape: 'a ring' };
    await harness.plantLayout(stream, JSON.stringify(newer));
    const refusals = [
      () => store.streamState(),
      () => store.recordLayout({ shards: 2, exchangeType: 'x-consistent-hash' }),
      () => store.operator.changeShape({ shards: 2, exchangeType: 'x-consistent-hash' }, null),
    ];
    const said = new RegExp(`stream ${stream} in layout ${newer.version}, .* knows layouts up to ${layoutVersion}: use the version`);
    for (const refused of [...refusals, ...refusals])
      await assert.rejects(refused, (error) => error instanceof ConfigError && said.test(error.message));
    for (const damaged of ['{"version":"1"}', '{"version":1,"shards":2}', '[]']) {
      await harness.plantLayout(stream, damaged);
      await assert.rejects(store.streamState(), /record of the layout of stream \S+ is damaged: .*: restore the store/);
    }
  },
};

import assert from 'node:assert/strict';
import type { EntitySummary, Store } from '../../src/stores/store.ts';
import { claimOf, commitOne, commitTo, order, orderNamed, parkOf, snapshotOf, unknownSnapshot } from './builders.ts';
import type { Cases } from './store-conformance.ts';

export const loadCases: Cases = {
  'an entity that nobody has committed does not exist, at version 0': async (harness) => {
    const store = await harness.open();
    assert.deepEqual(await snapshotOf(store, order), unknownSnapshot);
  },

  'a committed entity is loaded as it was committed': async (harness) => {
    const store = await harness.open();
    await commitOne(store, commitTo(order, 0, 5, { newHoles: '2-3,4', state: 'the state' }));
    assert.deepEqual(await snapshotOf(store, order), { exists: true, version: 5, state: 'the state', holes: '2-3,4', parked: null });
  },

  'a batch is answered in its order, known and unknown entities mixed': async (harness) => {
    const store = await harness.open();
    await store.commit([commitTo(orderNamed('b'), 0, 2), commitTo(orderNamed('a'), 0, 1)]);
    const loaded = await store.load(['a', 'x', 'b', 'a'].map(orderNamed));
    assert.deepEqual(
      loaded.map((item) => (item.status === 'ok' ? item.snapshot.version : null)),
      [1, 0, 2, 1],
    );
  },

  'an empty batch is answered by an empty list': async (harness) => {
    const store = await harness.open();
    assert.deepEqual(await store.load([]), []);
    assert.deepEqual(await store.commit([]), []);
    assert.deepEqual(await store.claim([]), []);
    assert.deepEqual(await store.park([]), []);
    assert.deepEqual(await store.lookUp([]), []);
    assert.deepEqual(await store.findDeadLetters([]), []);
    await store.recordDeadLetters([]);
  },

  'state comes back byte for byte, and null leaves it as it is': async (harness) => {
    const store = await harness.open();
    const states = [
      '[]',
      '{}',
      '12345678901234567890',
      '1.0',
      '{"a":[],"b":{}}',
      '\u0000',
      'null',
      '',
      '😀 \r\n $-1\r\n',
      '"\\ud83d"',
      'é e\u0301',
    ];
    for (const [version, state] of states.entries()) {
      await commitOne(store, commitTo(order, version, version + 1, { state }));
      assert.equal((await snapshotOf(store, order)).state, state);
    }
    await commitOne(store, commitTo(order, states.length, states.length + 1, { state: null }));
    assert.equal((await snapshotOf(store, order)).state, states.at(-1));
  },

  'streams with the same entities do not see each other': async (harness) => {
    const [one, other] = [await harness.open(), await harness.open()];
    await commitOne(one, commitTo(order, 0, 3));
    assert.equal((await snapshotOf(other, order)).version, 0);
    assert.equal((await commitOne(other, commitTo(order, 0, 1))).status, 'ok');
  },

  'all entities are listed, each with version and parking, and those of one type by that type': async (harness) => {
    const store = await harness.open();
    const orders = Array.from({ length: 300 }, (_, index) => orderNamed(`o-${index}`));
    const invoice = { entityType: 'order:x', entityId: '*' };
    await store.commit([...orders.map((ref, index) => commitTo(ref, 0, index + 1)), commitTo(invoice, 0, 1)]);
    await store.park([parkOf(orderNamed('o-6'), 7), parkOf(orderNamed('never applied'), 0)]);

    const listed = await list(store, {});
    const versions = new Map(listed.map((entity) => [`${entity.entityType} ${entity.entityId}`, entity.version]));
    assert.deepEqual([listed.length, versions.size], [302, 302]);
    for (const [index, ref] of orders.entries()) assert.equal(versions.get(`order ${ref.entityId}`), index + 1);
    assert.equal(versions.get('order:x *'), 1);
    assert.equal(listed.find((entity) => entity.entityId === 'o-6')?.parked?.sequence, 9);
    assert.equal(listed.find((entity) => entity.entityId === 'never applied')?.parked?.reason, 'gap_timeout');

    assert.deepEqual(
      (await list(store, { entityType: 'order:x' })).map((entity) => entity.entityId),
      ['*'],
    );
    assert.equal((await list(store, { entityType: 'order' })).length, 301);
    assert.deepEqual(await list(store, { entityType: '*' }), []);
  },

  'an entity that was only claimed is not listed and does not exist': async (harness) => {
    const store = await harness.open();
    await store.claim([claimOf(order, 1)]);
    assert.deepEqual(await list(store, {}), []);
    assert.deepEqual(await snapshotOf(store, order), unknownSnapshot);
  },

  'it answers a ping and says of each part of its set-up how that is': async (harness) => {
    const store = await harness.open();
    await store.ping();
    const findings = await store.inspect();
    assert.ok(findings.length > 0);
    for (const { level, detail, remedy } of findings) {
      assert.equal(remedy === null, level === 'ok', detail);
    }
  },
};

async function list(store: Store, filter: { entityType?: string }): Promise<EntitySummary[]> {
  const listed: EntitySummary[] = [];
  for await (const entity of store.listEntities(filter)) listed.push(entity);
  return listed;
}

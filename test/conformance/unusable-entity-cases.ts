import assert from 'node:assert/strict';
import { claimOf, commitTo, deadLetterOf, orderNamed, parkOf, recordsOf } from './builders.ts';
import type { Cases } from './store-conformance.ts';

const skipped = 'nothing can be put under the keys of this store from outside';
const [good, bad, alsoGood] = [orderNamed('good'), orderNamed('bad'), orderNamed('also good')];

export const unusableEntityCases: Cases = {
  'fails alone in every operation, and its neighbours in the batch do not notice': async (harness, t) => {
    if (harness.spoil === null) return t.skip(skipped);
    const stream = `spoilt-${process.pid}-${Date.now()}`;
    const store = await harness.open({ stream });
    await harness.spoil(stream, bad, 'entity');
    await harness.spoil(stream, bad, 'ids');
    const entities = [good, bad, alsoGood];
    const statuses = (results: readonly { readonly status: string }[]): string[] => results.map((result) => result.status);
    assert.deepEqual(statuses(await store.load(entities)), ['ok', 'failed', 'ok']);
    assert.deepEqual(statuses(await store.claim(entities.map((entity) => claimOf(entity, 1)))), ['ok', 'failed', 'ok']);
    assert.deepEqual(statuses(await store.commit(entities.map((entity) => commitTo(entity, 0, 1)))), ['ok', 'failed', 'ok']);
    assert.deepEqual(statuses(await store.lookUp(entities.map((entity) => ({ ...entity, sequence: 1, id: '' })))), [
      'known',
      'failed',
      'known',
    ]);
    assert.deepEqual(statuses(await store.park(entities.map((entity) => parkOf(entity, entity === bad ? 0 : 1)))), ['ok', 'failed', 'ok']);
    const listed: string[] = [];
    for await (const { entityId } of store.listEntities({})) listed.push(entityId);
    assert.deepEqual(listed.sort(), ['also good', 'good']);
  },

  'is named by its error': async (harness, t) => {
    if (harness.spoil === null) return t.skip(skipped);
    const stream = `spoilt-${process.pid}-${Date.now()}`;
    const store = await harness.open({ stream });
    await harness.spoil(stream, bad, 'entity');
    const [result] = await store.load([bad]);
    assert.ok(result?.status === 'failed');
    assert.match(result.error.message, /\{order:bad\}:entity/);
  },

  'is left as it was by a commit, also when only its ids are unusable': async (harness, t) => {
    if (harness.spoil === null) return t.skip(skipped);
    const stream = `spoilt-${process.pid}-${Date.now()}`;
    const store = await harness.open({ stream });
    await harness.spoil(stream, bad, 'ids');
    for (const recordId of [true, false]) {
      const commit = commitTo(bad, 0, 1);
      const [result] = await store.commit([{ ...commit, events: commit.events.map((event) => ({ ...event, recordId })) }]);
      assert.equal(result?.status, 'failed');
      const [loaded] = await store.load([bad]);
      assert.deepEqual(loaded?.status === 'ok' && loaded.snapshot.version, 0);
    }
  },

  'keeps nobody from recording why something is dead-lettered, and its own records are found as well': async (harness, t) => {
    if (harness.spoil === null) return t.skip(skipped);
    const stream = `spoilt-${process.pid}-${Date.now()}`;
    const store = await harness.open({ stream });
    await harness.spoil(stream, bad, 'dead');
    const records = [good, bad, alsoGood].map((entity) => deadLetterOf(`body of ${entity.entityId}`, entity));
    await store.recordDeadLetters(records);
    assert.deepEqual(await recordsOf(store, [...records, deadLetterOf('never seen', bad)]), [...records, null]);
  },
};

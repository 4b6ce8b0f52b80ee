import assert from 'node:assert/strict';
import type { EntityRef } from '../../src/events/event.ts';
import { claimOf, commitOne, commitTo, deadLetterOf, eventAt, only, parkOf, snapshotOf, recordsOf } from './builders.ts';
import type { Cases } from './store-conformance.ts';

const names = [
  '{}',
  '{',
  '}',
  '}x',
  '{a}{b}',
  ':',
  '::',
  '*',
  '?',
  '[a-z]',
  '\\',
  ' ',
  '  ',
  '%',
  '%7B',
  '%2A',
  '.',
  '..',
  '/',
  '\u0000',
  '\r\n',
  '__proto__',
  'constructor',
  'entity',
  ':ids',
  '}:entity',
  'Å',
  'A\u030A',
  'STRASSE',
  'straße',
  'a',
  'A',
  '😀',
  '👩‍👩‍👧',
  'x'.repeat(512),
  'é'.repeat(256),
];

/** Every name as an id and as a type, and pairs that would be the same when put together carelessly. */
const entities: readonly EntityRef[] = [
  ...names.map((entityId) => ({ entityType: 'order', entityId })),
  ...names.map((entityType) => ({ entityType, entityId: '1' })),
  { entityType: 'a', entityId: 'b:c' },
  { entityType: 'a:b', entityId: 'c' },
  { entityType: 'a', entityId: '' },
  { entityType: '', entityId: 'a' },
];

export const hostileNameCases: Cases = {
  'entities with hostile names are kept apart in everything': async (harness) => {
    const store = await harness.open();
    const commits = entities.map((entity, index) =>
      commitTo(entity, 0, index + 1, { state: `state ${index}`, events: [eventAt(index + 1, { id: `id ${index}` })] }),
    );
    for (const result of await store.commit(commits)) assert.equal(result.status, 'ok');
    for (const [index, entity] of entities.entries()) {
      const snapshot = await snapshotOf(store, entity);
      assert.deepEqual([snapshot.version, snapshot.state], [index + 1, `state ${index}`], JSON.stringify(entity));
      assert.equal(only(await store.lookUp([{ ...entity, sequence: null, id: `id ${index}` }])).status, 'known');
      assert.equal(only(await store.lookUp([{ ...entity, sequence: null, id: `id ${index + 1}` }])).status, 'unknown');
    }
    for (const [index, entity] of entities.entries()) {
      assert.equal(only(await store.claim([claimOf(entity, 1)])).status, 'ok');
      assert.equal(only(await store.park([parkOf(entity, index + 1)])).status, 'ok');
    }
    const records = entities.map((entity, index) => deadLetterOf('same body', { ...entity, detail: `detail ${index}` }));
    await store.recordDeadLetters(records);
    assert.deepEqual(await recordsOf(store, records), records);
  },

  'entities with hostile names are listed as they are named, and by their type alone': async (harness) => {
    const store = await harness.open();
    await store.commit(entities.map((entity, index) => commitTo(entity, 0, index + 1)));
    const listed: string[] = [];
    for await (const { entityType, entityId, version } of store.listEntities({}))
      listed.push(JSON.stringify([entityType, entityId, version]));
    const expected = entities.map(({ entityType, entityId }, index) => JSON.stringify([entityType, entityId, index + 1]));
    assert.deepEqual(listed.sort(), expected.sort());
    for (const entityType of names) {
      const ids: string[] = [];
      for await (const entity of store.listEntities({ entityType })) ids.push(entity.entityId);
      assert.deepEqual(
        ids.sort(),
        entities
          .filter((entity) => entity.entityType === entityType)
          .map((entity) => entity.entityId)
          .sort(),
      );
    }
  },

  'streams with hostile names are kept apart': async (harness) => {
    const base = `s-${process.pid}-${Date.now()}`;
    const streams = ['', ':', ':{order', '{}', '*', '}x', ' ', '😀'].map((end) => base + end);
    for (const [index, stream] of streams.entries()) {
      const store = await harness.open({ stream });
      assert.equal((await commitOne(store, commitTo({ entityType: 'order', entityId: '1' }, 0, index + 1))).status, 'ok');
      assert.deepEqual(await store.nextEpoch(0), { status: 'ok', epoch: 1, identity: null, unfinished: null });
      const listed: number[] = [];
      for await (const { version } of store.listEntities({})) listed.push(version);
      assert.deepEqual(listed, [index + 1]);
    }
  },
};

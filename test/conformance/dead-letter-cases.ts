import assert from 'node:assert/strict';
import { deadLetterOf, order, orderNamed, recordsOf } from './builders.ts';
import type { Cases } from './store-conformance.ts';

export const deadLetterCases: Cases = {
  'a record is found again, with its entity': async (harness) => {
    const store = await harness.open();
    const record = deadLetterOf('body');
    const failed = deadLetterOf('failed', { reason: 'handler_failed', stack: 'at pay (/srv/pay.mjs:3:9)\nat "😀"' });
    await store.recordDeadLetters([record, failed]);
    assert.deepEqual(await recordsOf(store, [record, failed]), [record, failed]);
    await store.recordDeadLetters([{ ...failed, stack: 'x'.repeat(100_000) }]);
    assert.equal((await recordsOf(store, [failed]))[0]?.stack?.length, 4_096);
  },

  'a record of a message that names no entity is found by its fingerprint alone': async (harness) => {
    const store = await harness.open();
    const record = deadLetterOf('not json', {
      id: null,
      entityType: null,
      entityId: null,
      sequence: null,
      type: null,
      reason: 'malformed',
      detail: '{} "😀" \u0000 [1.0]',
    });
    const typeOnly = deadLetterOf('type only', { entityId: null });
    await store.recordDeadLetters([record, typeOnly]);
    assert.deepEqual(await recordsOf(store, [record, typeOnly]), [record, typeOnly]);
  },

  'each query is answered for itself, and null where there is no record': async (harness) => {
    const store = await harness.open();
    const [one, two] = [deadLetterOf('one'), deadLetterOf('two', { ...orderNamed('o-2') })];
    await store.recordDeadLetters([one, two]);
    const found = await recordsOf(store, [
      deadLetterOf('never seen'),
      two,
      { ...one, entityId: 'o-2' },
      { fingerprint: one.fingerprint, entityType: null, entityId: null },
      one,
    ]);
    assert.deepEqual(found, [null, two, null, null, one]);
  },

  'recorded again, the latest reason stands': async (harness) => {
    const store = await harness.open();
    await store.recordDeadLetters([deadLetterOf('body', { detail: 'first' }), deadLetterOf('other')]);
    await store.recordDeadLetters([deadLetterOf('body', { detail: 'second' })]);
    const [found, other] = await recordsOf(store, [deadLetterOf('body'), deadLetterOf('other')]);
    assert.deepEqual([found?.detail, other?.detail], ['second', deadLetterOf('other').detail]);
  },

  'of a detail 1,024 characters are kept, and no half character': async (harness) => {
    const store = await harness.open();
    const plain = deadLetterOf('plain', { detail: 'd'.repeat(2_000) });
    const cut = deadLetterOf('cut', { detail: `${'d'.repeat(1_023)}😀 and more` });
    const exact = deadLetterOf('exact', { detail: `${'d'.repeat(1_022)}😀` });
    await store.recordDeadLetters([plain, cut, exact]);
    const found = await recordsOf(store, [plain, cut, exact]);
    assert.deepEqual(
      found.map((record) => record?.detail),
      ['d'.repeat(1_024), 'd'.repeat(1_023), exact.detail],
    );
  },

  'of one entity 10,000 are kept, the latest among them; other entities are not touched': async (harness) => {
    const store = await harness.open();
    const other = deadLetterOf('of another', orderNamed('o-2'));
    const records = Array.from({ length: 10_050 }, (_, index) => deadLetterOf(`body ${index}`, { ...order, sequence: index + 1 }));
    await store.recordDeadLetters([other, ...records]);
    const found = await recordsOf(store, records);
    assert.equal(found.filter((record) => record !== null).length, 10_000);
    assert.deepEqual(found.at(-1), records.at(-1));
    assert.deepEqual(await recordsOf(store, [other]), [other]);
  },
};

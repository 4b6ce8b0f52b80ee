import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { LookupResult } from '../../src/ordering/entity.ts';
import type { Store } from '../../src/stores/store.ts';
import { commitOne, commitTo, eventAt, only, order, orderNamed, snapshotOf } from './builders.ts';
import { whenTimePasses, type Cases } from './store-conformance.ts';

// Long enough that a busy machine finds known what it has just written.
const shortTtlSeconds = 2;

export const idCases: Cases = {
  'an id that is known under another sequence is a conflict, and nothing is written': async (harness) => {
    const store = await harness.open();
    await commitOne(store, commitTo(order, 0, 2));
    const result = await commitOne(
      store,
      commitTo(order, 2, 5, {
        events: [eventAt(3), eventAt(4, { id: 'event-1', payloadHash: 'hash-1' }), eventAt(5, { id: 'event-2', payloadHash: 'other' })],
      }),
    );
    assert.deepEqual(result, {
      status: 'conflict',
      conflicts: [
        { index: 1, recordedSequence: 1, samePayload: true },
        { index: 2, recordedSequence: 2, samePayload: false },
      ],
    });
    assert.equal((await snapshotOf(store, order)).version, 2);
    assert.deepEqual(await bySequence(store, 3), { status: 'above' });
    assert.deepEqual(await byId(store, 'event-3'), { status: 'unknown' });
  },

  'a sequence that the version has not reached is said to be above it, whatever is remembered of it': async (harness) => {
    const store = await harness.open();
    await commitOne(store, commitTo(order, 0, 10));
    await commitOne(store, commitTo(order, 10, 9, { events: [], newHoles: 'r1;' }));
    assert.deepEqual(await bySequence(store, 10), { status: 'above' });
    assert.equal((await bySequence(store, 9)).status, 'known');
    assert.deepEqual(await store.lookUp([{ ...orderNamed('never seen'), sequence: 1, id: 'event-1' }]), [{ status: 'above' }]);
  },

  'an id that is used twice within one commit is a conflict with its first use': async (harness) => {
    const store = await harness.open();
    const twice = { id: 'twice', payloadHash: 'hash' };
    const events = [eventAt(1, twice), eventAt(2), eventAt(3, twice), eventAt(4, { ...twice, payloadHash: 'other' })];
    assert.deepEqual(await commitOne(store, commitTo(order, 0, 4, { events })), {
      status: 'conflict',
      conflicts: [
        { index: 2, recordedSequence: 1, samePayload: true },
        { index: 3, recordedSequence: 1, samePayload: false },
      ],
    });
  },

  'an id that is known under its own sequence is no conflict': async (harness) => {
    const store = await harness.open();
    await commitOne(store, commitTo(order, 0, 3, { newHoles: '2' }));
    const closing = commitTo(order, 3, 3, { expectedHoles: '2', events: [eventAt(2, { payloadHash: 'new' })] });
    assert.equal((await commitOne(store, closing)).status, 'ok');
    assert.deepEqual(await bySequence(store, 2), { status: 'known', sequence: 2, payloadHash: 'new', result: null });
  },

  'the same id on another entity is independent': async (harness) => {
    const store = await harness.open();
    await commitOne(store, commitTo(order, 0, 1));
    const other = commitTo(orderNamed('o-2'), 0, 2, { events: [eventAt(1, { id: 'new' }), eventAt(2, { id: 'event-1' })] });
    assert.equal((await commitOne(store, other)).status, 'ok');
  },

  'a consumed slot is passed: its id is neither checked nor recorded, its sequence is remembered': async (harness) => {
    const store = await harness.open();
    await commitOne(store, commitTo(order, 0, 1, { events: [eventAt(1, { result: 'done' })] }));
    const consumed = eventAt(2, { id: 'event-1', payloadHash: 'hash-1', consumed: true, result: 'done' });
    assert.equal((await commitOne(store, commitTo(order, 1, 2, { events: [consumed], state: null }))).status, 'ok');
    assert.deepEqual(await bySequence(store, 2), { status: 'known', sequence: 2, payloadHash: 'hash-1', result: 'done' });

    const again = await commitOne(store, commitTo(order, 2, 3, { events: [eventAt(3, { id: 'event-1', payloadHash: 'hash-1' })] }));
    assert.equal(again.status === 'conflict' && again.conflicts[0]?.recordedSequence, 1);
    const unseen = commitTo(order, 2, 3, { events: [eventAt(3, { id: 'unseen', consumed: true })] });
    assert.equal((await commitOne(store, unseen)).status, 'ok');
    assert.deepEqual(await byId(store, 'unseen'), { status: 'unknown' });
  },

  'an event without an id of its own is remembered by its sequence only': async (harness) => {
    const store = await harness.open();
    await commitOne(
      store,
      commitTo(order, 0, 2, { events: [eventAt(1, { recordId: false }), eventAt(2, { id: 'event-1', recordId: false })] }),
    );
    assert.deepEqual(await bySequence(store, 1), { status: 'known', sequence: 1, payloadHash: 'hash-1', result: null });
    assert.deepEqual(await byId(store, 'event-1'), { status: 'unknown' });
    assert.equal((await commitOne(store, commitTo(order, 2, 3, { events: [eventAt(3, { id: 'event-1' })] }))).status, 'ok');
  },

  'results come back byte for byte, by sequence and by id, and none is not an empty one': async (harness) => {
    const store = await harness.open();
    const results = [null, '', '=', '|', '[]', '{}', '12345678901234567890', '1.0', '\u0000', '😀', 'x'.repeat(10_000)];
    const events = results.map((result, index) => eventAt(index + 1, { result }));
    await commitOne(store, commitTo(order, 0, results.length, { events }));
    for (const [index, result] of results.entries()) {
      const known = { status: 'known', sequence: index + 1, payloadHash: `hash-${index + 1}`, result };
      assert.deepEqual(await bySequence(store, index + 1), known);
      assert.deepEqual(await byId(store, `event-${index + 1}`), known);
    }
  },

  'by id, the result of another event that took the sequence since is not given': async (harness) => {
    const store = await harness.open();
    await commitOne(store, commitTo(order, 0, 3, { newHoles: '2', events: [eventAt(2, { id: 'skipped', result: 'old' })] }));
    const late = eventAt(2, { id: 'late', payloadHash: 'late hash', result: 'new' });
    await commitOne(store, commitTo(order, 3, 3, { expectedHoles: '2', events: [late] }));
    assert.deepEqual(await byId(store, 'skipped'), { status: 'known', sequence: 2, payloadHash: 'hash-2', result: null });
    assert.deepEqual(await byId(store, 'late'), { status: 'known', sequence: 2, payloadHash: 'late hash', result: 'new' });
  },

  'what was never recorded is unknown or above the version, each query for itself': async (harness) => {
    const store = await harness.open();
    await commitOne(store, commitTo(order, 0, 1));
    const lookedUp = await store.lookUp([
      { ...order, sequence: 2, id: 'event-1' },
      { ...order, sequence: 1, id: 'not asked for' },
      { ...order, sequence: null, id: 'event-2' },
      { ...orderNamed('o-2'), sequence: 1, id: 'event-1' },
      { ...order, sequence: null, id: 'event-1' },
    ]);
    assert.deepEqual(
      lookedUp.map((item) => item.status),
      ['above', 'known', 'unknown', 'above', 'known'],
    );
  },

  'hostile ids are told apart, and look like nothing else that is recorded': async (harness) => {
    const store = await harness.open();
    const long = 'x'.repeat(512);
    const digest = createHash('sha256').update(long).digest('base64url');
    const ids = [
      digest,
      `%${digest}`,
      '',
      '~',
      '#1',
      '@event',
      '1',
      '|',
      'a|b',
      '*',
      '{}',
      'Å',
      'A\u030A',
      'a',
      'A',
      ' ',
      long,
      `${long}x`,
      'é'.repeat(40),
      '\u0000',
      '😀'.repeat(20),
    ];
    await commitOne(store, commitTo(order, 0, ids.length, { events: ids.map((id, index) => eventAt(index + 1, { id })) }));
    for (const [index, id] of ids.entries()) {
      assert.deepEqual(
        await byId(store, id),
        { status: 'known', sequence: index + 1, payloadHash: `hash-${index + 1}`, result: null },
        JSON.stringify(id),
      );
    }
    const last = ids.length;
    const repeats = ids.map((id, index) => eventAt(last + index + 1, { id }));
    const result = await commitOne(store, commitTo(order, last, 2 * last, { events: repeats }));
    assert.deepEqual(
      result.status === 'conflict' && result.conflicts.map((conflict) => conflict.recordedSequence),
      ids.map((_, index) => index + 1),
    );
  },

  'ids and results are forgotten after their time, and the version stays': async (harness) => {
    const store = await harness.open({ idempotencyTtlSeconds: shortTtlSeconds });
    await commitOne(store, commitTo(order, 0, 3));
    assert.equal((await bySequence(store, 3)).status, 'known');
    await whenTimePasses(harness, 'the id is forgotten', async () => (await byId(store, 'event-1')).status === 'unknown');
    await whenTimePasses(harness, 'the sequence is forgotten', async () => (await bySequence(store, 1)).status === 'unknown');
    assert.deepEqual(await snapshotOf(store, order), { exists: true, version: 3, state: '{"version":3}', holes: '', parked: null });
    const reused = commitTo(order, 3, 4, { events: [eventAt(4, { id: 'event-1' })] });
    assert.equal((await commitOne(store, reused)).status, 'ok');
  },

  'an id is forgotten after its time although its entity goes on, and may then be used again': async (harness) => {
    const store = await harness.open({ idempotencyTtlSeconds: shortTtlSeconds });
    let version = 1;
    await commitOne(store, commitTo(order, 0, 1));
    const goOn = async (): Promise<void> => {
      assert.equal((await commitOne(store, commitTo(order, version, version + 1))).status, 'ok');
      version += 1;
    };
    await whenTimePasses(harness, 'the first id is forgotten', async () => {
      await goOn();
      return (await byId(store, 'event-1')).status === 'unknown';
    });
    await whenTimePasses(harness, 'the first sequence is forgotten', async () => (await bySequence(store, 1)).status === 'unknown');
    await goOn();
    assert.equal((await bySequence(store, version)).status, 'known');
    const reused = commitTo(order, version, version + 1, { events: [eventAt(version + 1, { id: 'event-1' })] });
    assert.equal((await commitOne(store, reused)).status, 'ok');
  },
};

async function bySequence(store: Store, sequence: number): Promise<LookupResult> {
  return only(await store.lookUp([{ ...order, sequence, id: 'unused' }]));
}

async function byId(store: Store, id: string): Promise<LookupResult> {
  return only(await store.lookUp([{ ...order, sequence: null, id }]));
}

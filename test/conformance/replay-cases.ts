import assert from 'node:assert/strict';
import type { AuditRecord, Store } from '../../src/stores/store.ts';
import { commitOne, commitTo, deadLetterOf, only, order, orderNamed, parkOf, snapshotOf } from './builders.ts';
import { type Cases, type StoreHarness, whenTimePasses } from './store-conformance.ts';

export const replayCases: Cases = {
  'a parked entity stays parked until its version has passed the highest of its dead letters': async (harness) => {
    const store = await parkedAt(harness, 3);
    await store.recordDeadLetters([letterAt(5), letterAt(10), letterAt(9)]);
    for (const version of [4, 5, 8, 9]) {
      const result = await advance(store, version);
      assert.equal(result.status === 'ok' && result.parked?.reason, 'gap_timeout', `at ${version}`);
    }
    const result = await advance(store, 10);
    assert.deepEqual([result, (await snapshotOf(store, order)).parked], [{ status: 'ok', parked: null, unparked: true }, null]);
  },

  'it stays parked at least until what was to be dead-lettered first is passed, although nothing is recorded yet': async (harness) => {
    const store = await parkedAt(harness, 3, { sequence: 5 });
    const before = await advance(store, 4);
    assert.ok(before.status === 'ok' && before.parked !== null);
    assert.equal((await advance(store, 5)).status, 'ok');
    assert.equal((await snapshotOf(store, order)).parked, null);
  },

  'what was dead-lettered for a reason outside of its sequence is not waited for': async (harness) => {
    const store = await parkedAt(harness, 3, { sequence: 4 });
    await store.recordDeadLetters([
      letterAt(900, { reason: 'invalid_sequence' }),
      letterAt(2, { reason: 'sequence_conflict' }),
      letterAt(70, { reason: 'malformed' }),
      letterAt(80, { ...orderNamed('o-2') }),
      letterAt(90, { sequence: null }),
    ]);
    await advance(store, 4);
    assert.equal((await snapshotOf(store, order)).parked, null);
  },

  'parked again, it waits for its new dead letters alone, and its earlier reason is gone': async (harness) => {
    const store = await parkedAt(harness, 3);
    await store.recordDeadLetters([letterAt(9)]);
    await advance(store, 9);
    await store.park([parkOf(order, 9, { reason: 'handler_failed', sequence: 10 })]);
    await store.recordDeadLetters([letterAt(10)]);
    assert.equal((await snapshotOf(store, order)).parked?.reason, 'handler_failed');
    await advance(store, 10);
    assert.equal((await snapshotOf(store, order)).parked, null);
  },

  'an entity that is not parked waits for no dead letter': async (harness) => {
    const store = await harness.open();
    await advance(store, 3);
    await store.recordDeadLetters([letterAt(8)]);
    await store.park([parkOf(order, 3, { sequence: 4 })]);
    await advance(store, 4);
    assert.equal((await snapshotOf(store, order)).parked, null);
  },

  'while its dead letters are replayed, every reading of a parked entity says so': async (harness) => {
    const store = await parkedAt(harness, 3);
    const begun = only(await store.operator.beginReplay([order], 60_000));
    assert.ok(begun.status === 'ok');
    const replaying = [begun.snapshot.parked?.replaying, (await snapshotOf(store, order)).parked?.replaying];
    const claim = only(await store.claim([{ ...order, shard: 0, epoch: 1, session: 'one' }]));
    const commit = await advance(store, 4);
    const stale = await commitOne(store, commitTo(order, 0, 1));
    for await (const { parked } of store.listEntities({})) replaying.push(parked?.replaying);
    replaying.push(claim.status === 'ok' && claim.snapshot.parked?.replaying, commit.status === 'ok' && commit.parked?.replaying);
    replaying.push(stale.status === 'stale' && stale.snapshot.parked?.replaying);
    assert.deepEqual(
      replaying,
      Array.from({ length: 6 }, () => true),
    );
  },

  'a replay ends when its time is over': async (harness) => {
    const store = await parkedAt(harness, 3);
    await store.operator.beginReplay([order], 1);
    await whenTimePasses(harness, 'the replay ends', async () => (await snapshotOf(store, order)).parked?.replaying === false);
  },

  'a replay ends when the entity is parked again, and the new reason stands': async (harness) => {
    const store = await parkedAt(harness, 3);
    await store.operator.beginReplay([order], 60_000);
    const parked = only(await store.park([parkOf(order, 3, { reason: 'handler_failed', detail: 'again', sequence: 4 })]));
    assert.ok(parked.status === 'ok');
    assert.deepEqual([parked.parked.detail, parked.parked.replaying], ['again', false]);
    assert.deepEqual((await snapshotOf(store, order)).parked, parked.parked);
  },

  'a replay ends with the parking, and the next parking begins without it': async (harness) => {
    const store = await parkedAt(harness, 3, { sequence: 4 });
    await store.operator.beginReplay([order], 60_000);
    await advance(store, 4);
    await store.park([parkOf(order, 4)]);
    assert.equal((await snapshotOf(store, order)).parked?.replaying, false);
  },

  'an entity that is not parked is not replayed, and one that is not known stays unknown': async (harness) => {
    const store = await harness.open();
    await advance(store, 3);
    const [known, unknown] = await store.operator.beginReplay([order, orderNamed('o-2')], 60_000);
    assert.deepEqual(known, { status: 'ok', snapshot: await snapshotOf(store, order) });
    assert.equal(unknown?.status === 'ok' && unknown.snapshot.exists, false);
    await store.park([parkOf(order, 3)]);
    assert.equal((await snapshotOf(store, order)).parked?.replaying, false);
  },

  'copies that were published are waited for when the time of the replay is over, until the version has reached the last of them': async (
    harness,
  ) => {
    const store = await parkedAt(harness, 3);
    await store.recordDeadLetters([letterAt(9)]);
    const replaying = async () => (await snapshotOf(store, order)).parked?.replaying;
    await store.operator.beginReplay([{ ...order, replayedTo: 7 }], 1);
    await store.operator.beginReplay([{ ...order, replayedTo: 5 }], 1);
    for (let moment = 0; moment < 3; moment++) await harness.passTime();
    assert.equal(await replaying(), true);
    const sixth = await advance(store, 6);
    assert.equal(sixth.status === 'ok' && sixth.parked?.replaying, true);
    const listed: unknown[] = [];
    for await (const { parked } of store.listEntities({})) listed.push(parked?.replaying);
    assert.deepEqual(listed, [true]);
    const seventh = await advance(store, 7);
    assert.deepEqual([seventh.status === 'ok' && seventh.parked?.replaying, await replaying()], [false, false]);
    // The next parking begins without them.
    await store.operator.beginReplay([{ ...order, replayedTo: 9 }], 1);
    await store.park([parkOf(order, 7, { reason: 'handler_failed', sequence: 8 })]);
    assert.equal(await replaying(), false);
  },

  'an entity that was parked again is left as it is by the replay of what it was parked for before': async (harness) => {
    const store = await parkedAt(harness, 3);
    const before = (await snapshotOf(store, order)).parked!;
    await store.operator.beginReplay([{ ...order, parkedAt: before.at }], 60_000);
    assert.equal((await snapshotOf(store, order)).parked?.replaying, true);
    await harness.passTime();
    await store.park([parkOf(order, 3, { reason: 'handler_failed', sequence: 4 })]);
    const late = only(await store.operator.beginReplay([{ ...order, parkedAt: before.at, replayedTo: 9 }], 60_000));
    const { parked } = await snapshotOf(store, order);
    assert.deepEqual([late.status === 'ok' && late.snapshot.parked, parked?.replaying, parked?.reason], [parked, false, 'handler_failed']);
  },

  'whether a replay is under way is decided by the clock of the store, whatever that of a worker says': async (harness, t) => {
    const store = await parkedAt(harness, 3);
    const readings = async (now: Store) => {
      const listed: unknown[] = [];
      for await (const { parked } of now.listEntities({})) listed.push(parked?.replaying);
      const claim = only(await now.claim([{ ...order, shard: 0, epoch: 1, session: 's' }]));
      return [(await snapshotOf(now, order)).parked?.replaying, ...listed, claim.status === 'ok' && claim.snapshot.parked?.replaying];
    };
    const skew = (ms: number) =>
      t.mock.method(
        Date,
        'now',
        (
          (now) => () =>
            now() + ms
        )(Date.now.bind(Date)),
      );
    await store.operator.beginReplay([order], 10_000);
    const fast = skew(30_000);
    assert.deepEqual(await readings(store), [true, true, true]);
    fast.mock.restore();
    await store.operator.beginReplay([order], 1);
    const slow = skew(-30_000);
    await whenTimePasses(harness, 'the replay ends', async () => !(await readings(store)).includes(true));
    slow.mock.restore();
  },

  'replays of a dead letter are counted with their times, also when it is dead-lettered again': async (harness) => {
    const store = await harness.open();
    const letter = letterAt(5);
    await store.recordDeadLetters([letter, letterAt(6)]);
    await store.operator.noteReplays([letter]);
    await store.operator.noteReplays([letter]);
    await store.recordDeadLetters([{ ...letter, detail: 'again' }]);
    const [found, other] = await store.findDeadLetters([letter, letterAt(6)]);
    assert.deepEqual([found?.record?.detail, found?.replayedAt.length, other?.replayedAt], ['again', 2, []]);
    for (const at of found?.replayedAt ?? []) assert.ok(Math.abs(Date.parse(at) - harness.nowMs()) < 60_000, at);
  },

  'a replay is counted where no record is left, and of many the latest are remembered': async (harness) => {
    const store = await harness.open();
    const letter = letterAt(5);
    for (let count = 0; count < 25; count++) await store.operator.noteReplays([letter]);
    const history = only(await store.findDeadLetters([letter]));
    assert.deepEqual([history?.record, history?.replayedAt.length], [null, 20]);
  },

  'the audit trail says who did what and why, the latest first, page after page': async (harness) => {
    const store = await harness.open();
    assert.deepEqual(await audit(store), []);
    const entries = Array.from(
      { length: 1_100 },
      (_, index) =>
        ({
          action: 'discard',
          who: 'ada@host',
          entityType: 'order',
          entityId: `o-${index} |😀`,
          what: `sequence ${index}`,
          reason: '"why"',
        }) as const,
    );
    await store.operator.appendAudit(entries);
    const records = await audit(store);
    assert.ok(records.every(({ at }) => Date.parse(at) > 0));
    assert.deepEqual(
      records.map(({ at: _, ...entry }) => entry),
      entries.toReversed(),
    );
  },
};

async function parkedAt(harness: StoreHarness, version: number, over: Parameters<typeof parkOf>[2] = {}): Promise<Store> {
  const store = await harness.open();
  await advance(store, version);
  const result = only(await store.park([parkOf(order, version, over)]));
  assert.equal(result.status, 'ok');
  return store;
}

/** Commits up to this version. */
async function advance(store: Store, to: number) {
  const { version } = await snapshotOf(store, order);
  return commitOne(store, commitTo(order, version, to));
}

function letterAt(sequence: number, over: Parameters<typeof deadLetterOf>[1] = {}) {
  return deadLetterOf(`letter ${sequence}`, { sequence, ...over });
}

async function audit(store: Store): Promise<AuditRecord[]> {
  const records: AuditRecord[] = [];
  for await (const record of store.operator.readAudit()) records.push(record);
  return records;
}

import assert from 'node:assert/strict';
import test from 'node:test';
import { type CatalogueLimits, LetterCatalogue, SharedReading } from '../../src/console/letter-catalogue.ts';
import { StreamView } from '../../src/console/stream-view.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { DeadLetter } from '../../src/dead-letters/dead-letter.ts';
import { OneAtATime } from '../../src/dead-letters/letter-broker.ts';
import { UnavailableError } from '../../src/errors.ts';
import { createMemoryStore } from '../../src/stores/memory/memory-store.ts';
import { systemTime } from '../../src/time.ts';
import { ManualTime } from '../support/manual-time.ts';
import { rawMessage } from '../support/raw-message.ts';

function letterOf(index: number, bytes = 10): DeadLetter {
  const message = rawMessage({ body: Buffer.alloc(bytes, 120), routingKey: 'e' });
  return {
    messageId: `m${index}`,
    fingerprint: `f${index}`,
    entityType: 't',
    entityId: `e${index % 3}`,
    sequence: index + 2,
    type: 'x',
    reason: index % 2 ? 'late' : 'gap_timeout',
    detail: '',
    stack: null,
    shard: 0,
    deadLetteredAt: `2026-01-01T00:00:0${index % 10}.000Z`,
    replayedAt: [],
    message,
  };
}

function setUp(limits?: Partial<CatalogueLimits>) {
  const clock = new ManualTime();
  const source = { letters: [letterOf(0), letterOf(1), letterOf(2)], readings: 0, tookMs: 0, error: null as Error | null };
  const catalogue = new LetterCatalogue({
    time: clock,
    limits,
    async read(each) {
      source.readings++;
      await Promise.resolve();
      clock.atMs += source.tookMs;
      if (source.error !== null) throw source.error;
      each(source.letters);
    },
  });
  const look = async (ready: number | null) => {
    catalogue.look(ready);
    await catalogue.settled();
    return source.readings;
  };
  return { clock, source, catalogue, look };
}

test('the queue is read when somebody looks, and again only when its length has changed and ten seconds are over', async () => {
  const { clock, source, catalogue, look } = setUp();
  assert.equal(source.readings, 0);
  assert.equal(await look(3), 1);
  assert.equal(catalogue.catalogue?.total, 3);
  clock.atMs = 60_000;
  assert.equal(await look(3), 1);
  assert.equal(await look(4), 2);
  assert.equal(await look(5), 2);
  clock.atMs += 9_999;
  assert.equal(await look(5), 2);
  clock.atMs += 1;
  assert.equal(await look(5), 3);
});

test('a reading that takes long is followed by a pause ten times as long', async () => {
  const { clock, source, look } = setUp();
  source.tookMs = 5_000;
  await look(3);
  clock.atMs += 49_999;
  assert.equal(await look(9), 1);
  clock.atMs += 1;
  assert.equal(await look(9), 2);
});

test('everybody who looks meanwhile shares a reading', async () => {
  const { source, catalogue } = setUp();
  catalogue.look(3);
  catalogue.look(3);
  catalogue.look(4);
  assert.equal(catalogue.reading, 0);
  await catalogue.settled();
  assert.deepEqual([source.readings, catalogue.reading], [1, null]);
});

test('what was changed through the console is read at once, though not more than once a second', async () => {
  const { clock, catalogue, look } = setUp();
  await look(3);
  catalogue.outdate();
  assert.equal(await look(3), 1);
  clock.atMs += 1_000;
  assert.equal(await look(3), 2);
  clock.atMs += 60_000;
  assert.equal(await look(3), 2);
});

test('a reading that fails leaves what was known, says why, and is tried again', async () => {
  const { clock, source, catalogue, look } = setUp();
  await look(3);
  source.error = new UnavailableError('somebody else is changing the dead letters');
  clock.atMs = 10_000;
  await look(4);
  assert.deepEqual([catalogue.trouble, catalogue.catalogue?.total], ['somebody else is changing the dead letters', 3]);
  source.error = null;
  clock.atMs = 20_000;
  await look(3);
  assert.deepEqual([catalogue.trouble, catalogue.catalogue?.revision], [null, 2]);
});

test('all letters are counted, and only so many are kept, with so many bytes of bodies', async () => {
  const { source, catalogue, look } = setUp({ maxLetters: 4, maxBodyBytes: 25 });
  source.letters = Array.from({ length: 9 }, (_, index) => letterOf(index));
  await look(9);
  const kept = catalogue.catalogue;
  assert.deepEqual([kept?.total, kept?.letters.length], [9, 4]);
  assert.deepEqual(
    kept?.groups.reason.map(({ name, count }) => [name, count]),
    [
      ['gap_timeout', 5],
      ['late', 4],
    ],
  );
  assert.deepEqual(
    kept?.letters.map(({ bodyIsKept, bodyBytes }) => [bodyIsKept, bodyBytes]),
    [
      [true, 10],
      [true, 10],
      [false, 10],
      [false, 10],
    ],
  );
  assert.equal(kept?.entities.of({ entityType: 't', entityId: 'e0' })?.matched.length, 3);
});

test('a shared reading is made once for all that ask, and again when it is old', async () => {
  const clock = new ManualTime();
  let readings = 0;
  const shared = new SharedReading({ time: clock, minAgeMs: 1_000, read: async () => ++readings });
  const [a, b] = await Promise.all([shared.get(), shared.get()]);
  assert.deepEqual(
    [a, b],
    [
      { ok: true, value: 1 },
      { ok: true, value: 1 },
    ],
  );
  clock.atMs = 999;
  assert.deepEqual(await shared.get(), { ok: true, value: 1 });
  clock.atMs = 1_000;
  assert.deepEqual(await shared.get(), { ok: true, value: 2 });
  shared.forget();
  assert.deepEqual(await shared.get(), { ok: true, value: 3 });
});

test('a shared reading that fails is an answer for as long', async () => {
  let readings = 0;
  const shared = new SharedReading({ time: new ManualTime(), minAgeMs: 1_000, read: () => Promise.reject(new Error(`no ${++readings}`)) });
  for (let asked = 0; asked < 3; asked++) {
    const reading = await shared.get();
    assert.equal(!reading.ok && reading.error.message, 'no 1');
  }
});

test('one piece of work begins when the one before it has ended, also when that failed', async () => {
  const order: string[] = [];
  const queue = new OneAtATime();
  const step = (name: string, fails = false) =>
    queue.run(async () => {
      order.push(`${name} begins`);
      await Promise.resolve();
      order.push(`${name} ends`);
      if (fails) throw new Error(name);
    });
  const first = step('a', true);
  const second = step('b');
  assert.ok(queue.busy);
  await assert.rejects(first, /a/);
  await second;
  assert.deepEqual(order, ['a begins', 'a ends', 'b begins', 'b ends']);
  assert.ok(!queue.busy);
});

function viewOf(store = createMemoryStore({ stream: 'events', idempotencyTtlSeconds: 60, time: new ManualTime() })) {
  const away = () => Promise.reject(new UnavailableError('the broker is away'));
  const view = new StreamView({
    config: loadConfig({ SHARDS: '2' }),
    sources: { time: systemTime, store, withBroker: away, letters: { busy: false, exclusively: away } },
    workers: async () => [],
  });
  return { store, view };
}

test('while the broker is away the overview says so and is there all the same', async () => {
  const overview = await viewOf().view.overview(true);
  assert.deepEqual(overview.problems, ['the broker is away']);
  assert.equal(overview.shards.length, 2);
  assert.deepEqual(overview.dead_letters, { ready: null, revision: 0, reading: null, trouble: null });
});

test('a halt on record is a problem of the overview, also where no worker answers', async () => {
  const { store, view } = viewOf();
  await store.halt({ shard: 1, detail: 'it is an older copy', at: '2026-01-01T00:00:00.000Z' });
  const { problems } = await view.overview(false);
  assert.deepEqual(problems, ['the broker is away', 'shard 1 is halted, for the store went backwards: it is an older copy']);
});

test('an entity is told with its version, its parking and its timeline, one that nobody knows as such', async () => {
  const { store, view } = viewOf();
  const entity = { entityType: 'order', entityId: '<b>A</b>' };
  const slot = (sequence: number) => ({ id: `i${sequence}`, recordId: true, sequence, payloadHash: 'h', result: null, consumed: false });
  await store.commit([
    {
      ...entity,
      token: '1:1',
      expectedVersion: 0,
      expectedHoles: '',
      newVersion: 2,
      newHoles: '',
      state: '{}',
      events: [slot(1), slot(2)],
    },
  ]);
  await store.park([
    { ...entity, shard: 0, epoch: 1, session: 'one', expectedVersion: 2, reason: 'gap_timeout', detail: 'd', sequence: 4 },
  ]);
  const told = await view.entity(entity);
  assert.deepEqual(
    [told['entity_id'], told['version'], told['exists'], told['runs']],
    ['<b>A</b>', 2, true, [{ state: 'applied', from: 1, to: 2 }]],
  );
  assert.equal((told['parked'] as { reason: string }).reason, 'gap_timeout');
  const parked = await view.parked();
  assert.deepEqual([parked.total, parked.scanned, parked.entities[0]?.entity_id], [1, 1, '<b>A</b>']);
  assert.deepEqual(await view.entity({ entityType: 'order', entityId: 'none' }), {
    entity_type: 'order',
    entity_id: 'none',
    exists: false,
    version: 0,
    holes: '',
    parked: null,
    gap: null,
    dead_letters: 0,
    unread: 0,
    letters_as_of: null,
    runs: [],
    more: 0,
    passed: [],
  });
});

test('the audit trail is told the latest first', async () => {
  const { store, view } = viewOf();
  const entry = {
    action: 'discard' as const,
    who: 'console 127.0.0.1',
    entityType: null,
    entityId: null,
    what: 'discarded',
    reason: 'why',
  };
  await store.operator.appendAudit([entry]);
  await store.operator.appendAudit([{ ...entry, reason: 'later' }]);
  const { entries } = await view.audit();
  assert.deepEqual(
    entries.map(({ who, reason }) => [who, reason]),
    [
      ['console 127.0.0.1', 'later'],
      ['console 127.0.0.1', 'why'],
    ],
  );
});

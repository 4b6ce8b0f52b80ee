/** What every event store does. `describeEventStore` runs the whole suite against one implementation. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { EventError, VersionConflictError } from '../../src/errors.ts';
import { appendEach, type IdentifiedEvent } from '../../src/stores/append-rules.ts';
import { encodeEvent, envelopeText } from '../../src/events/encode.ts';
import { defaultEventLimits, type EntityRef } from '../../src/events/event.ts';
import type { EventStore, EventToAppend, ExpectedVersion, ReadOptions, RecordedEvent } from '../../src/stores/event-store.ts';
import { uniqueStream } from '../support/services.ts';

export interface EventStoreHarness {
  /** A store on an empty stream of its own, or on the one that is named. It is closed after the test. */
  open(stream?: string): Promise<EventStore>;
}

type Case = (harness: EventStoreHarness, t: TestContext) => Promise<void>;

const order = (entityId: string): EntityRef => ({ entityType: 'order', entityId });
const event = (id: string, over: Partial<EventToAppend> = {}): EventToAppend => ({ id, type: 'Happened', data: { id }, ...over });
const noSignal = new AbortController().signal;

async function all(events: AsyncIterable<RecordedEvent>): Promise<RecordedEvent[]> {
  const list: RecordedEvent[] = [];
  for await (const one of events) list.push(one);
  return list;
}

const isConflict = (expected: ExpectedVersion, actual: number) => (error: unknown) =>
  error instanceof VersionConflictError && error.expected === expected && error.actual === actual;
const isIdConflict = (error: unknown) => error instanceof EventError && error.reason === 'message_id_conflict';

const cases: Readonly<Record<string, Case>> = {
  'what was appended is read as it was given, with its places': async (harness) => {
    const store = await harness.open();
    const first = await store.append(
      order('a'),
      [event('1'), event('2', { type: 'Other', timestamp: '2026-01-02T03:04:05Z', metadata: { tenant: 'é' } })],
      { expectedVersion: 0 },
    );
    assert.deepEqual(first, { status: 'appended', version: 2, position: 2 });
    await store.append(order('b'), [event('1')], { expectedVersion: 'no-stream' });
    const second = await store.append(order('a'), [event('3')], { expectedVersion: 2 });
    assert.deepEqual(second, { status: 'appended', version: 3, position: 4 });
    const [, other, last] = await all(store.read(order('a')));
    assert.deepEqual(other, {
      entityType: 'order',
      entityId: 'a',
      id: '2',
      sequence: 2,
      position: 2,
      type: 'Other',
      timestamp: '2026-01-02T03:04:05Z',
      data: { id: '2' },
      dataJson: '{"id":"2"}',
      metadata: { tenant: 'é' },
    });
    assert.deepEqual([last?.sequence, last?.position], [3, 4]);
    assert.deepEqual(
      (await all(store.readAll())).map(({ entityId, sequence, position }) => `${position} ${entityId}/${sequence}`),
      ['1 a/1', '2 a/2', '3 b/1', '4 a/3'],
    );
    assert.deepEqual([await store.version(order('a')), await store.version(order('b')), await store.version(order('c'))], [3, 1, 0]);
  },

  'the text of data comes back to the byte': async (harness) => {
    const store = await harness.open();
    const texts = ['{"b": 1, "a": [1.0, 12345678901234567890]}', '[]', '{}', '"é e\u0301 😀"', 'null', '1e400', ' {"a":1}\n'];
    for (const [index, dataJson] of texts.entries())
      await store.append(order('a'), [event(String(index), { data: undefined, dataJson })], { expectedVersion: index });
    assert.deepEqual(
      (await all(store.read(order('a')))).map(({ dataJson }) => dataJson.trim()),
      texts.map((text) => text.trim()),
    );
  },

  'an expected version that is not the one there is refuses everything': async (harness) => {
    const store = await harness.open();
    const append = (expectedVersion: ExpectedVersion, ...ids: string[]) =>
      store.append(
        order('a'),
        ids.map((id) => event(id)),
        { expectedVersion },
      );
    await assert.rejects(append('exists', 'x'), isConflict('exists', 0));
    await assert.rejects(append(1, 'x'), isConflict(1, 0));
    await append('no-stream', '1', '2');
    await assert.rejects(append('no-stream', 'x'), isConflict('no-stream', 2));
    await assert.rejects(append(1, 'x', 'y'), isConflict(1, 2));
    await assert.rejects(append(3, 'x'), isConflict(3, 2));
    await append('exists', '3');
    await append('any', '4');
    await append(4, '5');
    assert.deepEqual(
      (await all(store.readAll())).map(({ id, position }) => `${position} ${id}`),
      ['1 1', '2 2', '3 3', '4 4', '5 5'],
    );
  },

  'the same events again, whatever is expected, change nothing and answer as the first time': async (harness) => {
    const store = await harness.open();
    const events = [event('1'), event('2')];
    await store.append(order('a'), events, { expectedVersion: 0 });
    await store.append(order('a'), [event('3')], { expectedVersion: 2 });
    for (const expectedVersion of [0, 3, 'any', 'no-stream'] as const) {
      assert.deepEqual(await store.append(order('a'), events, { expectedVersion }), { status: 'repeated', version: 2, position: 2 });
    }
    assert.equal(await store.version(order('a')), 3);
    const elsewhere = await store.append(order('b'), events, { expectedVersion: 0 });
    assert.equal(elsewhere.status, 'appended', 'ids are unique within their entity');
  },

  'an id that belongs to another event refuses everything': async (harness) => {
    const store = await harness.open();
    await store.append(order('a'), [event('1'), event('2'), event('3')], { expectedVersion: 0 });
    const refused: EventToAppend[][] = [
      [event('1', { data: 'other' })],
      [event('1', { type: 'Other' })],
      [event('2'), event('1')],
      [event('1'), event('3')],
      [event('3'), event('4')],
      [event('4'), event('4')],
    ];
    for (const events of refused)
      await assert.rejects(store.append(order('a'), events, { expectedVersion: 'any' }), isIdConflict, JSON.stringify(events));
    assert.equal(await store.version(order('a')), 3);
  },

  'what no worker would take is refused, with its reason, and nothing is written': async (harness) => {
    const store = await harness.open();
    const refused = (entity: EntityRef, given: EventToAppend, reason: string) =>
      assert.rejects(
        store.append(entity, [event('fine'), given], { expectedVersion: 'any' }),
        (error) => error instanceof EventError && error.reason === reason,
        reason,
      );
    await refused(order(''), event('1'), 'invalid_entity');
    await refused(order('a\u0007'), event('1'), 'invalid_entity');
    await refused(order('a'), event('1', { data: undefined, dataJson: '{' }), 'malformed');
    await refused(order('a'), event('1', { data: 'x'.repeat(2_000_000) }), 'too_large');
    await refused(order('a'), event('1', { type: '' }), 'malformed');
    assert.deepEqual(await all(store.readAll()), []);
  },

  'what could not be published with the highest sequence is refused, also as the first event; what could is read back': async (harness) => {
    const store = await harness.open();
    const entity = order('a');
    const timestamp = '2026-01-01T00:00:00Z';
    const text = (data: string) => event('big', { type: 'T', timestamp, data });
    const longest =
      defaultEventLimits.maxBodyBytes -
      Buffer.byteLength(envelopeText({ ...entity, ...text(''), metadata: {}, sequence: Number.MAX_SAFE_INTEGER }));
    await assert.rejects(
      store.append(entity, [text('x'.repeat(longest + 1))], { expectedVersion: 0 }),
      (error) => error instanceof EventError && error.reason === 'too_large',
    );
    await store.append(entity, [text('x'.repeat(longest))], { expectedVersion: 0 });
    for await (const { position, ...recorded } of store.readAll()) {
      encodeEvent({ ...recorded, data: undefined, sequence: Number.MAX_SAFE_INTEGER }, { limits: defaultEventLimits });
      assert.equal(position, 1);
    }
    await assert.rejects(
      store.append(order('x'.repeat(256)), [event('1')], { expectedVersion: 0 }),
      (error) => error instanceof EventError && error.reason === 'invalid_entity',
    );
  },

  'reads go both ways, from and to where they are asked, and no further': async (harness) => {
    const store = await harness.open();
    await store.append(
      order('a'),
      Array.from({ length: 1_200 }, (_, index) => event(String(index + 1))),
      { expectedVersion: 0 },
    );
    const read = async (options: ReadOptions) => {
      const sequences = (await all(store.read(order('a'), options))).map(({ sequence }) => sequence);
      return [sequences[0], sequences.at(-1), sequences.length];
    };
    assert.deepEqual(await read({}), [1, 1_200, 1_200]);
    assert.deepEqual(await read({ direction: 'backwards' }), [1_200, 1, 1_200]);
    assert.deepEqual(await read({ from: 1_190 }), [1_190, 1_200, 11]);
    assert.deepEqual(await read({ from: 5, to: 9 }), [5, 9, 5]);
    assert.deepEqual(await read({ from: 9, to: 5, direction: 'backwards' }), [9, 5, 5]);
    assert.deepEqual(await read({ from: 3, limit: 700 }), [3, 702, 700]);
    assert.deepEqual(await read({ direction: 'backwards', limit: 1 }), [1_200, 1_200, 1]);
    assert.deepEqual(await read({ from: 1_201 }), [undefined, undefined, 0]);
    assert.deepEqual(
      (await all(store.readAll({ after: 1_000, limit: 3 }))).map(({ position }) => position),
      [1_001, 1_002, 1_003],
    );
    assert.equal((await all(store.readAll({ after: 100 }))).length, 1_100);
    assert.deepEqual(await all(store.read(order('nobody'))), []);
  },

  'of fifty writers on one entity exactly one wins each version': async (harness) => {
    const store = await harness.open();
    const versions = 10;
    const wins: string[] = [];
    await Promise.all(
      Array.from({ length: 50 }, async (_, writer) => {
        for (let version = await store.version(order('a')); version < versions; version = await store.version(order('a'))) {
          const id = `${writer}-${version}`;
          const { status } = await store.append(order('a'), [event(id)], { expectedVersion: version }).catch((error) => {
            assert.ok(error instanceof VersionConflictError, String(error));
            return { status: 'lost' };
          });
          if (status === 'appended') wins.push(id);
        }
      }),
    );
    const ids = (await all(store.read(order('a')))).map(({ id }) => id);
    assert.equal(ids.length, versions);
    assert.deepEqual([...wins].sort(), [...ids].sort());
  },

  'whoever reads on from a position misses nothing and sees no gap, while many write': async (harness) => {
    const stream = uniqueStream();
    const store = await harness.open(stream);
    const [writers, appends] = [20, 15];
    let done = false;
    const reading = (async () => {
      const seen: RecordedEvent[] = [];
      for (;;) {
        const last = done;
        for await (const one of store.readAll({ after: seen.length })) seen.push(one);
        if (last) return seen;
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    await Promise.all(
      Array.from({ length: writers }, async (_, writer) => {
        for (let n = 0; n < appends; n++) {
          const events = Array.from({ length: 1 + (n % 3) }, (_, index) => event(`${writer}-${n}-${index}`));
          await store.append(order(`e${(writer + n) % 7}`), events, { expectedVersion: 'any' });
        }
      }),
    );
    done = true;
    const seen = await reading;
    assert.deepEqual(
      seen.map(({ position }) => position),
      seen.map((_, index) => index + 1),
    );
    assert.equal(seen.length, writers * (appends / 3) * 6);
    const next = new Map<string, number>();
    for (const { entityId, sequence } of seen) {
      assert.equal(sequence, (next.get(entityId) ?? 0) + 1, entityId);
      next.set(entityId, sequence);
    }
  },

  'whoever waits for more is told when it comes, whoever appends it': async (harness) => {
    const stream = uniqueStream();
    const [reader, writer] = [await harness.open(stream), await harness.open(stream)];
    await writer.append(order('a'), [event('1')], { expectedVersion: 0 });
    await reader.waitForMore(0, noSignal);
    let told = false;
    const waiting = reader.waitForMore(1, noSignal).then(() => (told = true));
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(told, false);
    await writer.append(order('a'), [event('2')], { expectedVersion: 1 });
    await waiting;
    const end = new AbortController();
    const ended = reader.waitForMore(2, end.signal);
    end.abort();
    await ended;
  },

  'of events that are appended each for itself, what is known is passed over, what is new appended, and only what conflicts refused':
    async (harness) => {
      const store = await harness.open();
      const at = (id: string, n: number, time?: string) => ({ id, type: 'Moved', data: { n }, timestamp: time });
      const fates = async (...events: IdentifiedEvent[]) =>
        (await appendEach(store, order('a'), events)).map((fate) => (typeof fate === 'object' ? fate.refused.slice(0, 19) : fate));
      const log = async () => (await all(store.read(order('a')))).map(({ id }) => id).join();
      assert.deepEqual(await fates(at('1', 1), at('2', 2), at('3', 3)), ['appended', 'appended', 'appended']);
      assert.deepEqual(await fates(at('1', 1), at('2', 2), at('3', 3), at('4', 4), at('5', 5)), [
        'known',
        'known',
        'known',
        'appended',
        'appended',
      ]);
      assert.deepEqual(await fates(at('6', 6), at('6', 6), at('7', 7)), ['appended', 'known', 'appended']);
      const conflict = 'message_id_conflict';
      assert.deepEqual(await fates(at('1', 1), at('2', 99), at('8', 8), at('4', 4)), ['known', conflict, 'appended', 'known']);
      assert.deepEqual(await fates(at('9', 9), at('9', 10), { ...at('10', 10), type: '' }, at('11', 11)), [
        'appended',
        conflict,
        'malformed: type is ',
        'appended',
      ]);
      // In another order than in the log, and again: each is known for itself.
      assert.deepEqual(await fates(at('5', 5), at('1', 1), at('11', 11)), ['known', 'known', 'known']);
      assert.equal(await log(), '1,2,3,4,5,6,7,8,9,11');
      // Ids that begin again each day: the log compares neither time nor the rest.
      assert.deepEqual(await fates(at('m1', 1, '2026-01-01T08:00:00Z'), at('m2', 2, '2026-01-01T08:00:01Z')), ['appended', 'appended']);
      assert.deepEqual(await fates(at('m1', 1, '2026-01-01 09:00:00.0+01:00'), at('m2', 2, '2026-01-02T08:00:01Z'), at('m3', 3)), [
        'known',
        conflict,
        'appended',
      ]);
    },

  'entities and ids with hostile names are kept apart': async (harness) => {
    const store = await harness.open();
    const names = ['{}', '}x', '*', '%', '\\', "'; DROP TABLE", '__proto__', 'a:b', 'Å', 'A\u030A', '😀', 'é'.repeat(127)];
    for (const name of names) await store.append(order(name), [event(name), event(`${name}2`)], { expectedVersion: 'no-stream' });
    for (const name of names) {
      const read = await all(store.read(order(name)));
      assert.deepEqual(
        read.map(({ entityId, id }) => [entityId, id]),
        [
          [name, name],
          [name, `${name}2`],
        ],
      );
    }
  },

  'streams are kept apart': async (harness) => {
    const [one, other] = [await harness.open(), await harness.open()];
    await one.append(order('a'), [event('1')], { expectedVersion: 0 });
    assert.deepEqual(await all(other.readAll()), []);
    assert.equal((await other.append(order('a'), [event('1')], { expectedVersion: 0 })).position, 1);
  },

  'the newest snapshot is kept, and one of another schema takes its place': async (harness) => {
    const store = await harness.open();
    assert.equal(await store.readSnapshot(order('a')), null);
    const snapshot = (version: number, schemaVersion: number) => ({ version, schemaVersion, state: `{"v":${version},"😀":"\u0000"}` });
    await store.writeSnapshot(order('a'), snapshot(5, 1));
    await store.writeSnapshot(order('a'), snapshot(3, 1));
    assert.deepEqual(await store.readSnapshot(order('a')), snapshot(5, 1));
    await store.writeSnapshot(order('a'), snapshot(4, 2));
    assert.deepEqual(await store.readSnapshot(order('a')), snapshot(4, 2));
    assert.equal(await store.readSnapshot(order('b')), null);
  },
};

export interface ConformanceOptions {
  /** Why the suite cannot run here. */
  readonly skip?: string | boolean;
}

export function describeEventStore(
  name: string,
  openHarness: (t: TestContext) => Promise<EventStoreHarness>,
  { skip = false }: ConformanceOptions = {},
): void {
  describe(name, { skip }, () => {
    for (const [sentence, run] of Object.entries(cases)) it(sentence, async (t) => run(await openHarness(t), t));
  });
}

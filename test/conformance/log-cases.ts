import assert from 'node:assert/strict';
import type { EntityRef } from '../../src/events/event.ts';
import type { Store } from '../../src/stores/store.ts';
import { commitOne, commitTo, eventAt, order, orderNamed } from './builders.ts';
import type { Cases } from './store-conformance.ts';

async function logOf(store: Store, entity: EntityRef): Promise<readonly string[]> {
  const texts: string[] = [];
  for await (const text of store.readLog(entity)) texts.push(text);
  return texts;
}

const logging = (sequence: number, log = `log ${sequence}`) => eventAt(sequence, { log });

export const logCases: Cases = {
  'keeps what commits put into it, in order and byte for byte, apart by entity': async (harness) => {
    const store = await harness.open();
    const odd = ['{"n":12345678901234567890, "f":1.0}\n\t', 'ünï\u2028🙂'];
    await commitOne(store, commitTo(order, 0, 2, { events: [logging(1, odd[0]), logging(2, odd[1])] }));
    await commitOne(store, commitTo(orderNamed('other'), 0, 1, { events: [logging(1)] }));
    await commitOne(store, commitTo(order, 2, 4, { events: [eventAt(3), logging(4)] }));
    assert.deepEqual(await logOf(store, order), [...odd, 'log 4']);
    assert.deepEqual(await logOf(store, orderNamed('other')), ['log 1']);
    assert.deepEqual(await logOf(store, orderNamed('unknown')), []);
  },

  'gets nothing from a commit that changes nothing': async (harness) => {
    const store = await harness.open();
    const commit = commitTo(order, 0, 1, { events: [logging(1)] });
    await commitOne(store, commit);
    assert.equal((await commitOne(store, commit)).status, 'duplicate');
    assert.equal((await commitOne(store, commitTo(order, 0, 1, { events: [logging(1)] }))).status, 'stale');
    const known = eventAt(2, { id: 'event-1', log: 'again' });
    assert.equal((await commitOne(store, commitTo(order, 1, 2, { events: [known] }))).status, 'conflict');
    assert.deepEqual(await logOf(store, order), ['log 1']);
  },

  'is read page by page, however long it is, and takes many at once': async (harness) => {
    const store = await harness.open();
    const length = 9_000;
    const events = Array.from({ length }, (_, index) => logging(index + 1));
    assert.equal((await commitOne(store, commitTo(order, 0, length, { events }))).status, 'ok');
    assert.deepEqual(
      await logOf(store, order),
      events.map(({ log }) => log),
    );
  },
};

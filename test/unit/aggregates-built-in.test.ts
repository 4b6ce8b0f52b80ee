import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import type { Aggregate } from '../../src/aggregates/definition.ts';
import { evolveEvent } from '../../src/aggregates/evolve.ts';
import { addUp } from '../../src/aggregates/order-data.ts';
import { historyAggregate, type HistoryState, orderAggregate, type OrderState } from '../../src/aggregates/built-in.ts';
import type { Event } from '../../src/events/event.ts';
import { eventOf } from '../support/event-of.ts';

/** Applies the events, with the state stored and loaded in between as a worker does. */
function applied<State>(aggregate: Aggregate<State>, events: readonly Partial<Event>[]): State {
  let state: State | null = null;
  for (const fields of events) {
    const next = evolveEvent(aggregate, state, eventOf(fields), { adopts: false });
    assert.ok(next.ok, next.ok ? '' : next.detail);
    state = aggregate.deserialize(aggregate.serialize(next.state));
  }
  assert.ok(state !== null);
  return state;
}

const order = orderAggregate();
const created = { type: 'OrderCreated', timestamp: '2024-01-01', data: { items: [{ sku: 'a', quantity: 3, price: 0.1 }] } };
const added = { type: 'ItemAdded', timestamp: '2024-01-02', data: { id: 'b', quantity: 1, price: 19.99 } };
const completed = { type: 'OrderCompleted', timestamp: '2024-01-03' };
const cancelled = { type: 'OrderCancelled', timestamp: '2024-01-04' };

function refusalOf(before: readonly Partial<Event>[], fields: Partial<Event>): { readonly reason: string; readonly detail: string } {
  const state: OrderState | null = before.length === 0 ? null : applied(order, before);
  const next = evolveEvent(order, state, eventOf(fields), { adopts: false });
  assert.ok(!next.ok, 'it was applied');
  return next;
}

test('an order lives from its creation to its completion, with its times', () => {
  assert.deepEqual(applied(order, [created, added, completed]), {
    status: 'completed',
    items: [
      { sku: 'a', quantity: 3, price: 0.1 },
      { sku: 'b', quantity: 1, price: 19.99 },
    ],
    total: 20.29,
    createdAt: '2024-01-01',
    updatedAt: '2024-01-03',
    completedAt: '2024-01-03',
    cancelledAt: null,
  });
});

test('an order can be cancelled', () => {
  const { status, completedAt, cancelledAt } = applied(order, [created, cancelled]);
  assert.deepEqual([status, completedAt, cancelledAt], ['cancelled', null, '2024-01-04']);
});

test('an update replaces the items that it gives and leaves those that it does not', () => {
  const items = [{ sku: 'c', quantity: 2, price: 5 }];
  assert.deepEqual(applied(order, [created, { type: 'OrderUpdated', data: { items } }]).items, items);
  assert.equal(applied(order, [created, { type: 'OrderUpdated', data: { items } }]).total, 10);
  assert.equal(applied(order, [created, { type: 'OrderUpdated', data: { note: 'x' } }]).total, 0.3);
});

test('a total that an event gives stands', () => {
  assert.equal(applied(order, [{ ...created, data: { ...created.data, total: 7.5 } }]).total, 7.5);
  assert.equal(applied(order, [created, { ...added, data: { ...added.data, total: 20 } }]).total, 20);
});

test('only its creation begins an order', () => {
  for (const first of [added, completed, cancelled, { type: 'OrderUpdated' }]) assert.equal(refusalOf([], first).reason, 'not_created');
});

test('an order is created once', () => {
  assert.deepEqual(refusalOf([created], created), { ok: false, reason: 'refused', detail: 'an order is created once' });
});

for (const last of [completed, cancelled]) {
  test(`nothing happens to an order after ${last.type}, and the reason names the rule`, () => {
    const after = last === completed ? 'completed' : 'cancelled';
    for (const next of [added, { type: 'OrderUpdated', data: {} }, completed, cancelled]) {
      const { reason, detail } = refusalOf([created, last], next);
      assert.equal(reason, 'refused');
      assert.match(detail, new RegExp(`^an order that is ${after} `));
    }
  });
}

test('an item that is none is invalid data, and the detail names the field', () => {
  const item = (change: object) => refusalOf([created], { ...added, data: { ...added.data, ...change } });
  assert.deepEqual([item({ id: 7 }).reason, item({ id: 7 }).detail], ['invalid_data', 'data.sku: is missing or no text']);
  for (const quantity of [0, -1, 1.5, '1', null]) assert.match(item({ quantity }).detail, /^data\.quantity: /);
  for (const price of [-1, '1', null, 1e300, Number.POSITIVE_INFINITY]) assert.match(item({ price }).detail, /^data\.price: /);
  assert.match(item({ total: 'much' }).detail, /^data\.total: /);
  assert.match(refusalOf([], { ...created, data: { items: [7] } }).detail, /^data\.items\.0: is not an object/);
  assert.match(refusalOf([], { ...created, data: { items: {} } }).detail, /^data\.items: is not a list/);
  assert.match(refusalOf([], { ...created, data: 7 }).detail, /^data: is not an object/);
});

test('a total that a number cannot hold exactly is refused', () => {
  const data = { items: [{ sku: 'a', quantity: 999_999_999, price: 999_999_999.99 }] };
  assert.equal(refusalOf([], { ...created, data }).reason, 'refused');
});

test('items that are added one by one make the total that they make together', () => {
  const item = (price: number) => ({ type: 'ItemAdded', data: { sku: 'a', quantity: 1, price } });
  assert.equal(applied(order, [{ type: 'OrderCreated' }, item(0.1), item(0.2)]).total, 0.3);
});

test('money is added without drift', () => {
  const cents = fc.integer({ min: 0, max: 99_999_999 });
  const line = fc.record({ cents, quantity: fc.integer({ min: 1, max: 1_000 }) });
  fc.assert(
    fc.property(cents, fc.array(line, { maxLength: 50 }), (base, lines) => {
      const total = lines.reduce((sum, each) => sum + each.cents * each.quantity, base);
      assert.equal(
        addUp(
          base / 100,
          lines.map((each) => ({ price: each.cents / 100, quantity: each.quantity })),
        ),
        total / 100,
      );
    }),
  );
  assert.equal(addUp(1e-7, [{ price: 1e-8, quantity: 3 }]), 1.3e-7);
  assert.equal(addUp(999_999_999_999_999, [{ price: 1, quantity: 1 }]), 1e15);
  assert.equal(addUp(0.1, [{ price: 999_999_999_999_999, quantity: 1 }]), 999_999_999_999_999.1);
  assert.equal(addUp(0.01, [{ price: 999_999_999_999_999, quantity: 1 }]), null);
});

const history = historyAggregate();

test('a history counts, lists the types in order, and keeps the last data', () => {
  const state: HistoryState = applied(
    history,
    ['A', 'B', 'A'].map((type, n) => ({ type, data: n, dataJson: String(n) })),
  );
  assert.deepEqual(state, { count: 3, types: ['A', 'B', 'A'], dataJson: '2' });
});

test('a history keeps the last 1,000 types however long its entity lives, and trims what was stored with more', () => {
  const stored = history.deserialize(
    JSON.stringify({ count: 54_000, types: Array.from({ length: 54_000 }, (_, n) => `T${n}`), data: null }),
  );
  const next = evolveEvent(history, stored, eventOf({ type: 'Next' }), { adopts: false });
  assert.ok(next.ok);
  const { count, types } = next.state as HistoryState;
  assert.deepEqual([count, types.length, types[0], types.at(-1)], [54_001, 1_000, 'T53001', 'Next']);
});

test('a history gives data back byte for byte', () => {
  for (const dataJson of [
    '[]',
    '{}',
    '1.0',
    '-0.0',
    '1E400',
    '12345678901234567890123',
    '{ "data" : [ 1.0 ],\n"b":"\\u00e9"}',
    '"\\"data\\":1"',
  ]) {
    assert.equal(applied(history, [{ data: JSON.parse(dataJson), dataJson }]).dataJson, dataJson);
    const text = history.serialize(applied(history, [{ data: JSON.parse(dataJson), dataJson }]));
    assert.ok(text.endsWith(`"data":${dataJson}}`), text);
    JSON.parse(text);
  }
});

test('a stored state that is no history is an error, not an empty one', () => {
  assert.throws(() => history.deserialize('{"count":1,"types":[]}'), TypeError);
});

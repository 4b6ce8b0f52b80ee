/** What a repository promises, on every event store. */
import assert from 'node:assert/strict';
import { orderAggregate, type OrderState } from '../../src/aggregates/built-in.ts';
import { defineAggregate } from '../../src/aggregates/define.ts';
import type { Command } from '../../src/aggregates/definition.ts';
import { PermanentError, VersionConflictError } from '../../src/errors.ts';
import { AggregateRoot, createRepository } from '../../src/event-sourcing/aggregate-root.ts';
import type { Handled } from '../../src/event-sourcing/repository.ts';
import type { EventStore } from '../../src/stores/event-store.ts';

const item = { sku: 'a', quantity: 2, price: 1.5 };
const order = orderAggregate();

/** The recipe's order as a class. */
export class Order extends AggregateRoot {
  static readonly type = 'order';
  status: 'new' | 'pending' | 'completed' = 'new';
  items: unknown[] = [];

  create(items: readonly object[]): void {
    if (this.status !== 'new') this.refuse('an order is created once', 'already_created');
    this.raise({ type: 'OrderCreated', data: { items } });
  }

  addItem(one: object): void {
    if (this.status !== 'pending') this.refuse(`an order that is ${this.status} takes no items`, 'not_pending');
    this.raise({ type: 'ItemAdded', data: { item: one } });
  }

  complete(): void {
    if (this.status !== 'pending') this.refuse(`an order that is ${this.status} cannot be completed`, 'not_pending');
    this.raise({ type: 'OrderCompleted' });
  }

  protected apply({ type, data }: { readonly type: string; readonly data: any }): void {
    if (type === 'OrderCreated') [this.status, this.items] = ['pending', data.items];
    if (type === 'ItemAdded') this.items = [...this.items, data.item];
    if (type === 'OrderCompleted') this.status = 'completed';
  }
}

/** Sums what is deposited; each command waits for nobody. */
const counter = defineAggregate({
  type: 'counter',
  initialState: { count: 0 },
  decide: { Add: ({ data }: Command<{ by: number }>) => ({ type: 'Added', data }), Nothing: () => [] },
  evolve: { Added: ({ count }, { data }) => ({ count: count + (data as { by: number }).by }) },
});

async function idsOf(store: EventStore, entityType: string, entityId: string): Promise<readonly string[]> {
  const ids: string[] = [];
  for await (const { id } of store.read({ entityType, entityId })) ids.push(id);
  return ids;
}

const shown = ({ status, version, state }: Handled<OrderState>) => [status, version, state.status];

/** Never called: the compiler refuses commands that the aggregate does not decide, and data that they do not have. */
export function refusedByTheCompiler(store: EventStore): void {
  const orders = createRepository(order, store);
  void orders.handle('o', { type: 'CompleteOrder' });
  // @ts-expect-error there is no such command
  void orders.handle('o', { type: 'ShipOrder' });
  // @ts-expect-error it needs data
  void orders.handle('o', { type: 'AddItem' });
  // @ts-expect-error of another kind
  void orders.handle('o', { type: 'AddItem', data: { sku: 1 } });
}

export const repositoryCases: Readonly<Record<string, (store: EventStore) => Promise<void>>> = {
  'commands of an order have their events, and those that its rules forbid have none and say why': async (store) => {
    const orders = createRepository(order, store);
    assert.deepEqual(await orders.load('o'), { state: order.initialState(), version: 0 });
    assert.deepEqual(shown(await orders.handle('o', { type: 'CreateOrder', data: { items: [item] } })), ['handled', 1, 'pending']);
    const added = await orders.handle('o', { type: 'AddItem', data: item });
    assert.deepEqual([added.version, added.state.total], [2, 6]);
    const refusals = [
      [{ type: 'CreateOrder', data: { items: [] } }, 'already_created'],
      [{ type: 'AddItem', data: { ...item, quantity: -1 } }, 'invalid_data'],
    ] as const;
    for (const [command, code] of refusals) {
      const refused = await orders.handle('o', command);
      assert.ok(refused.status === 'refused');
      assert.deepEqual([refused.code, refused.version], [code, 2]);
    }
    assert.deepEqual(shown(await orders.handle('o', { type: 'CompleteOrder' })), ['handled', 3, 'completed']);
    const late = await orders.handle('o', { type: 'CancelOrder' });
    assert.ok(late.status === 'refused');
    assert.deepEqual([late.code, late.detail], ['closed', 'an order that is completed cannot be cancelled']);
    const early = await orders.handle('p', { type: 'AddItem', data: item });
    assert.equal(early.status === 'refused' && early.code, 'not_created');
    assert.equal(await store.version({ entityType: 'order', entityId: 'p' }), 0);
    assert.deepEqual(await orders.load('o'), { state: late.state, version: 3 });
  },

  'a command that is given again has no second effect, also where its rules would refuse it by then or decide otherwise': async (store) => {
    const orders = createRepository(order, store);
    await orders.handle('o', { id: 'c1', type: 'CreateOrder', data: { items: [item] } });
    const again = await orders.handle('o', { id: 'c1', type: 'CreateOrder', data: { items: [item] } });
    assert.deepEqual(shown(again), ['repeated', 1, 'pending']);
    assert.ok(again.status === 'repeated');
    assert.deepEqual(
      again.events.map(({ id, sequence, type }) => [id, sequence, type]),
      [['c1.1', 1, 'OrderCreated']],
    );
    await orders.handle('o', { id: 'c2', type: 'CompleteOrder' });
    assert.deepEqual(shown(await orders.handle('o', { id: 'c2', type: 'CompleteOrder' })), ['repeated', 2, 'completed']);
    assert.deepEqual(shown(await orders.handle('o', { id: 'c2', type: 'CompleteOrder' }, { expectedVersion: 1 })), [
      'repeated',
      2,
      'completed',
    ]);
    const counters = createRepository(counter, store);
    await counters.handle('n', { id: 'c', type: 'Add', data: { by: 1 } });
    await counters.handle('n', { type: 'Add', data: { by: 10 } });
    for (const by of [1, 7]) {
      const other = await counters.handle('n', { id: 'c', type: 'Add', data: { by } });
      assert.ok(other.status === 'repeated');
      assert.deepEqual(
        [other.state.count, other.version, other.events.map(({ sequence, data }) => [sequence, data])],
        [11, 2, [[1, { by: 1 }]]],
      );
    }
    assert.deepEqual(await idsOf(store, 'order', 'o'), ['c1.1', 'c2.1']);
  },

  'a version that is expected and no longer there is a conflict, and is not decided again': async (store) => {
    const counters = createRepository(counter, store);
    await counters.handle('n', { type: 'Add', data: { by: 1 } }, { expectedVersion: 0 });
    await assert.rejects(counters.handle('n', { type: 'Add', data: { by: 1 } }, { expectedVersion: 0 }), (error) => {
      return error instanceof VersionConflictError && error.expected === 0 && error.actual === 1;
    });
    assert.deepEqual(await counters.handle('n', { type: 'Nothing' }), { status: 'handled', events: [], state: { count: 1 }, version: 1 });
  },

  'nothing is lost of what many do at the same time': async (store) => {
    const counters = createRepository(counter, store, { maxAttempts: 1_000, snapshotEvery: 7 });
    const givers = Array.from({ length: 20 }, async () => {
      for (let n = 0; n < 3; n++) await counters.handle('n', { type: 'Add', data: { by: 1 } });
    });
    await Promise.all(givers);
    assert.deepEqual(await counters.load('n'), { state: { count: 60 }, version: 60 });
  },

  'after so many attempts the conflict is told': async (store) => {
    const entity = { entityType: 'counter', entityId: 'n' };
    let attempts = 0;
    const overtaken: EventStore = Object.assign(Object.create(store), {
      read: (...given: Parameters<EventStore['read']>) => store.read(...given),
      append: async (...given: Parameters<EventStore['append']>) => {
        attempts++;
        await store.append(entity, [{ type: 'Added', data: { by: 1 } }], { expectedVersion: 'any' });
        return await store.append(...given);
      },
    });
    const counters = createRepository(counter, overtaken, { maxAttempts: 3 });
    await assert.rejects(counters.handle('n', { type: 'Add', data: { by: 1 } }), VersionConflictError);
    assert.deepEqual([attempts, await store.version(entity)], [3, 3]);
  },

  'a snapshot saves reading, and one of another schema is not used': async (store) => {
    const entity = { entityType: 'counter', entityId: 'n' };
    const counters = createRepository(counter, store, { snapshotEvery: 3 });
    for (let n = 0; n < 7; n++) await counters.handle('n', { type: 'Add', data: { by: 1 } });
    assert.deepEqual(await store.readSnapshot(entity), { version: 6, schemaVersion: 1, state: '{"count":6}' });
    // One that tells what the events do not say shows which was used.
    await store.writeSnapshot(entity, { version: 6, schemaVersion: 1, state: '{"count":60}' });
    assert.deepEqual(await counters.load('n'), { state: { count: 61 }, version: 7 });
    assert.deepEqual(await createRepository(counter, store).load('n'), { state: { count: 7 }, version: 7 });
    await store.writeSnapshot(entity, { version: 7, schemaVersion: 1, state: 'not JSON' });
    assert.deepEqual(await counters.load('n'), { state: { count: 7 }, version: 7 }, 'one that cannot be read is as good as none');
    const newer = createRepository({ ...counter, schemaVersion: 2 }, store, { snapshotEvery: 3 });
    assert.deepEqual(await newer.load('n'), { state: { count: 7 }, version: 7 });
  },

  'events that the aggregate cannot apply are told, and nothing is decided on them': async (store) => {
    await store.append({ entityType: 'counter', entityId: 'n' }, [{ type: 'Unheard' }], { expectedVersion: 'no-stream' });
    await assert.rejects(createRepository(counter, store).handle('n', { type: 'Add', data: { by: 1 } }), (error) => {
      return error instanceof PermanentError && /^counter n: event 1: refused/.test(error.message);
    });
  },

  'the class form raises, applies, and knows what is not committed; its log is that of the functions': async (store) => {
    const classes = createRepository(Order, store);
    const mine = await classes.load('o');
    mine.create([item]);
    mine.addItem(item);
    assert.deepEqual(
      [mine.version, mine.status, mine.uncommittedEvents.map(({ sequence, type }) => [sequence, type])],
      [
        0,
        'pending',
        [
          [1, 'OrderCreated'],
          [2, 'ItemAdded'],
        ],
      ],
    );
    await classes.save(mine);
    assert.deepEqual([mine.version, mine.uncommittedEvents], [2, []]);
    const { state, version } = await createRepository(order, store).load('o');
    assert.deepEqual([state.status, state.items.length, version], ['pending', 2, 2]);
    const theirs = await classes.load('o');
    assert.deepEqual([theirs.status, theirs.items, theirs.version], ['pending', [item, item], 2]);
    mine.complete();
    await classes.save(mine);
    theirs.addItem(item);
    await assert.rejects(classes.save(theirs), VersionConflictError);
  },

  'work of the class form is refused with its code, repeated without effect, and done again when somebody was faster': async (store) => {
    const classes = createRepository(Order, store, { maxAttempts: 1_000 });
    const create = () => classes.handle('o', (one) => one.create([item]), { commandId: 'c1' });
    assert.deepEqual([(await create()).status, (await create()).status], ['handled', 'repeated']);
    const refused = await classes.handle('o', (one) => {
      one.addItem(item);
      one.create([]);
    });
    assert.ok(refused.status === 'refused');
    assert.deepEqual(
      [refused.code, refused.aggregate.version, refused.aggregate.items.length, refused.aggregate.uncommittedEvents],
      ['already_created', 1, 1, []],
    );
    await Promise.all(Array.from({ length: 10 }, () => classes.handle('o', (one) => one.addItem(item))));
    assert.equal((await classes.load('o')).items.length, 11);
    await assert.rejects(
      classes.handle('o', () => assert.fail('mine')),
      /mine/,
    );
    await assert.rejects(
      classes.handle('o', async (one) => one.addItem(item)),
      (error) => error instanceof PermanentError && /must be synchronous/.test(error.message),
    );
    assert.equal((await classes.load('o')).version, 11);
    assert.equal((await idsOf(store, 'order', 'o'))[0], 'c1.1');
  },
};

/** Any commands in any order: what the repository says is what the log says, with and without snapshots, and what a worker makes of it. */
import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { orderAggregate, type OrderCommands } from '../../src/aggregates/built-in.ts';
import { createEventStore } from '../../src/stores/open-store.ts';
import { createRepository } from '../../src/event-sourcing/aggregate-root.ts';
import { foldEvents, type CommandOf } from '../../src/event-sourcing/repository.ts';

const item = fc.record({
  sku: fc.constantFrom('a', 'b'),
  quantity: fc.integer({ min: -1, max: 5 }),
  price: fc.integer({ min: 0, max: 999 }).map((cents) => cents / 100),
});
const command: fc.Arbitrary<CommandOf<OrderCommands>> = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({ type: fc.constant('CreateOrder' as const), data: fc.record({ items: fc.array(item, { maxLength: 3 }) }) }),
  },
  { weight: 5, arbitrary: fc.record({ type: fc.constant('AddItem' as const), data: item }) },
  { weight: 1, arbitrary: fc.constant({ type: 'CompleteOrder' as const }) },
  { weight: 1, arbitrary: fc.constant({ type: 'CancelOrder' as const, data: { reason: 'changed my mind' } }) },
);
const given = fc.record({ command, id: fc.integer({ min: 0, max: 9 }), order: fc.constantFrom('x', 'y') });

test('state and version are those of the log, whatever was commanded', async () => {
  const order = orderAggregate();
  await fc.assert(
    fc.asyncProperty(fc.array(given, { maxLength: 40 }), fc.integer({ min: 1, max: 5 }), async (commands, snapshotEvery) => {
      const [store, other] = [createEventStore({ memory: true }), createEventStore({ memory: true })];
      const plain = createRepository(order, store);
      const snapshotting = createRepository(order, other, { snapshotEvery });
      for (const { command, id, order: orderId } of commands) {
        const named = { ...command, id: `c${id}`, timestamp: '2026-01-01T00:00:00Z' };
        const handled = await plain.handle(orderId, named);
        assert.deepEqual(await snapshotting.handle(orderId, named), handled, 'with and without snapshots');
        const { state, version, problem } = await foldEvents(order, store.read({ entityType: 'order', entityId: orderId }));
        assert.equal(problem, null, 'a worker applies every event that was decided');
        assert.deepEqual([handled.state, handled.version], [state ?? order.initialState(), version]);
        assert.deepEqual(await snapshotting.load(orderId), { state: handled.state, version });
      }
      for await (const { id } of store.readAll()) assert.match(id, /^c\d\.1$/);
    }),
    { numRuns: 200 },
  );
});

import assert from 'node:assert/strict';
import test from 'node:test';
import type { DeadLetter } from '../../src/dead-letters/dead-letter.ts';
import { expect, wrongOrder } from '../../deploy/demo/expectation.ts';
import { balance } from '../../deploy/demo/ledger.ts';
import { type DemoMessage, messagesOf, planFaults } from '../../deploy/demo/faults.ts';
import { orderLives, type OrderEvent } from '../../deploy/demo/order-lives.ts';
import { disarrange } from '../../deploy/demo/publishing.ts';
import { renderDeadLetters } from '../../deploy/demo/report.ts';
import type { EntityRef } from '../../src/events/event.ts';
import type { EntitySummary, LoadResult } from '../../src/stores/store.ts';

const lives = (orders = 40, seed = 1) => orderLives({ orders, seed, startMs: 1_767_607_200_000 });

function stageOf(orders = 40) {
  const events = lives(orders);
  const faults = planFaults(events);
  return { events, faults, messages: [...messagesOf(events, faults)] };
}

test('2,000 orders have at least 20,000 events, each order numbered without a gap in the order of its times', () => {
  const events = lives(2_000);
  assert.ok(events.length >= 20_000, `${events.length}`);
  const last = new Map<string, OrderEvent>();
  for (const event of events) {
    const before = last.get(event.orderId);
    assert.equal(event.sequence, (before?.sequence ?? 0) + 1);
    if (before !== undefined) assert.ok(before.timestamp < event.timestamp);
    last.set(event.orderId, event);
  }
  assert.equal(last.size, 2_000);
});

test('the same seed gives the same lives, another one others', () => {
  assert.deepEqual(lives(40, 7), lives(40, 7));
  assert.notDeepEqual(lives(40, 7), lives(40, 8));
});

test('three events are missing, one message more is cut off, one event is marked, each in an order of its own', () => {
  const { events, faults, messages } = stageOf();
  assert.equal(messages.length, events.length - 3 + 1);
  const sent = new Set(messages.map(({ id }) => id));
  for (const { orderId, sequence } of faults.lost) {
    assert.ok(!sent.has(`${orderId}-${sequence}`));
    assert.ok(sent.has(`${orderId}-${sequence + 1}`), 'a loss shows only when something follows');
  }
  const cutOff = messages.find(({ event }) => event === null);
  assert.throws(() => JSON.parse(cutOff?.encoded.body.toString() ?? '{}'));
  assert.ok(
    messages.some(({ event, orderId }) => event?.sequence === 3 && orderId === cutOff?.orderId),
    'its event is there, whole',
  );
  assert.equal(messages.filter(({ encoded }) => encoded.event.metadata['note'] !== undefined).length, 1);
  const affected = [...faults.lost, faults.failing, faults.malformed].map(({ orderId }) => orderId);
  assert.equal(new Set(affected).size, 5);
});

test('disarray repeats and shuffles, and loses nothing', async () => {
  const { messages } = stageOf(200);
  const sent = await disarrange(messages, 1);
  assert.deepEqual(new Set(sent), new Set(messages));
  assert.ok(sent.length > messages.length * 1.02 && sent.length < messages.length * 1.1, `${sent.length} of ${messages.length}`);
  assert.notDeepEqual(sent.slice(0, 20), messages.slice(0, 20));
});

function message(orderId: string, sequence: number, type: OrderEvent['type'], data: OrderEvent['data'] = {}): DemoMessage {
  const event = { orderId, sequence, type, data, timestamp: `2026-01-05T10:00:0${sequence}.000Z` };
  return { id: `${orderId}-${sequence}`, orderId, event, encoded: undefined as never };
}

const a = { sku: 'a', quantity: 3, price: 0.1 };
const b = { sku: 'b', quantity: 1, price: 19.95 };
const nowhere = { orderId: 'none', sequence: 0 };

test('the expected state follows the rules of the READMEs, worked out by hand', () => {
  const history = [
    message('o', 3, 'OrderCompleted'),
    message('o', 1, 'OrderCreated', { items: [a] }),
    message('o', 2, 'ItemAdded', { item: b }),
    message('o', 2, 'ItemAdded', { item: b }),
  ];
  const { orders, applied, duplicates, deadLettered } = expect(history, nowhere);
  assert.deepEqual([applied, duplicates, deadLettered], [3, 1, 0]);
  assert.deepEqual(orders.get('o'), {
    version: 3,
    state: {
      status: 'completed',
      items: [a, b],
      total: 20.25,
      createdAt: '2026-01-05T10:00:01.000Z',
      updatedAt: '2026-01-05T10:00:03.000Z',
      completedAt: '2026-01-05T10:00:03.000Z',
      cancelledAt: null,
    },
  });
});

test('behind a lost or a failing event every copy is expected among the dead letters', () => {
  const published = [1, 2, 4, 4, 5].map((sequence) => message('o', sequence, sequence === 1 ? 'OrderCreated' : 'OrderUpdated'));
  const cutOff: DemoMessage = { id: 'x', orderId: 'o', event: null, encoded: undefined as never };
  const lost = expect([...published, cutOff, cutOff], nowhere);
  assert.deepEqual([lost.applied, lost.duplicates, lost.deadLettered], [2, 0, 5]);
  assert.deepEqual(
    [...lost.deadLetters],
    [
      ['x', 2],
      ['o-4', 2],
      ['o-5', 1],
    ],
  );
  const failing = expect(published, { orderId: 'o', sequence: 2 });
  assert.deepEqual([failing.applied, failing.deadLettered], [1, 4]);
});

test('an order with another version or another state is named', () => {
  const expected = expect([message('o', 1, 'OrderCreated', { items: [a] })], nowhere).orders.get('o');
  assert.ok(expected !== undefined);
  const state = JSON.stringify(expected.state);
  assert.equal(wrongOrder('o', expected, 1, state), null);
  assert.match(wrongOrder('o', expected, 2, state) ?? '', /o is at version 2 instead of 1/);
  assert.match(wrongOrder('o', expected, 1, state.replace('0.3', '0.30000000000000004')) ?? '', /o has the state/);
  assert.match(wrongOrder('o', expected, 1, null) ?? '', /o has the state none/);
});

/** What would be found if everything had gone right. */
function rightOutcome() {
  const { faults, messages } = stageOf();
  const confirmed = [...messages, ...messages.slice(0, 10)];
  const expectation = expect(confirmed, faults.failing);
  const parked = new Set([...faults.lost, faults.failing].map(({ orderId }) => orderId));
  const stored = new Map(
    [...expectation.orders].map(([orderId, { version, state }]) => [
      orderId,
      { version, state: JSON.stringify(state), parked: parked.has(orderId) },
    ]),
  );
  const deadLetters = confirmed
    .filter(({ id }) => expectation.deadLetters.has(id))
    .map(({ id, orderId, event }) => {
      const failed = orderId === faults.failing.orderId && event?.sequence === faults.failing.sequence;
      const reason =
        event === null ? 'malformed' : failed ? 'handler_failed' : orderId === faults.failing.orderId ? 'entity_parked' : 'gap_timeout';
      const letter = {
        messageId: id,
        entityId: event === null ? null : orderId,
        sequence: event?.sequence ?? null,
        reason,
        detail: 'why',
        message: { routingKey: orderId },
      };
      return letter as unknown as DeadLetter;
    });
  return {
    confirmed: confirmed.length,
    expectation,
    faults,
    stored,
    deadLetters,
    depths: { shards: 0, deadLetters: deadLetters.length, unrouted: 0 },
  };
}

function problemsOf(outcome: ReturnType<typeof rightOutcome>): Promise<readonly string[]> {
  const parkedNow = { reason: 'gap_timeout', detail: '', sequence: 1, at: '', replaying: false } as const;
  const store = {
    async load(entities: readonly EntityRef[]): Promise<LoadResult[]> {
      return entities.map(({ entityId }) => {
        const { version, state, parked } = outcome.stored.get(entityId) ?? { version: 0, state: null, parked: false };
        return { status: 'ok', snapshot: { exists: true, version, state, holes: '', parked: parked ? parkedNow : null } };
      });
    },
    async *listEntities(): AsyncGenerator<EntitySummary> {
      for (const [entityId, { version }] of outcome.stored) yield { entityType: 'order', entityId, version, parked: null };
    },
  };
  return balance({ ...outcome, store }).then(({ problems }) => problems);
}

test('accounts that are right balance', async () => {
  assert.deepEqual(await problemsOf(rightOutcome()), []);
});

const wrongs: readonly (readonly [string, (outcome: ReturnType<typeof rightOutcome>) => ReturnType<typeof rightOutcome>, RegExp])[] = [
  ['a confirmed message that is nowhere', (o) => ({ ...o, confirmed: o.confirmed + 1 }), /^duplicates: \d+ instead of \d+/],
  ['a message left in a queue', (o) => ({ ...o, depths: { ...o.depths, shards: 1 } }), /left in the shard queues: 1/],
  ['a message that no queue took', (o) => ({ ...o, depths: { ...o.depths, unrouted: 1 } }), /no queue took: 1/],
  ['a dead letter missing', (o) => ({ ...o, deadLetters: o.deadLetters.slice(1) }), /^dead letters: /],
  [
    'a false gap',
    (o) => ({
      ...o,
      deadLetters: o.deadLetters.map((letter, index) =>
        index > 0 ? letter : { ...letter, messageId: 'order-40-2', entityId: 'order-40' },
      ),
    }),
    /order-40-2/,
  ],
  [
    'another reason',
    (o) => ({ ...o, deadLetters: o.deadLetters.map((letter) => ({ ...letter, reason: 'late' as const })) }),
    /was dead-lettered as late/,
  ],
  [
    'an order that lost an event',
    (o) => ({ ...o, stored: new Map(o.stored).set('order-40', { version: 9, state: '{}', parked: false }) }),
    /order-40 is at version 9/,
  ],
  [
    'an order nobody published',
    (o) => ({ ...o, stored: new Map(o.stored).set('ghost', { version: 2, state: '{}', parked: false }) }),
    /applied events: /,
  ],
  [
    'an order parked without need',
    (o) => ({ ...o, stored: new Map([...o.stored].map(([id, order]) => [id, { ...order, parked: order.parked || id === 'order-40' }])) }),
    /^parked are .*order-40/,
  ],
];

for (const [what, spoil, said] of wrongs) {
  test(`the accounts do not balance with ${what}`, async () => {
    assert.match((await problemsOf(spoil(rightOutcome()))).join('\n'), new RegExp(said.source, 'm'));
  });
}

test('dead letters are told by order and reason, with the sequences as ranges', () => {
  const { deadLetters, faults } = rightOutcome();
  const text = renderDeadLetters(deadLetters, faults);
  assert.match(text, /^ {2}order-05 +gap_timeout +\d+ +5-\d+ +4 was lost$/m);
  assert.match(text, /^ {2}order-11 +handler_failed +1 +6 +why$/m);
  assert.match(text, /^ {2}order-15 +malformed +1 +- +why$/m);
});

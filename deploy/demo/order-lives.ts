/**
 * The lives of some orders as they happen: each begins, takes items, and mostly ends, while a hundred others do the
 * same. The same seed gives the same lives. Nothing is wrong with them yet.
 */
import { seededRandom } from '../../src/publishing/perturb.ts';

export interface Item {
  readonly sku: string;
  readonly quantity: number;
  readonly price: number;
}

export interface OrderEvent {
  readonly orderId: string;
  readonly sequence: number;
  readonly type: 'OrderCreated' | 'ItemAdded' | 'OrderUpdated' | 'OrderCompleted' | 'OrderCancelled';
  readonly timestamp: string;
  readonly data: { readonly items?: readonly Item[]; readonly item?: Item };
}

export interface LivesOptions {
  readonly orders: number;
  readonly seed: number;
  /** When the first order is created, in milliseconds since 1970. */
  readonly startMs: number;
}

/** No order has fewer events, so 2,000 orders have at least 20,000. */
const shortestLife = 10;
const longestLife = 13;
/** From one order's beginning to the next, and from one event of an order to its next at most. */
const betweenOrdersMs = 10;
const betweenEventsMs = 200;

/** All events in the order in which they happened. */
export function orderLives({ orders, seed, startMs }: LivesOptions): OrderEvent[] {
  const random = seededRandom(seed);
  const digits = String(orders).length;
  const lives = Array.from({ length: orders }, (_, index) => {
    const orderId = `order-${String(index + 1).padStart(digits, '0')}`;
    return lifeOf(orderId, startMs + index * betweenOrdersMs, random);
  });
  return lives.flat().sort((a, b) => (a.timestamp < b.timestamp ? -1 : a.timestamp > b.timestamp ? 1 : 0));
}

function lifeOf(orderId: string, bornMs: number, random: () => number): OrderEvent[] {
  const length = shortestLife + wholeBelow(longestLife - shortestLife + 1, random);
  const events: OrderEvent[] = [];
  let atMs = bornMs;
  for (let sequence = 1; sequence <= length; sequence++) {
    events.push({ orderId, sequence, timestamp: new Date(atMs).toISOString(), ...stepOf(sequence, length, random) });
    // At least one millisecond, so that sorting by time keeps the order of an order's events.
    atMs += 1 + wholeBelow(betweenEventsMs, random);
  }
  return events;
}

function stepOf(sequence: number, length: number, random: () => number): Pick<OrderEvent, 'type' | 'data'> {
  const chance = random();
  if (sequence === 1) return { type: 'OrderCreated', data: { items: itemsBy(random) } };
  if (sequence < length) {
    return chance < 0.1
      ? { type: 'OrderUpdated', data: { items: itemsBy(random) } }
      : { type: 'ItemAdded', data: { item: itemBy(random) } };
  }
  if (chance < 0.8) return { type: 'OrderCompleted', data: {} };
  return chance < 0.9 ? { type: 'OrderCancelled', data: {} } : { type: 'ItemAdded', data: { item: itemBy(random) } };
}

function itemsBy(random: () => number): Item[] {
  return Array.from({ length: 1 + wholeBelow(3, random) }, () => itemBy(random));
}

function itemBy(random: () => number): Item {
  return {
    sku: `sku-${100 + wholeBelow(900, random)}`,
    quantity: 1 + wholeBelow(4, random),
    price: (50 + wholeBelow(9_950, random)) / 100,
  };
}

function wholeBelow(end: number, random: () => number): number {
  return Math.floor(random() * end);
}

/**
 * What must come of the published messages, computed from nothing but them and the rules that the READMEs state: the
 * code of the worker, of the store and of the `order` aggregate has no part in it, or a defect there would be
 * expected here. Money is counted in cents for the same reason.
 */
import { isDeepStrictEqual } from 'node:util';
import type { DemoMessage, EventRef } from './faults.ts';
import type { Item, OrderEvent } from './order-lives.ts';

export interface ExpectedOrder {
  readonly version: number;
  /** As the built-in `order` writes it down. */
  readonly state: Readonly<Record<string, unknown>>;
}

export interface Expectation {
  readonly orders: ReadonlyMap<string, ExpectedOrder>;
  readonly applied: number;
  readonly duplicates: number;
  /** By message id, as often as it must lie in the dead-letter queue. */
  readonly deadLetters: ReadonlyMap<string, number>;
  readonly deadLettered: number;
}

/** `confirmed` are the messages that the broker confirmed, repetitions included, in any order. */
export function expect(confirmed: Iterable<DemoMessage>, failing: EventRef): Expectation {
  const arrivals = new Map<string, Map<number, { readonly event: OrderEvent; readonly id: string; copies: number }>>();
  const deadLetters = new Map<string, number>();
  for (const { id, orderId, event } of confirmed) {
    if (event === null) {
      deadLetters.set(id, (deadLetters.get(id) ?? 0) + 1);
      continue;
    }
    const ofOrder = arrivals.get(orderId) ?? new Map();
    arrivals.set(orderId, ofOrder);
    const known = ofOrder.get(event.sequence);
    if (known === undefined) ofOrder.set(event.sequence, { event, id, copies: 1 });
    else known.copies++;
  }
  const orders = new Map<string, ExpectedOrder>();
  let applied = 0;
  let duplicates = 0;
  for (const [orderId, ofOrder] of arrivals) {
    const history: OrderEvent[] = [];
    // 1, 2, 3… up to the first that never came or cannot be processed.
    for (let next = ofOrder.get(1); next !== undefined; next = ofOrder.get(history.length + 1)) {
      if (orderId === failing.orderId && next.event.sequence === failing.sequence) break;
      history.push(next.event);
      duplicates += next.copies - 1;
    }
    applied += history.length;
    orders.set(orderId, { version: history.length, state: stateAfter(history) });
    // Every copy of everything behind that has to be set aside.
    for (const { event, id, copies } of ofOrder.values()) if (event.sequence > history.length) deadLetters.set(id, copies);
  }
  const deadLettered = [...deadLetters.values()].reduce((sum, copies) => sum + copies, 0);
  return { orders, applied, duplicates, deadLetters, deadLettered };
}

function stateAfter(history: readonly OrderEvent[]): Readonly<Record<string, unknown>> {
  let items: Item[] = [];
  let status = 'new';
  const at: Record<string, string | null> = { created: null, updated: null, completed: null, cancelled: null };
  for (const { type, timestamp, data } of history) {
    at.updated = timestamp;
    if (type === 'OrderCreated') [status, at.created] = ['pending', timestamp];
    if (type === 'OrderCompleted') [status, at.completed] = ['completed', timestamp];
    if (type === 'OrderCancelled') [status, at.cancelled] = ['cancelled', timestamp];
    if (data.items !== undefined) items = [...data.items];
    if (data.item !== undefined) items = [...items, data.item];
  }
  const cents = items.reduce((sum, { price, quantity }) => sum + Math.round(price * 100) * quantity, 0);
  return {
    status,
    items,
    total: cents / 100,
    createdAt: at.created,
    updatedAt: at.updated,
    completedAt: at.completed,
    cancelledAt: at.cancelled,
  };
}

/** Null when the stored order is as expected, else what is wrong with it. */
export function wrongOrder(orderId: string, expected: ExpectedOrder, version: number, state: string | null): string | null {
  if (version !== expected.version) return `${orderId} is at version ${version} instead of ${expected.version}`;
  if (isDeepStrictEqual(state === null ? null : JSON.parse(state), expected.version === 0 ? null : expected.state)) return null;
  return `${orderId} has the state ${state ?? 'none'} instead of ${JSON.stringify(expected.state)}`;
}

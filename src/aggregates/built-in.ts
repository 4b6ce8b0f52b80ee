/**
 * The built-in aggregates.
 *
 * `order` is created with items, added to, updated, then completed or cancelled. The demo uses it, and it is an example of an
 * aggregate with rules for commands (`decide`) and events (`evolve`).
 *
 *   OrderCreated ─▶ pending ── ItemAdded, OrderUpdated ─▶ pending
 *                      ├────── OrderCompleted ──────────▶ completed
 *                      └────── OrderCancelled ──────────▶ cancelled
 *
 * `history` keeps, for any entity and any event, the number of events, their types in order, and the last data, byte for byte as
 * the producer wrote them. It shows a stream, and compares it with its source, before anything is programmed.
 */
import { scanMembers } from '../events/json-scanner.ts';
import { defineAggregate } from './define.ts';
import { type Aggregate, type Command, refuse, type Refused } from './definition.ts';
import { addUp, type OrderItem, orderSchema } from './order-data.ts';

export interface OrderState {
  readonly status: 'new' | 'pending' | 'completed' | 'cancelled';
  readonly items: readonly OrderItem[];
  /** In the unit of the prices: the total of the events, or prices times quantities. */
  readonly total: number;
  /** The times of the events (ISO 8601); null if they have none, or it has not happened yet. */
  readonly createdAt: string | null;
  readonly updatedAt: string | null;
  readonly completedAt: string | null;
  readonly cancelledAt: string | null;
}

/**
 * The commands of an order, each with its data. The schema of the events refuses invalid data (`invalid_data`); other codes are
 * `already_created`, `not_created` and `closed`.
 */
export interface OrderCommands {
  /** `total`: default prices times quantities. */
  readonly CreateOrder: { readonly items: readonly OrderItem[]; readonly total?: number };
  readonly AddItem: OrderItem;
  readonly CompleteOrder: undefined;
  readonly CancelOrder: { readonly reason?: string } | undefined;
}

const newOrder: OrderState = {
  status: 'new',
  items: [],
  total: 0,
  createdAt: null,
  updatedAt: null,
  completedAt: null,
  cancelledAt: null,
};

/** `type` is the entity type of the orders. */
export function orderAggregate(type = 'order'): Aggregate<OrderState, OrderCommands> {
  return defineAggregate({
    type,
    initialState: newOrder,
    creates: 'OrderCreated',
    decide: {
      CreateOrder: ({ data }: Command<OrderCommands['CreateOrder']>, order) =>
        order.status === 'new' ? { type: 'OrderCreated', data } : refuse('an order is created once', 'already_created'),
      AddItem: ({ data }: Command<OrderCommands['AddItem']>, order) =>
        notPending(order, 'takes no items') ?? { type: 'ItemAdded', data: { item: data } },
      CompleteOrder: (_command: Command<OrderCommands['CompleteOrder']>, order) =>
        notPending(order, 'cannot be completed') ?? { type: 'OrderCompleted' },
      CancelOrder: ({ data }: Command<OrderCommands['CancelOrder']>, order) =>
        notPending(order, 'cannot be cancelled') ?? { type: 'OrderCancelled', data },
    },
    schema: orderSchema,
    evolve: {
      OrderCreated: (order, { timestamp, data }) =>
        order.status === 'new'
          ? withTotal(
              { ...order, status: 'pending', items: data.items, createdAt: timestamp, updatedAt: timestamp },
              data.total ?? addUp(0, data.items),
            )
          : refuse('an order is created once'),
      ItemAdded: (order, { timestamp, data }) =>
        closed(order, 'takes no more items') ??
        withTotal({ ...order, items: [...order.items, data.item], updatedAt: timestamp }, data.total ?? addUp(order.total, [data.item])),
      OrderUpdated: (order, { timestamp, data }) =>
        closed(order, 'is not updated any more') ??
        withTotal(
          { ...order, items: data.items ?? order.items, updatedAt: timestamp },
          data.total ?? (data.items === null ? order.total : addUp(0, data.items)),
        ),
      OrderCompleted: (order, { timestamp }) =>
        closed(order, 'cannot be completed') ?? { ...order, status: 'completed', updatedAt: timestamp, completedAt: timestamp },
      OrderCancelled: (order, { timestamp }) =>
        closed(order, 'cannot be cancelled') ?? { ...order, status: 'cancelled', updatedAt: timestamp, cancelledAt: timestamp },
    },
  });
}

/** Null while the order is open, as one adopted in mid-stream (`FIRST_SEQUENCE=any`) is. */
function closed(order: OrderState, rule: string): Refused | null {
  return order.status === 'completed' || order.status === 'cancelled' ? refuse(`an order that is ${order.status} ${rule}`) : null;
}

/** Null while the order is pending: unlike an event, a command never meets an order adopted in mid-stream. */
function notPending(order: OrderState, rule: string): Refused | null {
  if (order.status === 'pending') return null;
  return refuse(`an order that is ${order.status} ${rule}`, order.status === 'new' ? 'not_created' : 'closed');
}

function withTotal(order: OrderState, total: number | null): OrderState | Refused {
  return total === null ? refuse('the total has more digits than a number can hold') : { ...order, total };
}

/** The most types that `history` keeps of an entity: the state is written by each commit, and so stays small. */
const maxHistoryTypes = 1_000;

export interface HistoryState {
  /** The number of applied events, including those whose types are no longer kept. */
  readonly count: number;
  /** Types of the last 1,000 events in the order of application, with repetitions. */
  readonly types: readonly string[];
  /** `data` of the last event as JSON text, with large integers and `1.0` intact. Stored as JSON, not as a string. */
  readonly dataJson: string;
}

export function historyAggregate(): Aggregate<HistoryState> {
  return defineAggregate({
    type: '*',
    initialState: (): HistoryState => ({ count: 0, types: [], dataJson: 'null' }),
    evolve: {
      '*': ({ count, types }, event) => {
        return { count: count + 1, types: [...types.slice(1 - maxHistoryTypes), event.type], dataJson: event.dataJson };
      },
    },
    serialize: ({ count, types, dataJson }) => `{"count":${count},"types":${JSON.stringify(types)},"data":${dataJson}}`,
    deserialize(text) {
      const { count, types } = JSON.parse(text) as Pick<HistoryState, 'count' | 'types'>;
      return { count, types, dataJson: dataSource(text) };
    },
  });
}

function dataSource(text: string): string {
  const scan = scanMembers(text, Number.POSITIVE_INFINITY);
  const data = scan.ok ? scan.found.find(({ key }) => key === 'data') : undefined;
  if (data === undefined) throw new TypeError('the stored state is not one of a history');
  return data.source;
}

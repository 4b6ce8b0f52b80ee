/**
 * The events that every contender consumes: lives of orders, ten events each, of which a fixed number is under way at
 * any time, so that neighbours in a queue seldom belong to the same order. The same numbers give the same bytes.
 */
export const eventsPerOrder = 10;
const ordersUnderWay = 1_000;

export interface Workload {
  /** Keeps the entities of one round apart from those of another: a version is never used twice. */
  readonly round: string;
  readonly events: number;
}

export interface BenchMessage {
  readonly entityId: string;
  readonly body: Buffer;
}

export function* messagesOf({ round, events }: Workload): Generator<BenchMessage> {
  let made = 0;
  for (let firstOrder = 0; made < events; firstOrder += ordersUnderWay) {
    for (let sequence = 1; sequence <= eventsPerOrder; sequence++) {
      for (let order = firstOrder; order < firstOrder + ordersUnderWay && made < events; order++) {
        yield messageOf(`${round}-${order}`, sequence);
        made++;
      }
    }
  }
}

function messageOf(entityId: string, sequence: number): BenchMessage {
  const { type, data } = stepOf(sequence);
  const event = {
    id: `${entityId}-${sequence}`,
    entity_type: 'order',
    entity_id: entityId,
    sequence,
    type,
    timestamp: new Date(1_700_000_000_000 + sequence * 1_000).toISOString(),
    data,
    metadata: { source: 'bench' },
  };
  return { entityId, body: Buffer.from(JSON.stringify(event)) };
}

function stepOf(sequence: number): { readonly type: string; readonly data: object } {
  if (sequence === 1) return { type: 'OrderCreated', data: { items: [itemOf(0), itemOf(1)] } };
  if (sequence === eventsPerOrder) return { type: 'OrderCompleted', data: {} };
  return { type: 'ItemAdded', data: { item: itemOf(sequence) } };
}

function itemOf(n: number): object {
  return { sku: `sku-${n}`, quantity: 1 + (n % 3), price: 995 + n };
}

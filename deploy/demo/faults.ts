/**
 * What goes wrong in the demo, chosen by hand so that each thing happens once or a few times and can be named: events
 * that are lost for good, a message that was cut off, an order whose processor fails. Shuffling and repeating come
 * later, on the way to the broker. The module is the PROCESSOR of the demo's workers as well.
 */
import { defineHandler } from '../../src/aggregates/define.ts';
import { orderAggregate } from '../../src/aggregates/built-in.ts';
import { encodeEvent, type EncodedEvent } from '../../src/events/encode.ts';
import type { OrderEvent } from './order-lives.ts';

export interface DemoMessage {
  /** The id of the event; of the malformed message, which is none, the id it was sent with. */
  readonly id: string;
  readonly orderId: string;
  /** Null for the malformed message. */
  readonly event: OrderEvent | null;
  readonly encoded: EncodedEvent;
}

export interface EventRef {
  readonly orderId: string;
  readonly sequence: number;
}

export interface Faults {
  readonly lost: readonly EventRef[];
  readonly failing: EventRef;
  /** The order whose entity id the malformed message carries; it does not suffer from it. */
  readonly malformed: { readonly orderId: string; readonly id: string };
}

/** In an event's metadata: tells the demo's processor to fail. */
const failingMark = 'demo: the processor fails';

const notification = defineHandler({
  type: 'order',
  handle(event) {
    if (event.metadata['note'] === failingMark) throw new Error('the mail server does not know the recipient');
  },
});

/** What PROCESSOR is set to. */
export const processorUrl = import.meta.url;

/** The built-in `order`, and a side effect that fails for the one event that is marked. */
export default [orderAggregate(), notification];

/** Places in the middle of lives, for a loss shows only when something follows; and early, so that the gaps end early. */
const lostAt = [
  { share: 0.1, sequence: 4 },
  { share: 0.2, sequence: 7 },
  { share: 0.3, sequence: 2 },
];
const failingAt = { share: 0.25, sequence: 6 };
const malformedAt = { share: 0.35, sequence: 3 };

export function planFaults(events: readonly OrderEvent[]): Faults {
  const orderIds = [...new Set(events.map(({ orderId }) => orderId))].sort();
  const orderAt = (share: number) => orderIds[Math.floor(orderIds.length * share)] ?? '';
  const malformedOrder = orderAt(malformedAt.share);
  return {
    lost: lostAt.map(({ share, sequence }) => ({ orderId: orderAt(share), sequence })),
    failing: { orderId: orderAt(failingAt.share), sequence: failingAt.sequence },
    malformed: { orderId: malformedOrder, id: `${malformedOrder}-cut-off` },
  };
}

/** The messages that are published once each, in the order in which their events happened. */
export function* messagesOf(events: readonly OrderEvent[], faults: Faults): Generator<DemoMessage> {
  for (const event of events) {
    if (faults.lost.some((lost) => isAt(event, lost))) continue;
    const id = `${event.orderId}-${event.sequence}`;
    const encoded = encode(id, event, isAt(event, faults.failing));
    yield { id, orderId: event.orderId, event, encoded };
    // A second message of the event that was cut off on its way; the first one is whole.
    if (isAt(event, { orderId: faults.malformed.orderId, sequence: malformedAt.sequence })) {
      yield { id: faults.malformed.id, orderId: event.orderId, event: null, encoded: cutOff(encoded, faults.malformed.id) };
    }
  }
}

function isAt({ orderId, sequence }: OrderEvent, place: EventRef): boolean {
  return orderId === place.orderId && sequence === place.sequence;
}

function encode(id: string, event: OrderEvent, fails: boolean): EncodedEvent {
  const { orderId, sequence, type, timestamp, data } = event;
  const metadata = fails ? { note: failingMark } : {};
  return encodeEvent({ id, entityType: 'order', entityId: orderId, sequence, type, timestamp, data, metadata });
}

function cutOff(encoded: EncodedEvent, messageId: string): EncodedEvent {
  return { ...encoded, body: encoded.body.subarray(0, encoded.body.length >> 1), properties: { ...encoded.properties, messageId } };
}

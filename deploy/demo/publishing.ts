/**
 * Publishing of orders in disarray: shuffled and partly repeated, the same way for the same seed. The demo publishes a list and
 * remembers what the broker has confirmed, because the accounts start from it. The traffic has no end, for looking at workers,
 * dashboards and alerts: round after round of lives with new ids, as they happen now, with the faults of the demo in each.
 */
import { UnavailableError } from '../../src/errors.ts';
import type { EncodedEvent } from '../../src/events/encode.ts';
import type { Log } from '../../src/observability/log.ts';
import { paced, type PublishCounts, publishStream } from '../../src/publishing/publish-input.ts';
import { perturb } from '../../src/publishing/perturb.ts';
import { type BrokerAddress, createConnection } from '../../src/rabbitmq/connection.ts';
import { type AmqpPublisher, createAmqpPublisher } from '../../src/rabbitmq/publisher.ts';
import { isoNow, systemTime } from '../../src/time.ts';
import { type DemoMessage, messagesOf, planFaults } from './faults.ts';
import { type OrderEvent, orderLives } from './order-lives.ts';

export const shuffleWindow = 500;
export const duplicateShare = 0.05;
/** Small, so that an event is hardly older than its time says. */
const trafficWindow = 20;
const endTimeoutMs = 10_000;

/** As they will be sent, repetitions included. */
export async function disarrange(messages: Iterable<DemoMessage>, seed: number): Promise<DemoMessage[]> {
  const sent: DemoMessage[] = [];
  const options = { window: shuffleWindow, duplicate: duplicateShare, drop: 0, seed };
  for await (const message of perturb(each(messages), options)) sent.push(message);
  return sent;
}

async function* each<T>(elements: Iterable<T>): AsyncGenerator<T> {
  yield* elements;
}

export interface PublishingOptions extends BrokerAddress {
  readonly stream: string;
  readonly log: Log;
  /** Aborting it ends the publishing; what the broker does not take within ten seconds is given up. */
  readonly signal: AbortSignal;
}

async function withPublisher<T>(
  { stream, log, signal, ...broker }: PublishingOptions,
  use: (publisher: AmqpPublisher) => Promise<T>,
): Promise<T> {
  const connection = createConnection({ ...broker, name: 'inorder demo publisher', log, time: systemTime });
  const publisher = createAmqpPublisher({ connection, exchange: stream, log });
  const giveUp = () => systemTime.after(endTimeoutMs, () => void publisher.close(0), { unref: true });
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    return await use(publisher);
  } finally {
    await publisher.close();
    await connection.close();
  }
}

/** Resolves when every message has been confirmed; rejects when one was not, for then no account can balance. */
export function publishAll(
  messages: readonly DemoMessage[],
  options: PublishingOptions,
  onConfirmed: (message: DemoMessage) => void,
): Promise<void> {
  return withPublisher(options, async (publisher) => {
    const outcomes: Promise<boolean>[] = [];
    for (const message of messages) {
      await publisher.room();
      options.signal.throwIfAborted();
      const outcome = publisher.publish(message.encoded).then(({ status }) => {
        if (status === 'confirmed') onConfirmed(message);
        return status === 'confirmed';
      });
      outcomes.push(outcome);
    }
    const lost = (await Promise.all(outcomes)).filter((isConfirmed) => !isConfirmed).length;
    if (lost > 0) throw new UnavailableError(`the broker did not confirm ${lost} messages`);
  });
}

export interface TrafficOptions extends PublishingOptions {
  /** Orders of one round. */
  readonly orders: number;
  readonly seed: number;
  readonly ratePerSecond: number;
}

/** Publishes until the signal aborts; resolves with what became of it. */
export function publishTraffic(options: TrafficOptions): Promise<PublishCounts> {
  const disarray = { window: trafficWindow, duplicate: duplicateShare, drop: 0, seed: options.seed };
  return withPublisher(options, (publisher) => publishStream(perturb(asTheyHappen(options), disarray), publisher));
}

async function* asTheyHappen({ orders, seed, ratePerSecond, signal }: TrafficOptions): AsyncGenerator<EncodedEvent> {
  for await (const { event, faults } of paced(rounds(orders, seed), ratePerSecond, signal, systemTime)) {
    if (signal.aborted) return;
    for (const { encoded } of messagesOf([{ ...event, timestamp: isoNow(systemTime) }], faults)) yield encoded;
  }
}

async function* rounds(orders: number, seed: number) {
  for (let round = 0; ; round++) {
    const startMs = systemTime.wallMs();
    const named = (event: OrderEvent) => ({ ...event, orderId: `${startMs.toString(36)}-${event.orderId}` });
    const events = orderLives({ orders, seed: seed + round, startMs }).map(named);
    const faults = planFaults(events);
    for (const event of events) yield { event, faults };
  }
}

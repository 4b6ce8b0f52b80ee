/**
 * The traffic of orders without end, for looking at workers, dashboards and alerts: round after round of lives with new
 * ids, as they happen now, slightly out of order, partly repeated, and with the faults of the demo in each round.
 */
import type { Log } from '../observability/log.ts';
import { paced } from '../publishing/pacer.ts';
import { perturb } from '../publishing/perturb.ts';
import { type PublishCounts, publishStream } from '../publishing/publish-stream.ts';
import type { EncodedEvent } from '../events/encode.ts';
import { createConnection } from '../rabbitmq/connection.ts';
import { createAmqpPublisher } from '../rabbitmq/publisher.ts';
import { isoNow, type Time } from '../time.ts';
import { messagesOf, planFaults } from './faults.ts';
import { duplicateShare } from './publishing.ts';
import { type OrderEvent, orderLives } from './order-lives.ts';

export interface TrafficOptions {
  readonly urls: readonly [string, ...string[]];
  readonly stream: string;
  /** Orders of one round. */
  readonly orders: number;
  readonly seed: number;
  readonly ratePerSecond: number;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly time: Time;
  /** Ends after this many rounds. Default: never. */
  readonly rounds?: number;
}

/** Small, so that an event is hardly older than its time says. */
const shuffleWindow = 20;
const endTimeoutMs = 10_000;

/** Publishes until the signal aborts; resolves with what became of it. */
export async function publishTraffic(options: TrafficOptions): Promise<PublishCounts> {
  const { urls, stream, seed, log, signal, time } = options;
  const connection = createConnection({ urls, name: 'inorder demo traffic', log, time });
  const publisher = createAmqpPublisher({ connection, exchange: stream, log });
  // What the broker does not take then is given up, so that this ends.
  signal.addEventListener('abort', () => time.after(endTimeoutMs, () => void publisher.close(0), { unref: true }), { once: true });
  try {
    return await publishStream(
      perturb(asTheyHappen(options), { window: shuffleWindow, duplicate: duplicateShare, drop: 0, seed }),
      publisher,
    );
  } finally {
    await publisher.close();
    await connection.close();
  }
}

async function* asTheyHappen(options: TrafficOptions): AsyncGenerator<EncodedEvent> {
  const { ratePerSecond, signal, time } = options;
  for await (const { event, faults } of paced(rounds(options), ratePerSecond, signal, time)) {
    if (signal.aborted) return;
    for (const { encoded } of messagesOf([{ ...event, timestamp: isoNow(time) }], faults)) yield encoded;
  }
}

async function* rounds({ orders, seed, time, rounds = Number.POSITIVE_INFINITY }: TrafficOptions) {
  for (let round = 0; round < rounds; round++) {
    const startMs = time.wallMs();
    const named = (event: OrderEvent) => ({ ...event, orderId: `${startMs.toString(36)}-${event.orderId}` });
    const events = orderLives({ orders, seed: seed + round, startMs }).map(named);
    const faults = planFaults([...new Set(events.map(({ orderId }) => orderId))].sort());
    for (const event of events) yield { event, faults };
  }
}

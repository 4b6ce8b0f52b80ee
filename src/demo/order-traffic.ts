/**
 * The traffic of orders without end, for looking at workers, dashboards and alerts: round after round of lives with new
 * ids, as they happen now, slightly out of order, partly repeated, and with the mishaps of the demo in each round.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../observability/log.ts';
import { Pacer } from '../publishing/pacer.ts';
import { perturb } from '../publishing/perturb.ts';
import { type PublishCounts, publishStream } from '../publishing/publish-stream.ts';
import type { EncodedEvent } from '../events/encode.ts';
import { createConnection } from '../rabbitmq/connection.ts';
import { createAmqpPublisher } from '../rabbitmq/publisher.ts';
import { messagesOf, planMishaps } from './mishaps.ts';
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
  /** Ends after this many rounds. Default: never. */
  readonly rounds?: number;
}

/** Small, so that an event is hardly older than its time says. */
const shuffleWindow = 20;
const endTimeoutMs = 10_000;

/** Publishes until the signal aborts; resolves with what became of it. */
export async function publishTraffic(options: TrafficOptions): Promise<PublishCounts> {
  const { urls, stream, seed, log, signal } = options;
  const connection = createConnection({ urls, name: 'inorder demo traffic', log });
  const publisher = createAmqpPublisher({ connection, exchange: stream, log });
  // What the broker does not take then is given up, so that this ends.
  signal.addEventListener('abort', () => setTimeout(() => void publisher.close(0), endTimeoutMs).unref(), { once: true });
  try {
    return await publishStream(perturb(asTheyHappen(options), { window: shuffleWindow, duplicate: duplicateShare, drop: 0, seed }), publisher);
  } finally {
    await publisher.close();
    await connection.close();
  }
}

async function* asTheyHappen({ orders, seed, ratePerSecond, signal, rounds = Number.POSITIVE_INFINITY }: TrafficOptions): AsyncGenerator<EncodedEvent> {
  const pacer = new Pacer(ratePerSecond);
  for (let round = 0; round < rounds; round++) {
    const startMs = Date.now();
    const named = (event: OrderEvent) => ({ ...event, orderId: `${startMs.toString(36)}-${event.orderId}` });
    const events = orderLives({ orders, seed: seed + round, startMs }).map(named);
    const mishaps = planMishaps([...new Set(events.map(({ orderId }) => orderId))].sort());
    for (const event of events) {
      const delayMs = pacer.delayMs(performance.now());
      // It rejects when the signal aborts.
      if (delayMs > 0) await sleep(delayMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      const happened = { ...event, timestamp: new Date().toISOString() };
      for (const { encoded } of messagesOf([happened], mishaps)) yield encoded;
    }
  }
}

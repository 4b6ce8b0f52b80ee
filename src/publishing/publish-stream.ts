/**
 * Publishes a stream of encoded events and counts their outcomes. Guarantees that they are published in
 * the order of the stream; that the stream is read only while the outbox has room, so that memory is bounded;
 * and that it returns only when every event has its outcome.
 */
import type { EncodedEvent } from '../events/encode.ts';
import type { AmqpPublisher, PublishOutcome } from '../rabbitmq/publisher.ts';

/** The outcomes so far. `published` counts all events; in the end it is the sum of the others. */
export interface PublishCounts {
  readonly published: number;
  readonly confirmed: number;
  readonly returned: number;
  readonly failed: number;
}

/** Called after each outcome. An error that it throws ends the publishing. */
export type OutcomeListener = (counts: PublishCounts, outcome: PublishOutcome) => void;

/** Rejects only with an error of the stream or the listener, once the events published before have their outcomes. */
export async function publishStream(
  events: AsyncIterable<EncodedEvent>,
  publisher: Pick<AmqpPublisher, 'publish' | 'room'>,
  onOutcome?: OutcomeListener,
): Promise<PublishCounts> {
  const counts = { published: 0, confirmed: 0, returned: 0, failed: 0 };
  let outstanding = 0;
  let ended: (() => void) | null = null;
  let thrown: { readonly error: unknown } | null = null;
  const settle = (outcome: PublishOutcome) => {
    counts[outcome.status]++;
    outstanding--;
    try {
      onOutcome?.({ ...counts }, outcome);
    } catch (error) {
      thrown ??= { error };
    }
    if (outstanding === 0) ended?.();
  };
  try {
    for await (const event of events) {
      counts.published++;
      outstanding++;
      void publisher.publish(event).then(settle);
      await publisher.room();
      if (thrown !== null) break;
    }
  } finally {
    if (outstanding > 0) await new Promise<void>((resolve) => (ended = resolve));
  }
  const failure = thrown as { readonly error: unknown } | null;
  if (failure !== null) throw failure.error;
  return counts;
}

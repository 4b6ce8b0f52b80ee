/**
 * What the broker itself says of a dead letter: the newest entry of `x-death`. It knows the queue, the time and one of
 * a few words, and is all there is where Inorder has no record: the message was not rejected by Inorder, or so long ago
 * that the record has expired. Headers are written by publishers too, so nothing in them is taken on trust.
 */
import type { ReasonText } from '../events/reasons.ts';
import { fromAmqpTimestamp, timeText } from '../events/timestamp.ts';

const table = {
  delivery_limit: {
    meaning: 'The broker gave up delivering it: it was returned to its queue more often than the delivery limit allows.',
    cause: 'A worker that crashes on it, again and again.',
    remedy: 'Look for a worker that crashes again and again; then replay.',
  },
  expired: {
    meaning: 'Its time to live ran out while it waited in a queue.',
    cause: 'A producer or a policy that sets a time to live.',
    remedy: 'Publish without an expiration: an expired event is a gap for those behind it; then replay.',
  },
  maxlen: {
    meaning: 'Its queue was full and dropped it.',
    cause: 'A policy that limits the length of the queue.',
    remedy: 'Correct the policy: shard queues must not drop (`inorder topology check`); then replay.',
  },
  unknown: {
    meaning: 'It was rejected, and there is no record of why.',
    cause: 'It lay here for more than 30 days, somebody moved it here by hand, or the store was emptied.',
    remedy: 'Records are kept for 30 days; look into the body and the log of that time.',
  },
} as const satisfies Record<string, ReasonText>;

/** Reasons beside those of `events/reasons.ts`: the broker's own. */
export type BrokerReason = keyof typeof table;

export const brokerReasons: Readonly<Record<BrokerReason, ReasonText>> = table;

export interface BrokerDeath {
  readonly reason: BrokerReason;
  /** The queue in which it died, or null. */
  readonly queue: string | null;
  /** ISO 8601, to the second; or null. */
  readonly at: string | null;
}

const nothingKnown: BrokerDeath = { reason: 'unknown', queue: null, at: null };

export function readBrokerDeath(headers: Readonly<Record<string, unknown>>): BrokerDeath {
  const deaths = Object.hasOwn(headers, 'x-death') ? headers['x-death'] : null;
  // The broker puts the death that happened last first.
  const last: unknown = Array.isArray(deaths) ? deaths[0] : null;
  if (!isRecord(last)) return nothingKnown;
  const { reason, queue, time } = last;
  return {
    reason: reason === 'delivery_limit' || reason === 'expired' || reason === 'maxlen' ? reason : 'unknown',
    queue: typeof queue === 'string' ? queue : null,
    at: isRecord(time) ? timeTextOf(time['value']) : null,
  };
}

/** What the broker adds to a message that dies: the message as it was before has none of it. */
const deathHeader = /^x-(death|(first|last)-death-(reason|queue|exchange))$/;

export function withoutDeath(headers: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !deathHeader.test(name)));
}

function timeTextOf(amqpTimestamp: unknown): string | null {
  const ms = fromAmqpTimestamp(amqpTimestamp);
  return ms === null ? null : timeText(ms);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

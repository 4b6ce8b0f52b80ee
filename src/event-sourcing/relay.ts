/**
 * Publishes what an event store holds, in order: the outbox of event-sourced entities. The store is the truth, and what was
 * appended to it is published however often the relay, the broker or the store fail in between.
 *
 *   acquire the lease ──▶ read a page behind the position ──▶ publish all of it ──▶ all confirmed ──▶ advance ─┐
 *         ▲                        ▲                                                                          │
 *         │                        └──────────────────────────────────────────────────────────────────────────┘
 *         └── the lease is lost, the store or the broker is away ◀── at any point
 *
 * Guarantees that every event is published at least once, and that of an entity no event's first copy goes before that of an
 * earlier one: a page is sent in the order of positions, a refused event is overtaken by none of its entity, and the next page
 * waits until all of it is confirmed. Leaves to the worker that what was published twice has its effect once.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf, PermanentError, UnavailableError } from '../errors.ts';
import { type EncodedEvent, encodeEvent } from '../events/encode.ts';
import type { EventLimits } from '../events/event.ts';
import type { Log } from '../observability/log.ts';
import { backOffMs } from '../rabbitmq/back-off.ts';
import type { AmqpPublisher, PublishOutcome } from '../rabbitmq/publisher.ts';
import type { EventStore, RecordedEvent } from '../stores/event-store.ts';
import type { RelayLease, RelayLeases } from '../stores/relay-lease.ts';

export interface RelayOptions {
  readonly store: Pick<EventStore, 'readAll' | 'waitForMore'>;
  readonly leases: RelayLeases;
  /** To the stream's exchange. */
  readonly publisher: Pick<AmqpPublisher, 'publish'>;
  /** What the workers accept. */
  readonly limits: EventLimits;
  readonly log: Log;
  /** Ends it after the page that is under way. */
  readonly signal: AbortSignal;
  /** Events that are read and published together. Default 500. */
  readonly pageSize?: number;
  /** Told after each page that was confirmed. */
  readonly onProgress?: (progress: { readonly published: number; readonly position: number }) => void;
}

const defaultPageSize = 500;
const retry = { firstMs: 200, lastMs: 10_000 };

/**
 * Runs until `signal` ends it; one that does not get the lease stands by.
 *
 * @throws PermanentError when an event can never be published: it has to be dealt with before anything behind it can go.
 */
export async function runRelay(options: RelayOptions): Promise<void> {
  const { leases, log, signal } = options;
  let failures = 0;
  while (!signal.aborted) {
    try {
      const lease = await leases.acquire(signal);
      if (lease === null) return;
      log.info({ position: lease.position }, 'relaying');
      failures = 0;
      await relayWith(lease, options).finally(() => lease.release());
      if (!signal.aborted) log.warn({}, 'the lease was lost: standing by');
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      if (signal.aborted) return;
      failures++;
      if (failures === 1) log.warn({ cause: error.message }, 'the relay pauses: the store or the broker is away');
      await sleep(backOffMs(retry, failures), undefined, { signal }).catch(() => undefined);
    }
  }
}

/** Until the lease is lost or the signal aborted. */
async function relayWith(lease: RelayLease, options: RelayOptions): Promise<void> {
  const { store, signal, pageSize = defaultPageSize, onProgress } = options;
  const ending = AbortSignal.any([signal, lease.lost]);
  let { position } = lease;
  while (!ending.aborted) {
    const page: RecordedEvent[] = [];
    for await (const event of store.readAll({ after: position, limit: pageSize })) page.push(event);
    if (page.length === 0) {
      await store.waitForMore(position, ending);
      continue;
    }
    const messages = encodedPage(page, options.limits);
    await publishPage(messages, options.publisher, ending);
    if (lease.lost.aborted) return;
    position = page[messages.length - 1]!.position;
    if (!(await lease.advance(position))) return;
    onProgress?.({ published: messages.length, position });
  }
}

/**
 * Resolves when every event of the page is confirmed. An entity's next event is sent when the one before is confirmed: the
 * broker may refuse one (its queue is full) and take the next.
 */
async function publishPage(page: readonly EncodedEvent[], publisher: RelayOptions['publisher'], ending: AbortSignal): Promise<void> {
  const latest = new Map<string, Promise<PublishOutcome>>();
  const sent = page.map((message) => {
    const entity = JSON.stringify([message.event.entityType, message.event.entityId]);
    const before = latest.get(entity);
    const outcome = before === undefined ? publisher.publish(message) : before.then((last) => (last.status === 'confirmed' ? publisher.publish(message) : last));
    latest.set(entity, outcome);
    return outcome;
  });
  for (const outcome of await Promise.all(sent)) {
    if (outcome.status === 'failed') throw ending.aborted ? new UnavailableError('the relay is ending') : outcome.error;
    if (outcome.status === 'returned') throw new UnavailableError(`the exchange has no queue for an event (${outcome.detail}): run \`inorder topology check\``);
  }
}

/** What comes before an event that cannot be published, so that it is stopped at with everything before it confirmed. */
function encodedPage(page: readonly RecordedEvent[], limits: EventLimits): readonly EncodedEvent[] {
  const messages: EncodedEvent[] = [];
  for (const { position, entityType, entityId, sequence, id, type, timestamp, dataJson, metadata } of page) {
    try {
      messages.push(encodeEvent({ id, entityType, entityId, sequence, type, timestamp, dataJson, metadata }, { limits }));
    } catch (cause) {
      if (messages.length > 0) return messages;
      throw new PermanentError(`the event at position ${position} cannot be published: ${messageOf(cause)}`, { cause });
    }
  }
  return messages;
}

/**
 * Publishes the events of an event store in order: the outbox of event-sourced entities. The store is the source of truth, and
 * every appended event is published, however often the relay, the broker or the store fail.
 *
 *   acquire the lease ──▶ read a page behind the position ──▶ publish all of it ──▶ all confirmed ──▶ advance ─┐
 *         ▲                        ▲                                                                          │
 *         │                        └──────────────────────────────────────────────────────────────────────────┘
 *         └── the lease is lost, the store or the broker is unavailable ◀── at any point
 *
 * Guarantees that every event is published at least once, and that no event's first copy precedes that of an earlier one of
 * its entity: a page is sent in the order of positions, no event of the same entity overtakes a refused one, and the next page
 * waits until the whole page is confirmed. The worker recognises an event that was published twice as a duplicate.
 *
 * An append refuses an event that could not be published. One that is in the log all the same (from an earlier version, or from
 * before a limit was lowered) is published unchanged, with a warning: the worker dead-letters it with its reason, and parks its entity.
 */
import { EventError, PermanentError, UnavailableError } from '../errors.ts';
import { encodeEvent, encodeUnchecked } from '../events/encode.ts';
import type { EventLimits } from '../events/event.ts';
import { entityKey } from '../events/identity.ts';
import type { Log } from '../observability/log.ts';
import type { AmqpPublisher, PublishableMessage, PublishOutcome } from '../rabbitmq/publisher.ts';
import type { EventStore, RecordedEvent } from '../stores/event-store.ts';
import type { RelayLease, RelayLeases } from '../stores/relay-lease.ts';
import { backOffMs, sleep, type Time } from '../time.ts';

export interface RelayOptions {
  readonly store: Pick<EventStore, 'readAll' | 'waitForMore'>;
  readonly leases: RelayLeases;
  /** Publishes to the stream's exchange. */
  readonly publisher: Pick<AmqpPublisher, 'publish'>;
  /** The limits of the workers. */
  readonly limits: EventLimits;
  readonly log: Log;
  /** Ends the relay after the present page. */
  readonly signal: AbortSignal;
  readonly time: Time;
  /** Events that are read and published together. Default 500. */
  readonly pageSize?: number;
  /** Called after each confirmed page. */
  readonly onProgress?: (progress: { readonly published: number; readonly position: number }) => void;
}

const defaultPageSize = 500;
const retry = { initialMs: 200, maxMs: 10_000, leastShare: 0.5 };
/** No broker takes a larger one. Of a smaller max_message_size (16 MiB by default from RabbitMQ 4 on) the broker's refusal tells. */
const maxMessageBytes = 134_217_728;

/**
 * Runs until `signal` aborts; without the lease it is a standby.
 *
 * @throws PermanentError when AMQP cannot carry an event: nothing behind it is published until that is resolved.
 * @throws ConfigError when the store refuses for good.
 */
export async function runRelay(options: RelayOptions): Promise<void> {
  const { leases, log, signal, time } = options;
  const trouble = new Trouble(log, time);
  while (!signal.aborted) {
    try {
      const lease = await leases.acquire(signal);
      if (lease === null) return;
      if (!trouble.isOn) log.info({ position: lease.position }, 'relaying');
      await relayWith(lease, options, trouble).finally(() => lease.release());
      if (!signal.aborted) log.warn({}, 'the lease was lost: standing by');
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      if (signal.aborted) return;
      await sleep(time, trouble.retryInMs(error), signal);
    }
  }
}

/** The failures since the last progress: each cause is logged once, and the back-off grows. */
class Trouble {
  readonly #log: Log;
  readonly #time: Time;
  readonly #logged = new Set<string>();
  #failures = 0;
  #namedUpTo = 0;

  constructor(log: Log, time: Time) {
    this.#log = log;
    this.#time = time;
  }

  get isOn(): boolean {
    return this.#failures > 0;
  }

  retryInMs({ message }: UnavailableError): number {
    if (!this.#logged.has(message)) this.#log.warn({ cause: message }, 'the relay pauses: the store or the broker is unavailable');
    this.#logged.add(message);
    return backOffMs(retry, ++this.#failures, this.#time);
  }

  /** Logs an event that workers refuse: once, however often its page is tried. */
  name({ position, entityType, entityId, sequence, id }: RecordedEvent, { reason, message }: EventError): void {
    if (position <= this.#namedUpTo) return;
    this.#namedUpTo = position;
    const remedy =
      'the workers dead-letter it and park the entity: correct it there, or raise the limit that it exceeds for relays and workers alike';
    const event = { position, entity_type: entityType, entity_id: entityId, sequence, event_id: id };
    this.#log.warn({ ...event, reason, cause: message, remedy }, 'the log holds an event that no worker takes');
  }

  over(position: number): void {
    if (this.isOn) this.#log.info({ position }, 'relaying again');
    this.#failures = 0;
    this.#logged.clear();
  }
}

/** Relays until the lease is lost or the signal aborts. */
async function relayWith(lease: RelayLease, options: RelayOptions, trouble: Trouble): Promise<void> {
  const { store, signal, pageSize = defaultPageSize, onProgress } = options;
  const ending = AbortSignal.any([signal, lease.lost]);
  let { position } = lease;
  while (!ending.aborted) {
    const page: RecordedEvent[] = [];
    for await (const event of store.readAll({ after: position, limit: pageSize })) page.push(event);
    if (page.length === 0) {
      trouble.over(position);
      await store.waitForMore(position, ending);
      continue;
    }
    const messages = encodedPage(page, options.limits, trouble);
    await publishPage(messages, options.publisher, ending);
    if (lease.lost.aborted) return;
    position = messages.at(-1)!.position;
    if (!(await lease.advance(position))) return;
    trouble.over(position);
    onProgress?.({ published: messages.length, position });
  }
}

/**
 * Resolves when every event of the page is confirmed. An entity's next event is sent when the previous one is confirmed: the
 * broker may refuse one (its queue is full) and accept the next.
 */
async function publishPage(page: readonly PlacedMessage[], publisher: RelayOptions['publisher'], ending: AbortSignal): Promise<void> {
  const latest = new Map<string, Promise<PublishOutcome>>();
  const sent = page.map((message) => {
    const { entity } = message;
    const before = latest.get(entity);
    const outcome =
      before === undefined
        ? publisher.publish(message)
        : before.then((last) => (last.status === 'confirmed' ? publisher.publish(message) : last));
    latest.set(entity, outcome);
    return outcome;
  });
  for (const outcome of await Promise.all(sent)) {
    if (outcome.status === 'failed') throw ending.aborted ? new UnavailableError('the relay is ending') : outcome.error;
    if (outcome.status === 'returned')
      throw new UnavailableError(`the exchange has no queue for an event (${outcome.detail}): run \`inorder topology check\``);
  }
}

interface PlacedMessage extends PublishableMessage {
  readonly position: number;
  /** The same value for the same entity. */
  readonly entity: string;
}

/** The events before one that AMQP cannot carry, so that everything before it is confirmed when the relay stops. */
function encodedPage(page: readonly RecordedEvent[], limits: EventLimits, trouble: Trouble): readonly PlacedMessage[] {
  const messages: PlacedMessage[] = [];
  for (const event of page) {
    const message = encodedOrNull(event, limits, trouble);
    if (message !== null) {
      const { routingKey, body, properties } = message;
      messages.push({ routingKey, body, properties, position: event.position, entity: entityKey(event) });
      continue;
    }
    if (messages.length > 0) return messages;
    const { position, sequence, entityType, entityId, id } = event;
    throw new PermanentError(
      `event ${sequence} of ${entityType} ${JSON.stringify(entityId)} (id ${JSON.stringify(id)}, position ${position}) cannot be published: its entity id has more than the 255 bytes ` +
        'that a routing key takes, or its body more than the 128 MiB that a broker takes. Nothing behind it is published before it is taken out of the log, or the entity named again.',
    );
  }
  return messages;
}

/** Null when AMQP cannot carry it. */
function encodedOrNull(recorded: RecordedEvent, limits: EventLimits, trouble: Trouble): PublishableMessage | null {
  const { entityType, entityId, sequence, id, type, timestamp, dataJson, metadata } = recorded;
  const event = { id, entityType, entityId, sequence, type, timestamp, dataJson, metadata };
  try {
    return encodeEvent(event, { limits });
  } catch (error) {
    if (!(error instanceof EventError)) throw error;
    const message = encodeUnchecked(event);
    if (message === null || message.body.byteLength > maxMessageBytes) return null;
    trouble.name(recorded, error);
    return message;
  }
}

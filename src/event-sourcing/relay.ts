/**
 * Publishes what an event store holds, in order: the outbox of event-sourced entities. The store is the truth, and what was
 * appended to it is published however often the relay, the broker or the store fail in between.
 *
 *   acquire the lease ──▶ read a page behind the position ──▶ publish all of it ──▶ all confirmed ──▶ advance ─┐
 *         ▲                        ▲                                                                          │
 *         │                        └──────────────────────────────────────────────────────────────────────────┘
 *         └── the lease is lost, the store or the broker is unavailable ◀── at any point
 *
 * Guarantees that every event is published at least once, and that of an entity no event's first copy goes before that of an
 * earlier one: a page is sent in the order of positions, a refused event is overtaken by none of its entity, and the next page
 * waits until all of it is confirmed. Leaves to the worker that what was published twice has its effect once.
 *
 * An append refuses what could not be published. What got into the log all the same (by an earlier version, or before a limit was
 * lowered) is published as it is and named in the log: the worker dead-letters it with its reason, and its entity waits there.
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
  /** To the stream's exchange. */
  readonly publisher: Pick<AmqpPublisher, 'publish'>;
  /** What the workers accept. */
  readonly limits: EventLimits;
  readonly log: Log;
  /** Ends it after the page that is under way. */
  readonly signal: AbortSignal;
  readonly time: Time;
  /** Events that are read and published together. Default 500. */
  readonly pageSize?: number;
  /** Told after each page that was confirmed. */
  readonly onProgress?: (progress: { readonly published: number; readonly position: number }) => void;
}

const defaultPageSize = 500;
const retry = { initialMs: 200, maxMs: 10_000, leastShare: 0.5 };
/** RabbitMQ's default of max_message_size; with more the channel ends. */
const maxMessageBytes = 134_217_728;

/**
 * Runs until `signal` ends it; one that does not get the lease stands by.
 *
 * @throws PermanentError when AMQP cannot carry an event: it has to be dealt with before anything behind it can go.
 * @throws ConfigError when the store will never let itself be asked.
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

/** What keeps events from getting on, until one does. Each cause is told once, and what is tried again is tried less and less often. */
class Trouble {
  readonly #log: Log;
  readonly #time: Time;
  readonly #told = new Set<string>();
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
    if (!this.#told.has(message)) this.#log.warn({ cause: message }, 'the relay pauses: the store or the broker is unavailable');
    this.#told.add(message);
    return backOffMs(retry, ++this.#failures, this.#time);
  }

  /** Of an event that no worker takes: once, however often its page is tried. */
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
    this.#told.clear();
  }
}

/** Until the lease is lost or the signal aborted. */
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
 * Resolves when every event of the page is confirmed. An entity's next event is sent when the one before is confirmed: the
 * broker may refuse one (its queue is full) and take the next.
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
  /** The same for the same entity. */
  readonly entity: string;
}

/** What comes before an event that AMQP cannot carry, so that it is stopped at with everything before it confirmed. */
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

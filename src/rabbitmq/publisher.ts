/**
 * Publishes events in the order of the calls, on a separate connection. Each is sent
 * persistent and mandatory on one confirm channel and has exactly one outcome.
 *
 * Events in flight when the channel or the connection is lost are sent again, in order, before anything newer. The
 * broker may then have an event twice, but never the first copy of an event after that of a later one: confirmed events
 * are stored, and each new attempt sends the others in order.
 *
 * A refusal (a nack, or a channel that the broker closes because of a publish) is the exception: events that were in
 * flight behind the refused one may have been stored. Sending stops until everything in flight is answered; after
 * a back-off the rest is sent one by one until the refused events are stored or given up. With `maxOutstanding: 1` not
 * even a refused event is overtaken.
 */
import type { Tracer } from '@opentelemetry/api';
import type { ConfirmChannel } from 'amqplib';
import { UnavailableError } from '../errors.ts';
import type { Log } from '../observability/log.ts';
import { failSpan, publishSpan, registeredTracer } from '../observability/tracing.ts';
import { backOffMs, type Timer, within } from '../time.ts';
import type { BrokerConnection } from './connection.ts';
import { KeptChannel, type OpenChannel } from './kept-channel.ts';
import { Outbox, type OutboxEntry, type PublishableMessage, type PublishOutcome } from './outbox.ts';
import { blameOf, brokerWords, refused } from './refusal.ts';

export type { PublishableMessage, PublishableProperties, PublishOutcome } from './outbox.ts';

export interface PublisherOptions {
  /** Not shared with others: the broker may stop reading from it. The publisher does not close it. */
  readonly connection: Pick<BrokerConnection, 'current' | 'ending' | 'blocked' | 'listen' | 'time'>;
  readonly exchange: string;
  readonly log: Log;
  /** The most events without an outcome, beyond which `room` waits, and the most in flight. Default 1000. */
  readonly maxOutstanding?: number;
  /** The most bytes of their bodies, beyond which `room` waits. Default 64 MiB. */
  readonly maxOutboxBytes?: number;
  /** How often the broker may refuse an event before it is given up. Default 8, about half a minute. */
  readonly maxRefusals?: number;
}

export interface AmqpPublisher {
  /**
   * Publishes an event after those of earlier calls. Never rejects, and waits as long as the broker is unavailable. A caller that
   * does not wait for the outcome must wait for `room` before the next call, which keeps the outbox within its limits.
   */
  publish(message: PublishableMessage): Promise<PublishOutcome>;
  /** Resolves when the outbox has room, or the publisher is closed. */
  room(): Promise<void>;
  /** Events without an outcome. */
  readonly outstanding: number;
  /**
   * Accepts nothing more, waits for the outstanding events, fails the rest, and returns their number.
   * Default 30 s. A second call waits with the first.
   */
  close(timeoutMs?: number): Promise<{ readonly unconfirmed: number }>;
}

/** Between the attempts at a nacked event; eight of them take about half a minute. */
const retry = { initialMs: 200, maxMs: 10_000, leastShare: 0.5 };
const defaults = { maxOutstanding: 1_000, maxOutboxBytes: 64 * 1_048_576, maxRefusals: 8, closeTimeoutMs: 30_000 };

export function createAmqpPublisher(options: PublisherOptions): AmqpPublisher {
  return new ConfirmingPublisher(options);
}

class ConfirmingPublisher implements AmqpPublisher {
  readonly #options: PublisherOptions;
  readonly #maxInFlight: number;
  readonly #maxRefusals: number;
  readonly #outbox: Outbox;
  readonly #tracer = registeredTracer();
  readonly #kept: KeptChannel<ConfirmChannel>;
  readonly #stopListening: () => void;
  /** The channel's buffer is full, until `drain`. */
  #full = false;
  /** A refused event; one event is in flight at a time until it has its outcome. */
  #suspect: OutboxEntry | null = null;
  /** After a nack nothing is sent until everything is answered and a back-off has passed. */
  #holding = false;
  #resume: Timer | null = null;
  /** Refusals since the last confirm. */
  #refusalsInARow = 0;
  #waitingForRoom: (() => void)[] = [];
  #waitingForEmpty: (() => void)[] = [];
  #closed = false;
  #closing: Promise<{ readonly unconfirmed: number }> | null = null;

  constructor(options: PublisherOptions) {
    this.#options = options;
    const { connection, log, exchange } = options;
    this.#maxInFlight = options.maxOutstanding ?? defaults.maxOutstanding;
    this.#maxRefusals = options.maxRefusals ?? defaults.maxRefusals;
    this.#outbox = new Outbox({ maxEntries: this.#maxInFlight, maxBytes: options.maxOutboxBytes ?? defaults.maxOutboxBytes });
    this.#kept = new KeptChannel<ConfirmChannel>({
      connection,
      log,
      purpose: { exchange },
      open: (model) => model.createConfirmChannel(),
      opened: (open) => this.#opened(open),
      lost: (_, cause) => this.#lost(cause),
    });
    this.#stopListening = connection.listen({ up: () => {}, lost: () => {}, blocked: () => this.#pump() });
    this.#kept.start();
  }

  get outstanding(): number {
    return this.#outbox.size;
  }

  publish(message: PublishableMessage): Promise<PublishOutcome> {
    if (this.#closed) {
      return Promise.resolve({ status: 'failed', error: new UnavailableError('the publisher is closed') });
    }
    return this.#tracer === null ? this.#add(message) : this.#addTraced(message, this.#tracer);
  }

  #add(message: PublishableMessage): Promise<PublishOutcome> {
    return new Promise((resolve) => {
      this.#outbox.add(message, resolve);
      this.#pump();
    });
  }

  async #addTraced(message: PublishableMessage, tracer: Tracer): Promise<PublishOutcome> {
    const { span, headers } = publishSpan(tracer, this.#options.exchange, message);
    const outcome = await this.#add({ ...message, properties: { ...message.properties, headers } });
    if (outcome.status === 'returned') failSpan(span, 'returned', outcome.detail);
    if (outcome.status === 'failed') failSpan(span, outcome.error.name, outcome.error.message);
    span.end();
    return outcome;
  }

  async room(): Promise<void> {
    while (!this.#closed && !this.#outbox.hasRoom) await new Promise<void>((resolve) => this.#waitingForRoom.push(resolve));
  }

  close(timeoutMs = defaults.closeTimeoutMs): Promise<{ readonly unconfirmed: number }> {
    this.#closing ??= this.#close(timeoutMs);
    return this.#closing;
  }

  async #close(timeoutMs: number): Promise<{ readonly unconfirmed: number }> {
    this.#closed = true;
    this.#wake();
    if (this.#outbox.size > 0) {
      const empty = new Promise<void>((resolve) => this.#waitingForEmpty.push(resolve));
      await within(this.#options.connection.time, empty, timeoutMs);
    }
    const unconfirmed = this.#outbox.size;
    this.#stopListening();
    this.#endHolding();
    const stopped = this.#kept.stop();
    this.#giveUpAll(new UnavailableError('the publisher was closed before the broker confirmed this event'));
    await stopped;
    return { unconfirmed };
  }

  #opened({ channel }: OpenChannel<ConfirmChannel>): void {
    this.#full = false;
    channel.on('drain', () => {
      this.#full = false;
      this.#pump();
    });
    channel.on('return', ({ fields, properties, content }) => {
      this.#returned(fields.routingKey, properties.messageId, content, (fields as { replyText?: string }).replyText);
    });
    this.#pump();
  }

  #pump(): void {
    const open = this.#kept.current;
    if (open === null || this.#holding) return;
    const maxInFlight = this.#suspect === null ? this.#maxInFlight : 1;
    while (!this.#full && this.#options.connection.blocked === null && this.#outbox.inFlight < maxInFlight) {
      const entry = this.#outbox.takeNext();
      if (entry === null || !this.#send(open, entry)) return;
    }
  }

  /** False when the channel accepts nothing more: its loss is about to be reported, and the entry is sent again. */
  #send(open: OpenChannel<ConfirmChannel>, entry: OutboxEntry): boolean {
    const { routingKey, body, properties } = entry.message;
    const content = Buffer.isBuffer(body) ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength);
    try {
      this.#full = !open.channel.publish(
        this.#options.exchange,
        routingKey,
        content,
        { ...properties, mandatory: true, persistent: true },
        (refusal: Error | null) => this.#answered(open, entry, refusal),
      );
      return true;
    } catch (error) {
      if ((error as Error).name === 'IllegalOperationError') return false;
      // It cannot be encoded (a routing key over 255 bytes, a header of an unsupported type): nothing was sent.
      this.#settle(entry, { status: 'failed', error: error as Error });
      return true;
    }
  }

  #answered(open: OpenChannel<ConfirmChannel>, entry: OutboxEntry, refusal: Error | null): void {
    // After the end of a channel the client library's callbacks are not answers of the broker.
    if (this.#kept.current !== open) return;
    if (refusal !== null) this.#nacked(entry);
    else {
      this.#refusalsInARow = 0;
      this.#settle(entry, entry.returned === null ? { status: 'confirmed' } : { status: 'returned', detail: entry.returned });
    }
    if (this.#holding && this.#outbox.inFlight === 0) this.#resumeLater();
    this.#pump();
  }

  #nacked(entry: OutboxEntry): void {
    this.#outbox.putBack(entry);
    this.#refusalsInARow++;
    if (entry.refusals >= this.#maxRefusals) {
      const message = `the broker refused the event ${entry.refusals} times (nack): is its queue full?`;
      this.#settle(entry, { status: 'failed', error: new UnavailableError(message) });
      return;
    }
    this.#suspect = entry;
    this.#holding = true;
  }

  #resumeLater(): void {
    if (this.#resume !== null) return;
    const {
      log,
      exchange,
      connection: { time },
    } = this.#options;
    log.warn({ exchange, cause: 'nack', outstanding: this.#outbox.size }, 'the broker refused what was published; trying again');
    this.#resume = time.after(backOffMs(retry, this.#refusalsInARow, time), () => {
      this.#outbox.rewind();
      this.#endHolding();
      this.#pump();
    });
  }

  #endHolding(): void {
    this.#holding = false;
    this.#resume?.cancel();
    this.#resume = null;
  }

  /**
   * A returned message carries no delivery tag, so it is found by its content: the oldest equal one in flight. The broker
   * treats two equal messages alike.
   */
  #returned(routingKey: string, messageId: unknown, body: Buffer, replyText = 'no queue'): void {
    const entry = this.#outbox.findInFlight(({ message, returned }) => {
      return (
        returned === null && message.routingKey === routingKey && message.properties.messageId === messageId && body.equals(message.body)
      );
    });
    if (entry !== null) entry.returned = replyText;
  }

  #lost(cause: Error): void {
    const blame = blameOf(cause);
    const alone = this.#outbox.inFlight === 1;
    const suspect = this.#outbox.newestInFlight;
    this.#endHolding();
    this.#outbox.rewind();
    if (blame === 'nobody' || suspect === null) return;
    this.#suspect = suspect;
    this.#refusalsInARow++;
    const { log, exchange } = this.#options;
    log.warn(
      { exchange, cause: brokerWords(cause), outstanding: this.#outbox.size },
      'the broker refused what was published; trying again',
    );
    const error = refused('the broker refused the event', cause);
    if (blame === 'exchange') {
      if (this.#refusalsInARow >= this.#maxRefusals) this.#giveUpAll(error);
    } else if (alone) {
      // A violation of the protocol would happen again.
      this.#settle(suspect, { status: 'failed', error });
    }
  }

  #settle(entry: OutboxEntry, outcome: PublishOutcome): void {
    this.#outbox.settle(entry, outcome);
    if (this.#suspect === entry) this.#suspect = null;
    this.#wake();
  }

  #giveUpAll(error: Error): void {
    this.#suspect = null;
    this.#refusalsInARow = 0;
    this.#outbox.settleAll({ status: 'failed', error });
    this.#wake();
  }

  #wake(): void {
    if (this.#outbox.hasRoom || this.#closed) for (const resolve of this.#waitingForRoom.splice(0)) resolve();
    if (this.#outbox.size === 0) for (const resolve of this.#waitingForEmpty.splice(0)) resolve();
  }
}

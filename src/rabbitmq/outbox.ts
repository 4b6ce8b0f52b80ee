/**
 * The events that were given to the publisher and have no outcome yet, in that order. It keeps the order over every
 * loss: after `rewind` all of them are sent again from the oldest, before anything newer.
 * It knows nothing of channels and time; the publisher marks and settles entries.
 */

export type PublishOutcome =
  /** The broker has stored it in a queue, as durably as that queue is. */
  | { readonly status: 'confirmed' }
  /** No queue is bound for it, also not through an alternate exchange. */
  | { readonly status: 'returned'; readonly detail: string }
  /** It may not be stored: refused by the broker, impossible to send, or unconfirmed when the publisher gave up. */
  | { readonly status: 'failed'; readonly error: Error };

export interface PublishableProperties {
  readonly contentType?: string;
  readonly contentEncoding?: string;
  readonly messageId?: string;
  readonly correlationId?: string;
  readonly replyTo?: string;
  readonly type?: string;
  /** In seconds since 1970. */
  readonly timestamp?: number;
  readonly headers?: Readonly<Record<string, unknown>>;
}

export interface PublishableMessage {
  readonly routingKey: string;
  readonly body: Uint8Array;
  /** Messages are always persistent and mandatory. */
  readonly properties: PublishableProperties;
}

export interface OutboxEntry {
  readonly message: PublishableMessage;
  readonly resolve: (outcome: PublishOutcome) => void;
  state: 'waiting' | 'sent' | 'settled';
  /** Why the broker returned it; the confirm follows. */
  returned: string | null;
  /** How often the broker has refused it. */
  refusals: number;
}

export interface OutboxLimits {
  /** Events without an outcome. */
  readonly maxEntries: number;
  /** Bytes of their bodies. */
  readonly maxBytes: number;
}

/** The number of settled entries at the front at which they are removed. */
const compactAfter = 1_024;

export class Outbox {
  readonly #limits: OutboxLimits;
  #entries: OutboxEntry[] = [];
  /** Everything before it is settled. */
  #head = 0;
  /** Everything before it is sent or settled. */
  #next = 0;
  #size = 0;
  #inFlight = 0;
  #bytes = 0;

  constructor(limits: OutboxLimits) {
    this.#limits = limits;
  }

  /** Entries without an outcome. */
  get size(): number {
    return this.#size;
  }

  /** Entries that are sent and have no outcome. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** One event always fits into an empty outbox, however large it is. */
  get hasRoom(): boolean {
    return this.#size === 0 || (this.#size < this.#limits.maxEntries && this.#bytes < this.#limits.maxBytes);
  }

  add(message: PublishableMessage, resolve: (outcome: PublishOutcome) => void): void {
    this.#entries.push({ message, resolve, state: 'waiting', returned: null, refusals: 0 });
    this.#size++;
    this.#bytes += message.body.byteLength;
  }

  /** Marks the oldest entry to send as in flight and returns it, or null. */
  takeNext(): OutboxEntry | null {
    while (this.#next < this.#entries.length) {
      const entry = this.#entries[this.#next++]!;
      if (entry.state !== 'waiting') continue;
      entry.state = 'sent';
      this.#inFlight++;
      return entry;
    }
    return null;
  }

  /** The newest entry that is in flight, or null. */
  get newestInFlight(): OutboxEntry | null {
    for (let index = this.#next - 1; index >= this.#head; index--) {
      const entry = this.#entries[index]!;
      if (entry.state === 'sent') return entry;
    }
    return null;
  }

  /** The oldest entry in flight that satisfies the predicate, or null. */
  findInFlight(matches: (entry: OutboxEntry) => boolean): OutboxEntry | null {
    for (let index = this.#head; index < this.#next; index++) {
      const entry = this.#entries[index]!;
      if (entry.state === 'sent' && matches(entry)) return entry;
    }
    return null;
  }

  /** The broker refused this entry: it is no longer in flight, and is sent again after a `rewind`. */
  putBack(entry: OutboxEntry): void {
    if (entry.state !== 'sent') return;
    entry.state = 'waiting';
    entry.refusals++;
    this.#inFlight--;
  }

  /** Entries in flight or put back are to be sent again, in order, before anything that was never sent. */
  rewind(): void {
    for (let index = this.#head; index < this.#next; index++) {
      const entry = this.#entries[index]!;
      if (entry.state !== 'sent') continue;
      entry.state = 'waiting';
      entry.returned = null;
    }
    this.#inFlight = 0;
    this.#next = this.#head;
  }

  settle(entry: OutboxEntry, outcome: PublishOutcome): void {
    if (entry.state === 'settled') return;
    if (entry.state === 'sent') this.#inFlight--;
    entry.state = 'settled';
    this.#size--;
    this.#bytes -= entry.message.body.byteLength;
    this.#dropSettled();
    entry.resolve(outcome);
  }

  settleAll(outcome: PublishOutcome): void {
    for (const entry of this.#entries.slice(this.#head)) this.settle(entry, outcome);
  }

  #dropSettled(): void {
    while (this.#head < this.#entries.length && this.#entries[this.#head]!.state === 'settled') this.#head++;
    if (this.#next < this.#head) this.#next = this.#head;
    if (this.#head < compactAfter && this.#head < this.#entries.length) return;
    this.#entries = this.#entries.slice(this.#head);
    this.#next -= this.#head;
    this.#head = 0;
  }
}

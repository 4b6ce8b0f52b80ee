/**
 * What has been handed over for publishing and has no outcome yet, in the order in which it was handed over. Keeps
 * that order over every loss: after `rewind`, all of it is sent again from the oldest, before anything newer.
 * Knows nothing of channels and time; whoever sends marks and settles.
 */

export type PublishOutcome =
  /** The broker has it: in a queue, on disk, replicated as the queue says. */
  | { readonly status: 'confirmed' }
  /** No queue took it: nothing is bound, and there is no alternate exchange, or nothing is bound to that. */
  | { readonly status: 'returned'; readonly detail: string }
  /** It is not known to be stored: refused by the broker, impossible to send, or given up unconfirmed. */
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
  /** Messages are persistent and mandatory, whatever is said here. */
  readonly properties: PublishableProperties;
}

export interface OutboxEntry {
  readonly message: PublishableMessage;
  readonly resolve: (outcome: PublishOutcome) => void;
  state: 'waiting' | 'sent' | 'settled';
  /** Why the broker gave it back; it confirms it afterwards. */
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

/** Settled entries at the front are dropped when there are so many. */
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

  /** The oldest entry that is to be sent, now in flight; or null. */
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

  /** The broker has refused this one: it is no longer in flight, and is sent again after a `rewind`. */
  putBack(entry: OutboxEntry): void {
    if (entry.state !== 'sent') return;
    entry.state = 'waiting';
    entry.refusals++;
    this.#inFlight--;
  }

  /** What is in flight or was put back is to be sent again, in its order, before anything that was never sent. */
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

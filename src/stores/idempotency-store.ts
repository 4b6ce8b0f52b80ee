/**
 * Remembers which messages were processed, and their results, for handlers that are used without a worker
 * (src/idempotency). A worker does not need it: its commits remember ids.
 *
 * In memory here, in Redis in `redis/idempotency-store.ts`. Every implementation guarantees: `begin` is one atomic step, so exactly one
 * of any number of concurrent callers gets `started`; a lease ends with `complete`, `release` or its time, whichever comes first; a
 * completed result is never overwritten. The same call again, after a lost reply, returns the same.
 */
import { type Time, systemTime } from '../time.ts';

export type Begun =
  /** The caller alone processes the message until the lease ends. */
  | { readonly status: 'started'; readonly lease: string }
  /** Another caller is processing it; `leaseLeftMs` is the rest of its lease, in milliseconds. */
  | { readonly status: 'in-progress'; readonly leaseLeftMs: number }
  /** It was processed; `result` is returned byte for byte, null if there was none. */
  | { readonly status: 'done'; readonly result: string | null };

/** Every method rejects with `UnavailableError` when the outcome of the call is unknown. */
export interface IdempotencyStore {
  begin(id: string): Promise<Begun>;
  /** Remembers the result. False when the lease had ended and another caller has started or completed meanwhile: theirs stays. */
  complete(id: string, lease: string, result: string | null): Promise<boolean>;
  /** Releases the lease: the next caller gets `started`. No effect when the lease has ended. */
  release(id: string, lease: string): Promise<void>;
  close(): Promise<void>;
}

/** Options of every implementation. */
export interface IdempotencyStoreOptions {
  /** How long a result is remembered, in seconds. Default 86,400 (a day). */
  readonly ttlSeconds?: number;
  /**
   * The longest duration of a lease, in milliseconds. Default 60,000. It must exceed the longest run of the handler, or a second
   * run starts; and it is how long a message waits after its handler crashed.
   */
  readonly leaseMs?: number;
  /** Default: the system's clock. */
  readonly time?: Time;
}

export const defaultIdempotencyTtlSeconds = 86_400;
export const defaultIdempotencyLeaseMs = 60_000;

export type MemoryIdempotencyStoreOptions = IdempotencyStoreOptions;

interface MemoryRecord {
  /** Null once it is completed. */
  readonly lease: string | null;
  readonly result: string | null;
  readonly endsAtMs: number;
}

/** Records in memory: for tests, and for a single process whose records may end with it. Every call takes effect at once. */
export function createMemoryIdempotencyStore(options: MemoryIdempotencyStoreOptions = {}): IdempotencyStore {
  return new MemoryIdempotencyStore(options);
}

class MemoryIdempotencyStore implements IdempotencyStore {
  readonly #time: Time;
  readonly #ttlMs: number;
  readonly #leaseMs: number;
  /** In the order of writing. */
  readonly #records = new Map<string, MemoryRecord>();
  #lastLease = 0;

  constructor(options: MemoryIdempotencyStoreOptions) {
    const { ttlSeconds = defaultIdempotencyTtlSeconds, leaseMs = defaultIdempotencyLeaseMs, time = systemTime } = options;
    this.#time = time;
    this.#ttlMs = ttlSeconds * 1000;
    this.#leaseMs = leaseMs;
  }

  async begin(id: string): Promise<Begun> {
    const record = this.#find(id);
    if (record === undefined) {
      const lease = String(++this.#lastLease);
      this.#write(id, { lease, result: null, endsAtMs: this.#time.nowMs() + this.#leaseMs });
      return { status: 'started', lease };
    }
    if (record.lease === null) return { status: 'done', result: record.result };
    return { status: 'in-progress', leaseLeftMs: record.endsAtMs - this.#time.nowMs() };
  }

  async complete(id: string, lease: string, result: string | null): Promise<boolean> {
    const record = this.#find(id);
    if (record !== undefined && record.lease !== lease) return record.lease === null && record.result === result;
    this.#write(id, { lease: null, result, endsAtMs: this.#time.nowMs() + this.#ttlMs });
    return true;
  }

  async release(id: string, lease: string): Promise<void> {
    if (this.#find(id)?.lease === lease) this.#records.delete(id);
  }

  async close(): Promise<void> {
    this.#records.clear();
  }

  #find(id: string): MemoryRecord | undefined {
    const record = this.#records.get(id);
    return record === undefined || record.endsAtMs <= this.#time.nowMs() ? undefined : record;
  }

  #write(id: string, record: MemoryRecord): void {
    this.#records.delete(id);
    this.#records.set(id, record);
    this.#forgetExpired();
  }

  /** Removes from the oldest up to the first valid record: each record is visited once. */
  #forgetExpired(): void {
    const nowMs = this.#time.nowMs();
    for (const [id, { endsAtMs }] of this.#records) {
      if (endsAtMs > nowMs) return;
      this.#records.delete(id);
    }
  }
}

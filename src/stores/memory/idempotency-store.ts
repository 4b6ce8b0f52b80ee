/**
 * Idempotency records in memory: for tests, and for a single process that may forget when it ends. Every call
 * takes effect at once; time comes from `now` alone.
 */
import {
  type Begun, defaultIdempotencyLeaseMs, defaultIdempotencyTtlSeconds, type IdempotencyStore, type IdempotencyStoreOptions,
} from '../idempotency-store.ts';

export interface MemoryIdempotencyStoreOptions extends IdempotencyStoreOptions {
  /** Milliseconds; never goes back. Default `performance.now`. */
  readonly now?: () => number;
}

interface MemoryRecord {
  /** Null once it is completed. */
  readonly claim: string | null;
  readonly result: string | null;
  readonly endsAtMs: number;
}

export function createMemoryIdempotencyStore(options: MemoryIdempotencyStoreOptions = {}): IdempotencyStore {
  return new MemoryIdempotencyStore(options);
}

class MemoryIdempotencyStore implements IdempotencyStore {
  readonly #now: () => number;
  readonly #ttlMs: number;
  readonly #leaseMs: number;
  /** In the order in which they were written. */
  readonly #records = new Map<string, MemoryRecord>();
  #lastClaim = 0;

  constructor({ ttlSeconds = defaultIdempotencyTtlSeconds, leaseMs = defaultIdempotencyLeaseMs, now = () => performance.now() }: MemoryIdempotencyStoreOptions) {
    this.#now = now;
    this.#ttlMs = ttlSeconds * 1000;
    this.#leaseMs = leaseMs;
  }

  async begin(id: string): Promise<Begun> {
    const record = this.#find(id);
    if (record === undefined) {
      const claim = String(++this.#lastClaim);
      this.#write(id, { claim, result: null, endsAtMs: this.#now() + this.#leaseMs });
      return { status: 'started', claim };
    }
    if (record.claim === null) return { status: 'done', result: record.result };
    return { status: 'in-progress', leaseLeftMs: record.endsAtMs - this.#now() };
  }

  async complete(id: string, claim: string, result: string | null): Promise<boolean> {
    const record = this.#find(id);
    if (record !== undefined && record.claim !== claim) return record.claim === null && record.result === result;
    this.#write(id, { claim: null, result, endsAtMs: this.#now() + this.#ttlMs });
    return true;
  }

  async release(id: string, claim: string): Promise<void> {
    if (this.#find(id)?.claim === claim) this.#records.delete(id);
  }

  async close(): Promise<void> {
    this.#records.clear();
  }

  #find(id: string): MemoryRecord | undefined {
    const record = this.#records.get(id);
    return record === undefined || record.endsAtMs <= this.#now() ? undefined : record;
  }

  #write(id: string, record: MemoryRecord): void {
    this.#records.delete(id);
    this.#records.set(id, record);
    this.#forgetExpired();
  }

  /** From the oldest up to the first that is still good: each record is passed once. */
  #forgetExpired(): void {
    const nowMs = this.#now();
    for (const [id, { endsAtMs }] of this.#records) {
      if (endsAtMs > nowMs) return;
      this.#records.delete(id);
    }
  }
}

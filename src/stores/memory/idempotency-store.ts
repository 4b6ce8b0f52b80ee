/**
 * Idempotency records in memory: for tests, and for a single process whose records may end with it. Every call
 * takes effect at once.
 */
import {
  type Begun,
  defaultIdempotencyLeaseMs,
  defaultIdempotencyTtlSeconds,
  type IdempotencyStore,
  type IdempotencyStoreOptions,
} from '../idempotency-store.ts';
import { systemTime, type Time } from '../../time.ts';

export type MemoryIdempotencyStoreOptions = IdempotencyStoreOptions;

interface MemoryRecord {
  /** Null once it is completed. */
  readonly lease: string | null;
  readonly result: string | null;
  readonly endsAtMs: number;
}

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

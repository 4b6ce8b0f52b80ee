/**
 * Remembers which messages were processed, and their results, for handlers that are used without a worker
 * (src/idempotency). A worker does not need it: its commits remember ids.
 *
 * Every implementation guarantees: `begin` is one atomic step, so exactly one of any number of concurrent callers
 * gets `started`; a lease ends with `complete`, `release` or its time, whichever comes first; a completed result
 * is never overwritten. The same call again, after a lost reply, returns the same.
 */
import type { Time } from '../time.ts';

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

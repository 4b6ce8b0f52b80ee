/**
 * Remembers which messages were processed and what came of it, for handlers that stand on their own
 * (src/idempotency). The worker does not use it: there, the commit itself remembers.
 *
 * Guarantees asked of an implementation: `begin` is one atomic step, so of any number of concurrent callers one
 * gets `started`; a lease ends with `complete`, `release` or its time, whichever is first; what was completed
 * is never overwritten. The same call again, after its reply was lost, answers the same.
 */
import type { Time } from '../time.ts';

export type Begun =
  /** The caller processes the message, and nobody else until the lease ends. */
  | { readonly status: 'started'; readonly lease: string }
  /** Somebody else is at it; their lease ends by itself after so long, in milliseconds. */
  | { readonly status: 'in-progress'; readonly leaseLeftMs: number }
  /** It was processed; `result` comes back byte for byte, null when there was none. */
  | { readonly status: 'done'; readonly result: string | null };

/** Every method rejects with `UnavailableError` when the store cannot say what became of the call. */
export interface IdempotencyStore {
  begin(id: string): Promise<Begun>;
  /** Remembers the result. False when the lease had ended and somebody else has begun or remembered another one meanwhile: theirs stays. */
  complete(id: string, lease: string, result: string | null): Promise<boolean>;
  /** Gives the lease up without a trace: the next caller starts again. Without effect when the lease has ended. */
  release(id: string, lease: string): Promise<void>;
  close(): Promise<void>;
}

/** What every implementation is told. */
export interface IdempotencyStoreOptions {
  /** How long a result is remembered, in seconds. Default 86,400 (a day). */
  readonly ttlSeconds?: number;
  /**
   * How long a lease holds when nothing ends it, in milliseconds. Default 60,000. It must exceed the time that the
   * handler may take, or a second one starts; and it is how long a message waits whose handler crashed.
   */
  readonly leaseMs?: number;
  /** Default: that of the computer. */
  readonly time?: Time;
}

export const defaultIdempotencyTtlSeconds = 86_400;
export const defaultIdempotencyLeaseMs = 60_000;

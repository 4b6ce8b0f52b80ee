/**
 * Slows down whoever guesses the token: after a few failures an address has to wait, each time twice as long. Bounded
 * in memory. Time comes in as an argument.
 */

const free = 5;
const firstWaitMs = 1_000;
const longestWaitMs = 60_000;
/** An address that failed so long ago starts afresh. */
const forgetAfterMs = 15 * 60_000;
const maxAddresses = 1_000;

interface Failures {
  readonly count: number;
  readonly lastMs: number;
}

export class FailedAttempts {
  /** The one that failed longest ago first. */
  readonly #failures = new Map<string, Failures>();

  /** How long nothing is accepted from this address; 0: it may try. */
  waitMs(address: string, nowMs: number): number {
    const failures = this.#of(address, nowMs);
    if (failures === null || failures.count < free) return 0;
    const wholeMs = Math.min(longestWaitMs, firstWaitMs * 2 ** (failures.count - free));
    return Math.max(0, failures.lastMs + wholeMs - nowMs);
  }

  failed(address: string, nowMs: number): void {
    const count = (this.#of(address, nowMs)?.count ?? 0) + 1;
    this.#failures.delete(address);
    this.#failures.set(address, { count, lastMs: nowMs });
    if (this.#failures.size <= maxAddresses) return;
    for (const oldest of this.#failures.keys()) {
      this.#failures.delete(oldest);
      return;
    }
  }

  succeeded(address: string): void {
    this.#failures.delete(address);
  }

  #of(address: string, nowMs: number): Failures | null {
    const failures = this.#failures.get(address);
    return failures === undefined || nowMs - failures.lastMs > forgetAfterMs ? null : failures;
  }
}

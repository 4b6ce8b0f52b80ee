/** Relay leases for tests, within one process: who asked first gets the lease when it is free. */
import type { RelayLease, RelayLeases } from '../../src/stores/relay-lease.ts';

export class MemoryRelayLeases implements RelayLeases {
  #position = 0;
  #held = false;
  readonly #waiting: (() => void)[] = [];

  async acquire(signal: AbortSignal): Promise<RelayLease | null> {
    while (this.#held && !signal.aborted) await this.#untilFree(signal);
    if (signal.aborted) return null;
    this.#held = true;
    return this.#lease();
  }

  async close(): Promise<void> {}

  #lease(): RelayLease {
    const lost = new AbortController();
    return {
      position: this.#position,
      lost: lost.signal,
      advance: async (position) => {
        if (lost.signal.aborted) return false;
        this.#position = position;
        return true;
      },
      release: async () => {
        if (lost.signal.aborted) return;
        lost.abort();
        this.#held = false;
        for (const wake of this.#waiting.splice(0)) wake();
      },
    };
  }

  #untilFree(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
  }
}

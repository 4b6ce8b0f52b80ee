/**
 * The lease of the one active relay that publishes a stream's events from its log, and its position; other relays wait.
 *
 * The lease lasts for some seconds by the store's clock and is renewed while its holder lives: a relay that dies, or is cut off
 * from the store, loses it. It is no lock: a relay that was paused may still believe that it holds the lease. Fencing keeps the
 * order: only the holder of the newest lease can advance the position, so a relay starts where everything before is
 * confirmed. Whatever its predecessor published beyond that is published again, as duplicates.
 */
import type { Log } from '../observability/log.ts';
import { every, sleep, type Time } from '../time.ts';

export interface RelayLease {
  /** When the lease was taken, every event up to here was published and confirmed. */
  readonly position: number;
  /** Aborted when another relay may have taken over: start nothing more. */
  readonly lost: AbortSignal;
  /**
   * Call when everything up to `position` is confirmed.
   *
   * @returns false when another relay holds the lease: nothing was written.
   * @throws UnavailableError when the outcome is unknown: repeating it does no harm.
   */
  advance(position: number): Promise<boolean>;
  /** Lets the next relay take over at once. Never rejects. */
  release(): Promise<void>;
}

export interface RelayLeases {
  /**
   * Waits until the lease of the stream is free and takes it. Null when `signal` aborts first.
   *
   * @throws UnavailableError when the store does not answer; ConfigError when it refuses for good.
   */
  acquire(signal: AbortSignal): Promise<RelayLease | null>;
  close(): Promise<void>;
}

/** Options of every implementation. */
export interface RelayLeasesOptions {
  readonly url: string;
  readonly stream: string;
  /** Shown by the store for its connections. Default: that of a program. */
  readonly name?: string;
  readonly log?: Pick<Log, 'warn'>;
  /** How long after the last renewal the lease becomes free, in milliseconds. Default 10,000. */
  readonly leaseMs?: number;
  readonly time: Time;
}

export const defaultLeaseMs = 10_000;

export interface HeldLease {
  readonly epoch: number;
  readonly position: number;
}

/** The row of the lease in a store: each step is atomic, by the store's clock. */
export interface LeaseRow {
  /**
   * `take` it if it is free, under the next epoch. The other steps need the present epoch: `keep` renews it,
   * `advance` moves the position and renews it, `release` frees it. Null when another relay holds it; nothing was written then.
   *
   * @param session Random, of the holder: a store that lost its tail hands an epoch out twice.
   */
  step(what: 'take' | 'keep' | 'advance' | 'release', session: string, epoch: number, position: number): Promise<HeldLease | null>;
  close(): Promise<void>;
}

/** Between two looks at a lease that another relay holds. */
const pollMs = 250;
const keepsPerLease = 4;

export class StoredRelayLeases implements RelayLeases {
  readonly #row: LeaseRow;
  readonly #leaseMs: number;
  readonly #time: Time;

  /** `leaseMs`: how long after the last renewal the lease becomes free. */
  constructor(row: LeaseRow, leaseMs: number, time: Time) {
    this.#row = row;
    this.#leaseMs = leaseMs;
    this.#time = time;
  }

  async acquire(signal: AbortSignal): Promise<RelayLease | null> {
    while (!signal.aborted) {
      const askedAtMs = this.#time.nowMs();
      const session = this.#time.uuid();
      const taken = await this.#row.step('take', session, 0, 0);
      if (taken !== null) return this.#lease(session, taken, askedAtMs);
      await sleep(this.#time, pollMs, signal);
    }
    return null;
  }

  close(): Promise<void> {
    return this.#row.close();
  }

  #lease(session: string, { epoch, position }: HeldLease, takenAtMs: number): RelayLease {
    const lost = new AbortController();
    const everyMs = this.#leaseMs / keepsPerLease;
    // Counted from before the request: here the lease ends no later than in the store.
    let lastsUntilMs = takenAtMs + this.#leaseMs;
    const step = async (what: 'keep' | 'advance', to = 0): Promise<boolean> => {
      const askedAtMs = this.#time.nowMs();
      const kept = await this.#row.step(what, session, epoch, to);
      if (kept === null) lost.abort();
      else lastsUntilMs = askedAtMs + this.#leaseMs;
      return kept !== null;
    };
    const keep = () => {
      // If the store does not answer, the lease lasts until it expires; the next look might be too late.
      if (this.#time.nowMs() + everyMs >= lastsUntilMs) lost.abort();
      else step('keep').catch(() => undefined);
    };
    const keeping = every(this.#time, everyMs, keep, { unref: true });
    lost.signal.addEventListener('abort', () => keeping.cancel(), { once: true });
    return {
      position,
      lost: lost.signal,
      advance: (to) => step('advance', to),
      release: async () => {
        keeping.cancel();
        if (!lost.signal.aborted) await this.#row.step('release', session, epoch, 0).catch(() => undefined);
      },
    };
  }
}

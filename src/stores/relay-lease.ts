/**
 * Who relays a stream's events from its log to the broker, and how far it has come: one at a time, the others wait.
 *
 * The lease lasts for some seconds by the store's clock and is kept as long as its holder lives: whoever dies, or is cut off from
 * the store, loses it. It is no lock: a relay that was paused may still think that it has it. What keeps the order then is that
 * progress is fenced: only the holder of the newest lease can move the position on, so that a relay begins where everything before
 * is confirmed; what its predecessor published beyond is published again, and is a duplicate.
 */
import { every, sleep, type Time } from '../time.ts';

export interface RelayLease {
  /** Up to here every event was published and confirmed when the lease was taken. */
  readonly position: number;
  /** Aborted when somebody else may have taken over: begin nothing more. */
  readonly lost: AbortSignal;
  /**
   * Everything up to `position` is confirmed.
   *
   * @returns false when somebody else has the lease: nothing was written.
   * @throws UnavailableError when it is not known whether it was written: once more does no harm.
   */
  advance(position: number): Promise<boolean>;
  /** The next one may take over at once. Never rejects. */
  release(): Promise<void>;
}

export interface RelayLeases {
  /**
   * Resolves when the lease of the stream is ours; until then another relay has it. Null when `signal` ends the waiting.
   *
   * @throws UnavailableError when the store cannot be asked; ConfigError when it never will let itself be asked.
   */
  acquire(signal: AbortSignal): Promise<RelayLease | null>;
  close(): Promise<void>;
}

/** The row that a store keeps: each step is atomic, by the store's clock. */
export interface LeaseRow {
  /**
   * `take`: if nobody has it, under the next epoch. The others only under the epoch that is there: `keep` it for as long again,
   * `advance` to a position and keep it, `release` it. Null when another one has it; nothing was written then.
   *
   * @param session Random, of whoever takes it: a store that lost its tail gives an epoch out twice.
   */
  step(
    what: 'take' | 'keep' | 'advance' | 'release',
    session: string,
    epoch: number,
    position: number,
  ): Promise<{ readonly epoch: number; readonly position: number } | null>;
  close(): Promise<void>;
}

/** Between two looks at a lease that another one has. */
const pollMs = 250;
const keepsPerLease = 4;

export class StoredRelayLeases implements RelayLeases {
  readonly #row: LeaseRow;
  readonly #leaseMs: number;
  readonly #time: Time;

  /** `leaseMs`: how long after its holder's last sign of life the lease is free. */
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

  #lease(session: string, { epoch, position }: { readonly epoch: number; readonly position: number }, takenAtMs: number): RelayLease {
    const lost = new AbortController();
    const everyMs = this.#leaseMs / keepsPerLease;
    // From before asking: here it has run out no later than at the store.
    let lastsUntilMs = takenAtMs + this.#leaseMs;
    const step = async (what: 'keep' | 'advance', to = 0): Promise<boolean> => {
      const askedAtMs = this.#time.nowMs();
      const kept = await this.#row.step(what, session, epoch, to);
      if (kept === null) lost.abort();
      else lastsUntilMs = askedAtMs + this.#leaseMs;
      return kept !== null;
    };
    const keep = () => {
      // What cannot be asked is ours until it has run out by itself; the next look might be too late.
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

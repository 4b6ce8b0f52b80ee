/**
 * Who relays a stream's events from its log to the broker, and how far it has come: one at a time, the others wait.
 *
 * The lease is no lock: a relay that was paused may still think that it has it. What keeps the order then is that progress is
 * fenced: only the holder of the newest lease can move the position on, so that a relay begins where everything before is
 * confirmed; what its predecessor published beyond is published again, and is a duplicate.
 */

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
   * @throws UnavailableError when the store cannot be asked.
   */
  acquire(signal: AbortSignal): Promise<RelayLease | null>;
  close(): Promise<void>;
}

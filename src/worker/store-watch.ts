/**
 * Notices a store that went backwards: emptied, or restored from an old copy. Epochs only ever grow, so a
 * counter that is lower than one already seen, or that gives one out again, proves that committed versions are gone
 * too, whether or not an entity of ours shows it. The shards then stop and say so, because going on would apply old events again.
 */
import { UnavailableError } from '../errors.ts';
import type { Store } from '../stores/store.ts';

export interface StoreWatchOptions {
  readonly store: Pick<Store, 'currentEpoch' | 'nextEpoch'>;
  readonly intervalMs: number;
  readonly onBackwards: (detail: string) => void;
  readonly onError: (error: unknown) => void;
}

export class StoreWatch {
  readonly #options: StoreWatchOptions;
  #highest = 0;
  #timer: NodeJS.Timeout | null = null;
  #stopped = false;

  constructor(options: StoreWatchOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = setTimeout(() => void this.#look(), this.#options.intervalMs);
  }

  /** Learns where the store's counter stands before anything is decided from it. */
  async begin(): Promise<void> {
    this.#saw(await this.#options.store.currentEpoch());
  }

  /** A new epoch. A store that was emptied counts from 1, and might have caught up before anybody looks. */
  async nextEpoch(): Promise<number> {
    // Taken before asking, as below.
    const expected = this.#highest;
    const epoch = await this.#options.store.nextEpoch();
    if (epoch > expected) this.#saw(epoch);
    else if (!this.#stopped) this.#options.onBackwards(`epoch ${expected} was given out, and now ${epoch}`);
    return epoch;
  }

  /** Looks now and not only when it is time: a store that was away may have come back with less. */
  lookNow(): void {
    if (this.#timer === null) return;
    clearTimeout(this.#timer);
    void this.#look();
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #saw(epoch: number): void {
    if (epoch > this.#highest) this.#highest = epoch;
  }

  async #look(): Promise<void> {
    this.#timer = null;
    // Taken before asking: an epoch seen while the answer is on its way may be newer than the answer.
    const expected = this.#highest;
    try {
      const epoch = await this.#options.store.currentEpoch();
      if (this.#stopped) return;
      if (epoch < expected) {
        this.#options.onBackwards(`epoch ${expected} was given out, but the store's counter stands at ${epoch}`);
        return;
      }
      this.#saw(epoch);
    } catch (error) {
      if (this.#stopped) return;
      // An unreachable store says nothing; the shards notice it by themselves.
      if (!(error instanceof UnavailableError)) this.#options.onError(error);
    }
    this.start();
  }
}

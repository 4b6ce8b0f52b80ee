/**
 * Notices a store that went backwards: emptied, or restored from an old copy. Epochs only ever grow, so a
 * counter that is lower than one already seen proves that committed versions are gone too, whether or not
 * an entity of ours shows it. The shards then stop and say so, because going on would apply old events again.
 */
import { UnavailableError } from '../errors.ts';
import type { Store } from '../stores/store.ts';

export interface StoreWatchOptions {
  readonly store: Pick<Store, 'currentEpoch'>;
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

  /** An epoch that the store gave out. */
  saw(epoch: number): void {
    if (epoch > this.#highest) this.#highest = epoch;
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  async #look(): Promise<void> {
    // Taken before asking: an epoch seen while the answer is on its way may be newer than the answer.
    const expected = this.#highest;
    try {
      const epoch = await this.#options.store.currentEpoch();
      if (this.#stopped) return;
      if (epoch < expected) {
        this.#options.onBackwards(`epoch ${expected} was given out, but the store's counter stands at ${epoch}`);
        return;
      }
      this.saw(epoch);
    } catch (error) {
      if (this.#stopped) return;
      // An unreachable store says nothing; the shards notice it by themselves.
      if (!(error instanceof UnavailableError)) this.#options.onError(error);
    }
    this.start();
  }
}

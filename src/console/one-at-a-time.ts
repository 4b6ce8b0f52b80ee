/** Lets one piece of work begin when the one before it has ended, however that ended. */
export class OneAtATime {
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  /** Whether any is under way or waits. */
  get busy(): boolean {
    return this.#waiting > 0;
  }

  run<T>(work: () => Promise<T>): Promise<T> {
    this.#waiting++;
    const result = this.#last.then(work).finally(() => void this.#waiting--);
    this.#last = result.catch(() => undefined);
    return result;
  }
}

/**
 * A clock that stands still until the test moves it, and chance that always falls alike. A promise that settles because of a timer
 * does so after `advance` has returned.
 */
import type { Time, Timer } from '../../src/time.ts';

export class ManualTime implements Time {
  /** What both clocks say, in milliseconds. Set it to let time pass that nobody waits for. */
  atMs: number;
  readonly #timers = new Map<Timer, { readonly dueMs: number; readonly go: () => void }>();
  #uuids = 0;

  constructor(atMs = 0) {
    this.atMs = atMs;
  }

  nowMs(): number {
    return this.atMs;
  }

  wallMs(): number {
    return this.atMs;
  }

  after(ms: number, go: () => void): Timer {
    const timer = { cancel: () => void this.#timers.delete(timer) };
    this.#timers.set(timer, { dueMs: this.atMs + ms, go });
    return timer;
  }

  afterTick(go: () => void): void {
    this.after(0, go);
  }

  random(): number {
    return 0;
  }

  uuid(): string {
    return `00000000-0000-4000-8000-${String(++this.#uuids).padStart(12, '0')}`;
  }

  /** Lets timers go off in the order in which they are due; of two at once, the one that was set first. */
  advance(ms: number): void {
    const untilMs = this.atMs + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, { dueMs }]) => dueMs <= untilMs).sort(([, a], [, b]) => a.dueMs - b.dueMs)[0];
      if (due === undefined) break;
      const [timer, { dueMs, go }] = due;
      this.#timers.delete(timer);
      this.atMs = Math.max(this.atMs, dueMs);
      go();
    }
    this.atMs = untilMs;
  }
}

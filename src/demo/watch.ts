/**
 * Looks at the workers of the demo many times a second, for what only they know: how much they hold and how often
 * something came too early. The counts of a killed worker stay as they were last seen, so they are a lower bound.
 */
import { sleep, type Time } from '../time.ts';
import type { DemoWorker } from './demo-worker.ts';

export interface Observation {
  readonly applied: number;
  readonly settled: number;
  readonly violations: number;
  readonly held: number;
  readonly heldAtMost: number;
  /** Deliveries that a living worker has and has not settled. */
  readonly unsettled: number;
}

const intervalMs = 50;

export class Watch {
  readonly #workers: DemoWorker[] = [];
  readonly #time: Time;
  readonly #onLook: (observation: Observation) => void | Promise<void>;
  #heldAtMost = 0;
  #stopped = false;
  #loop: Promise<void> | null = null;

  /** `onLook` is awaited before the next look. What it throws is thrown by `stop`. */
  constructor(time: Time, onLook: (observation: Observation) => void | Promise<void>) {
    this.#time = time;
    this.#onLook = onLook;
  }

  add(worker: DemoWorker): void {
    this.#workers.push(worker);
  }

  start(): void {
    this.#loop = this.#run();
    // It is told to whoever stops the watch.
    this.#loop.catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop;
  }

  async look(): Promise<Observation> {
    const readings = await Promise.all(this.#workers.map((worker) => worker.read()));
    const sum = (of: (reading: (typeof readings)[number]) => number) => readings.reduce((total, reading) => total + of(reading), 0);
    const held = sum((reading) => reading.held);
    this.#heldAtMost = Math.max(this.#heldAtMost, held);
    return {
      applied: sum((reading) => reading.applied),
      settled: sum((reading) => reading.applied + reading.duplicates + reading.deadLettered),
      violations: sum((reading) => reading.violations),
      held,
      heldAtMost: this.#heldAtMost,
      unsettled: sum((reading) => reading.unsettled),
    };
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      await this.#onLook(await this.look());
      await sleep(this.#time, intervalMs);
    }
  }
}

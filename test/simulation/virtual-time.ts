/**
 * Time, chance and processes of one simulated world. Nothing of Node's own decides an order: whatever happens is a step on one
 * schedule, by its virtual time and then by the order in which it was asked for, and every promise settles before the next step.
 */
import { MinHeap } from '../../src/ordering/heap.ts';
import type { Time, Timer } from '../../src/time.ts';

/** A stream of random numbers: the same for the same seed and name, whatever the other streams are used for. */
export class Chance {
  #state: number;

  constructor(seed: number, stream: string) {
    this.#state = seed >>> 0;
    for (const char of stream) this.#state = Math.imul(this.#state ^ char.charCodeAt(0), 0x9e3779b1) >>> 0;
  }

  /** From 0 up to but not including 1 (mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  hits(share: number): boolean {
    return this.next() < share;
  }

  /** A whole number, both ends included. */
  between(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  pick<T>(list: readonly T[]): T {
    return list[this.between(0, list.length - 1)]!;
  }
}

interface Step {
  /** Due time and order of asking, in one number. */
  readonly key: number;
  go: (() => void) | null;
}

const ordersPerMs = 2 ** 21;

export class Schedule {
  nowMs = 0;
  steps = 0;
  #asked = 0;
  readonly #steps = new MinHeap<Step>(({ key }) => key);

  after(ms: number, go: () => void): Timer {
    const step: Step = { key: (this.nowMs + Math.max(0, Math.ceil(ms))) * ordersPerMs + this.#asked++, go };
    this.#steps.push(step);
    return { cancel: () => void (step.go = null) };
  }

  /** Until `isOver`, or until nothing is left to do. */
  async run(isOver: () => boolean): Promise<void> {
    let isDone = false;
    const goOn = () => {
      isDone = isDone || isOver() || !this.#goOn();
    };
    while (!isDone) await turnWith(goOn);
  }

  /** One step; returns whether there was one. */
  #goOn(): boolean {
    const step = this.#steps.pop();
    if (step === undefined) return false;
    if (step.go === null) return this.#goOn();
    this.nowMs = Math.floor(step.key / ordersPerMs);
    this.steps++;
    step.go();
    return true;
  }
}

const callsPerTurn = 64;

/** One turn of the event loop, which costs more than a step, with many calls in it: all microtasks run between two of them. */
function turnWith(go: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const call = () => {
      try {
        go();
      } catch (error) {
        reject(error as Error);
      }
    };
    for (let calls = 0; calls < callsPerTurn; calls++) setImmediate(call);
    setImmediate(resolve);
  });
}

/** A process: it may be killed, or frozen and woken; then everything that came meanwhile comes at once. */
export class Machine {
  readonly name: string;
  readonly time: Time;
  /** What its wall clock is ahead of the true time. */
  wallOffsetMs = 0;
  #state: 'running' | 'frozen' | 'dead' = 'running';
  #isBlocked = false;
  #missed: (() => void)[] = [];
  readonly #schedule: Schedule;

  constructor(name: string, schedule: Schedule, chance: Chance) {
    this.name = name;
    this.#schedule = schedule;
    let uuids = 0;
    const after = (ms: number, go: () => void): Timer => {
      let isCancelled = false;
      const timer = schedule.after(ms, () => this.do(() => isCancelled || go()));
      const cancel = () => {
        isCancelled = true;
        timer.cancel();
      };
      return { cancel };
    };
    this.time = {
      nowMs: () => schedule.nowMs,
      wallMs: () => startOfTimeMs + schedule.nowMs + this.wallOffsetMs,
      after,
      afterTick: (go) => void after(0, go),
      random: () => chance.next(),
      uuid: () => `${name}-${++uuids}`,
    };
  }

  get state(): 'running' | 'frozen' | 'dead' {
    return this.#state;
  }

  /** Everything that reaches the process goes through here: timers, answers, deliveries. */
  do(go: () => void): void {
    if (this.#state === 'running') go();
    else if (this.#state === 'frozen') this.#missed.push(go);
  }

  kill(): void {
    this.#state = 'dead';
    this.#missed = [];
  }

  freeze(): void {
    if (this.#state === 'running') this.#state = 'frozen';
  }

  /** Its event loop stands still, and nothing wakes it. */
  block(): void {
    this.freeze();
    this.#isBlocked = true;
  }

  wake(): void {
    if (this.#state !== 'frozen' || this.#isBlocked) return;
    this.#state = 'running';
    for (const go of this.#missed.splice(0)) this.#schedule.after(0, () => this.do(go));
  }
}

/** What every wall clock shows at the beginning, before it is put wrong. */
export const startOfTimeMs = Date.UTC(2026, 0, 1);

/** One direction of a connection: what is sent arrives in order, after a while, unless the connection is cut. */
export class Link {
  #lastMs = 0;
  #isCut = false;
  readonly #schedule: Schedule;
  readonly #latencyMs: () => number;

  constructor(schedule: Schedule, latencyMs: () => number) {
    this.#schedule = schedule;
    this.#latencyMs = latencyMs;
  }

  send(arrive: () => void): void {
    const { nowMs } = this.#schedule;
    this.#lastMs = Math.max(this.#lastMs, nowMs + this.#latencyMs());
    this.#schedule.after(this.#lastMs - nowMs, () => this.#isCut || arrive());
  }

  /** What is under way is lost, and so is everything that is sent later. */
  cut(): void {
    this.#isCut = true;
  }
}

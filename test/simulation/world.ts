/**
 * What all parts of one simulated world share: the schedule, three streams of chance (what is to be done, how long things take, what
 * goes wrong), which faults may strike, and what was seen. With the same scenario everything in it repeats, byte for byte.
 */
import { Ledger } from './ledger.ts';
import { Chance, Machine, Schedule } from './virtual-time.ts';

/** What may go wrong; a seed switches some of them off. */
export const faults = [
  'duplicates',
  'reordering',
  'lost publishes',
  'forgeries',
  'channels lost',
  'kills',
  'freezes',
  'drains',
  'requests lost',
  'replies lost',
  'late execution',
  'store outages',
  'unusable entities',
  'handler failures',
  'clock jumps',
  'early replays',
  'replays killed',
] as const;
export type Fault = (typeof faults)[number];

/** Without these only the producer, the handlers and the clocks go wrong. */
export const calmWithout: readonly Fault[] = [
  'channels lost',
  'kills',
  'freezes',
  'drains',
  'requests lost',
  'replies lost',
  'late execution',
  'store outages',
  'unusable entities',
];

/** What makes a simulated world. */
export interface Scenario {
  readonly seed: number;
  /** Switched off. */
  readonly without: readonly Fault[];
  /** The most entities, and events of one; what the seed asks for beyond is left out. */
  readonly maxEntities: number;
  readonly maxEvents: number;
}

export class World {
  readonly scenario: Scenario;
  readonly schedule = new Schedule();
  readonly work: Chance;
  readonly pace: Chance;
  readonly chance: Chance;
  readonly ledger: Ledger;
  /** Rare things that happened. */
  readonly seen = new Set<string>();
  /** Null: nobody reads it. */
  readonly trace: string[] | null;
  #healedAtMs: number | null = null;
  readonly #on: ReadonlySet<Fault>;

  constructor(scenario: Scenario, isTraced: boolean) {
    const { seed, without } = scenario;
    this.scenario = scenario;
    this.work = new Chance(seed, 'work');
    this.pace = new Chance(seed, 'pace');
    this.chance = new Chance(seed, 'faults');
    this.#on = new Set(faults.filter((fault) => !without.includes(fault)));
    this.trace = isTraced ? [] : null;
    this.ledger = new Ledger(this.schedule);
  }

  /** The faults are over. */
  heal(): void {
    this.#healedAtMs = this.schedule.nowMs;
    this.note('world', 'healed');
  }

  get isHealed(): boolean {
    return this.#healedAtMs !== null;
  }

  get healedForMs(): number {
    return this.schedule.nowMs - (this.#healedAtMs ?? this.schedule.nowMs);
  }

  has(fault: Fault): boolean {
    return this.#on.has(fault);
  }

  get isCalm(): boolean {
    return !calmWithout.some((fault) => this.#on.has(fault));
  }

  /** Whether a fault strikes now. */
  strikes(fault: Fault, share: number): boolean {
    return !this.isHealed && this.#on.has(fault) && this.chance.hits(share);
  }

  machine(name: string): Machine {
    return new Machine(name, this.schedule, this.pace);
  }

  /** Of one frame or request, in milliseconds. */
  readonly latencyMs = (): number => (this.pace.hits(0.05) ? this.pace.between(20, 200) : this.pace.between(0, 8));

  note(who: string, what: string, detail: unknown = ''): void {
    this.trace?.push(`${this.schedule.nowMs} ${who} ${what} ${typeof detail === 'string' ? detail : JSON.stringify(detail)}`);
  }

  sometimes(what: Sometimes): void {
    this.seen.add(what);
  }
}

/** What has to be reached by some of a thousand seeds, or the simulation has stopped to reach it. */
export const sometimes = [
  'a stale owner: commit refused',
  'a stale owner: claim fenced',
  'a stale owner: park fenced',
  'a park came too late',
  'a commit was sent again and had gone through',
  'a commit was executed after its sender had given up',
  'a gap was parked',
  'a limit ended a gap early',
  'an event followed its predecessors into the dead letters',
  'a handler failed for good',
  'another event had the sequence',
  'a parking ended',
  'a delivery was given back for want of memory',
  'a delivery was settled after the end of its channel',
  'a standby took over',
  'a worker drained',
  'a replay died halfway',
  'a worker replayed by itself',
] as const;
export type Sometimes = (typeof sometimes)[number];

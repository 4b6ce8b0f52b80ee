/**
 * What all parts of one simulated world share: the schedule, three streams of chance (what is to be done, how long things take, what
 * goes wrong), which faults may strike, and what was seen. With the same scenario everything in it repeats, byte for byte.
 */
import { defineAggregate } from '../../src/aggregates/define.ts';
import { Ledger } from './ledger.ts';
import { Chance, Machine, Schedule } from './virtual-time.ts';

/** What may go wrong; a seed switches some of them off. */
export const faults = [
  'duplicates',
  'reordering',
  'lost publishes',
  'forgeries',
  'producers cut off',
  'producers ended',
  'publishes refused',
  'relays killed',
  'relays frozen',
  'relays cut off',
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
  'tail lost',
  'lagging replica',
  'entity keys lost',
  'epoch keys lost',
  'store emptied',
  'consumer timeouts',
  'delivery limits',
  'purges',
  'poison',
  'ring changes',
  'failing sources',
  'trials cut off',
  'stuck entity',
] as const;
export type Fault = (typeof faults)[number];

/** The store loses what it has acknowledged: then shards halt, and an operator has to say that they may go on. */
export const losses: readonly Fault[] = ['tail lost', 'lagging replica', 'entity keys lost', 'epoch keys lost', 'store emptied'];

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
  'consumer timeouts',
  'delivery limits',
  'purges',
  'poison',
  'ring changes',
  'trials cut off',
  ...losses,
];

/** What the events are about: its state has the values of its events in order. Where it `fails` it has changed its state before. */
export function thingThat(fails: () => boolean) {
  return defineAggregate({
    type: 'thing',
    initialState: { values: [] as number[] },
    evolve: {
      '*': ({ values }, { data }) => {
        if (!fails()) return { values: [...values, (data as { value: number }).value] };
        values.push(-1);
        throw new Error('it failed halfway');
      },
    },
  });
}

export const thing = thingThat(() => false);

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

  /** No process ends but by an event. */
  get isCalmButForPoison(): boolean {
    return !calmWithout.some((fault) => fault !== 'poison' && this.#on.has(fault));
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
  'a confirm was lost, and the event published again',
  'a producer died, and another one published what was not confirmed',
  'a publisher was closed with unconfirmed events',
  'a publisher had no room',
  'a publisher was blocked',
  'a publish was returned',
  'a publish was refused and confirmed in the end',
  'a publisher gave up what the broker refused',
  'another relay took over',
  'a relay without the lease could not advance',
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
  'an operator replayed',
  'a replay died halfway',
  'a replay was cut off from the broker',
  'a replayed letter failed again',
  'the broker timed a reader of the dead letters out',
  'a worker replayed by itself',
  'a worker looked again and found what was left',
  'a worker saw that the store went backwards',
  'a shard halted: the version of an entity was lower',
  'a shard halted: an epoch was lower, or came twice',
  'a shard halted: the store was another one, or empty',
  'a shard halted: it was on record',
  'a worker began with halted shards',
  'an operator ended a halt',
  'an operator brought back what was lost',
  'a commit went to a store that was replaced',
  'an epoch was given out twice',
  'an early event was rejected at once',
  'an event was skipped, and the gap before it passed over',
  'an event was applied before its predecessor',
  'a late event has filled its hole',
  'a gap was leapt over when its time had come',
  'an event was late',
  'an event without a sequence was applied',
  'an event without a sequence came twice',
  'the broker closed a channel on which nothing was acknowledged for long',
  'the broker dead-lettered what came back too often',
  'a queue was purged',
  'an event that ends the process was found',
  'an entity of which events were under way moved to another shard',
  'a shard was added',
  'a session was cut off while it tried an event alone',
  'missing events were fetched',
  'a source of missing events failed',
  'an event that blocks the process was found',
  'an entity was stuck until the end',
] as const;
export type Sometimes = (typeof sometimes)[number];

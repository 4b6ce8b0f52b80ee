/**
 * Decides what one lane does next, and moves its deliveries accordingly: the table "per delivery" of src/README.md (section 5), case
 * by case. It is called whenever the lane has no operation under way, takes what arrived in the order of arrival, and stops at the
 * first delivery that needs an answer of the store.
 */
import type { RejectionReason } from '../events/reasons.ts';
import { type Delivery, type Slot, type SlotAction, maxAhead, type SequencerLimits, type ViolationStrategy } from './facts.ts';
import type { Holes } from './holes.ts';
import type { Lane } from './lane.ts';

export type Step =
  | { readonly kind: 'commit'; readonly run: Run }
  /** An event cannot be processed: the next in line, with `fail` the one that came too early, or one whose id is taken. */
  | { readonly kind: 'fail'; readonly delivery: Delivery; readonly reason: RejectionReason; readonly detail: string }
  /** What is known here is in doubt, or arrivals would have to follow dead letters that may be being replayed: the store is read first. */
  | { readonly kind: 'read' }
  /** Something is held and its predecessor is not here. */
  | { readonly kind: 'gap' }
  | { readonly kind: 'idle' };

/** Decisions that need nothing further of the lane. */
export interface PlanSink {
  /** At or below the version: to be compared with what the store remembers. */
  lookUp(delivery: Delivery): void;
  /** Falls into a hole, with strategy `skip`. */
  skipped(delivery: Delivery): void;
  reject(delivery: Delivery, reason: RejectionReason, detail: string): void;
  violation(delivery: Delivery, sequence: number, expected: number): void;
}

export function planLane(lane: Lane, limits: SequencerLimits, countedMs: number, sink: PlanSink): Step {
  return lane.known.state === 'doubtful' ? { kind: 'read' } : new Plan(lane, limits, countedMs, sink).step();
}

type Failed = Extract<Step, { kind: 'fail' }>;

/** What became of one delivery. `stop`: it stays where it is, and so does what came after it. `later`: only it waits for the commit. */
type Placement = 'decided' | 'later' | 'stop' | 'read' | Failed;

class Plan {
  readonly #lane: Lane;
  readonly #limits: SequencerLimits;
  readonly #countedMs: number;
  readonly #sink: PlanSink;
  readonly #run: Run;
  /** Copies of what is in the run: they wait for its commit. */
  readonly #later: Delivery[] = [];

  constructor(lane: Lane, limits: SequencerLimits, countedMs: number, sink: PlanSink) {
    this.#lane = lane;
    this.#limits = limits;
    this.#countedMs = countedMs;
    this.#sink = sink;
    this.#run = new Run(lane);
  }

  step(): Step {
    const lane = this.#lane;
    const { skipsAhead } = lane;
    lane.skipsAhead = false;
    this.#releaseOvertaken();
    let placement: Placement = this.#placeArrivals();
    if (placement === 'decided' && this.#run.isEmpty && lane.held.count > 0) placement = this.#settleHeld(skipsAhead);
    if (typeof placement === 'object') return placement;
    if (!this.#run.isEmpty) return { kind: 'commit', run: this.#run };
    if (placement === 'read') return { kind: 'read' };
    return { kind: lane.held.count > 0 ? 'gap' : 'idle' };
  }

  /** What another owner has committed meanwhile is held no longer: it is decided as what it is now, a duplicate or a hole. */
  #releaseOvertaken(): void {
    const { held, known } = this.#lane;
    const overtaken: Delivery[] = [];
    for (let lowest = held.lowest(); lowest !== null && lowest <= known.version; lowest = held.lowest()) {
      overtaken.push(...(held.take(lowest) ?? []));
    }
    this.#lane.putBack(overtaken);
  }

  /** In order of arrival, and what is held as soon as it is next, until one has to wait. */
  #placeArrivals(): 'decided' | 'read' | Failed {
    const lane = this.#lane;
    const arrivals = lane.arrivals;
    let placement: Placement = 'decided';
    let at = 0;
    while (this.#run.slots.length < this.#limits.maxFold) {
      if (this.#takeHeld()) continue;
      const delivery = arrivals[at];
      if (delivery === undefined) break;
      placement = this.#placeArrival(delivery);
      if (placement === 'stop' || placement === 'read') break;
      if (placement === 'later') this.#later.push(delivery);
      at++;
      if (typeof placement === 'object') break;
    }
    // Copies go first, as they came before the rest.
    if (at > 0 || this.#later.length > 0) lane.arrivals = this.#later.concat(arrivals.slice(at));
    return placement === 'read' || typeof placement === 'object' ? placement : 'decided';
  }

  /** Moves what is held for the next sequence into the run. */
  #takeHeld(): boolean {
    const { held, arrivals, idVerdicts } = this.#lane;
    const run = this.#run;
    if (held.count === 0 || !run.takes(false) || !held.has(run.version + 1)) return false;
    const [first, ...copies] = held.take(run.version + 1) ?? [];
    if (first === undefined) return false;
    if (!run.admits(first) || idVerdicts.has(first)) {
      // Decided as an arrival, where these cases are at home.
      arrivals.push(first, ...copies);
    } else {
      run.place('next', first, run.version + 1, 'apply');
      this.#later.push(...copies);
    }
    return true;
  }

  #placeArrival(delivery: Delivery): Placement {
    const run = this.#run;
    const sequence = delivery.event.sequence;
    if (!run.takes(sequence === null)) return 'stop';
    if (sequence === null) return this.#placeAs('unsequenced', delivery, run.version + 1);
    const { version, state, parkedSequence } = this.#lane.known;
    if (sequence <= version) return this.#placePassed(delivery, sequence);
    // What the run itself has passed over is decided once that is committed, and before what came after it.
    if (sequence <= run.version) return run.holes.has(sequence) ? 'stop' : 'later';
    if (sequence === run.version + 1) return this.#placeAs('next', delivery, sequence);
    // Before the limit on how far ahead: a running stream may have passed any number. Parked at version 0 means
    // that its base line was dead-lettered, and what follows must not take its place, nor while that is being replayed.
    const hasBaseLine = version > 0 || this.#limits.firstSequence !== 'any';
    const mayBeBaseLine = !hasBaseLine && (state === 'open' || (state === 'replaying' && sequence <= (parkedSequence ?? sequence)));
    if (mayBeBaseLine && run.isEmpty) return this.#placeAs('baseLine', delivery, sequence);
    if (sequence > version + maxAhead && (hasBaseLine || state === 'open')) {
      // How far ahead it is can be said once the run is committed.
      if (!run.isEmpty) return 'stop';
      this.#sink.reject(delivery, 'invalid_sequence', `sequence ${sequence} is more than ${maxAhead} ahead of version ${version}`);
      return 'decided';
    }
    if (state === 'parked-before') return 'read';
    if (state === 'parked') {
      this.#sink.reject(delivery, 'entity_parked', `the entity is parked at version ${version}`);
      return 'decided';
    }
    return this.#placeEarly(delivery, sequence);
  }

  /** At or below the version: a duplicate, unless it falls into a hole. */
  #placePassed(delivery: Delivery, sequence: number): Placement {
    const { version, holes } = this.#lane.known;
    if (!holes.has(sequence)) {
      this.#lane.lookingUp++;
      this.#sink.lookUp(delivery);
      return 'decided';
    }
    // A copy of what the run has just put into this hole.
    if (!this.#run.holes.has(sequence)) return 'later';
    switch (this.#limits.strategy) {
      case 'skip':
        this.#sink.skipped(delivery);
        return 'decided';
      case 'log_and_process':
        return this.#placeAs('hole', delivery, sequence);
      default:
        this.#sink.reject(delivery, 'late', `version ${version} has passed over sequence ${sequence}`);
        return 'decided';
    }
  }

  /** Beyond the next in line: a violation if it reveals a new gap, and then by strategy. In a replay it follows the dead letters. */
  #placeEarly(delivery: Delivery, sequence: number): Placement {
    const [lane, run] = [this.#lane, this.#run];
    const strategy = lane.known.state === 'replaying' || lane.held.count > 0 ? 'buffer' : this.#limits.strategy;
    if (strategy === 'fail' && !run.isEmpty) return 'stop';
    const expected = Math.max(lane.known.highest, run.version) + 1;
    if (sequence > expected) this.#sink.violation(delivery, sequence, expected);
    lane.learn({ kind: 'seen', sequence });
    if (strategy !== 'buffer') return this.#placeBy(strategy, delivery, sequence);
    lane.held.add(sequence, delivery, this.#countedMs);
    return 'decided';
  }

  #placeBy(strategy: Exclude<ViolationStrategy, 'buffer'>, delivery: Delivery, sequence: number): Placement {
    const run = this.#run;
    switch (strategy) {
      case 'fail':
        return { kind: 'fail', delivery, reason: 'out_of_order', detail: `expected ${run.version + 1}, received ${sequence}` };
      case 'skip':
        run.place('leap', delivery, sequence, 'skip');
        return 'decided';
      case 'log_and_process':
        return this.#placeAs('leap', delivery, sequence);
    }
  }

  /** Into the run, as what the store has said about its id; a conflict is decided when it comes first. */
  #placeAs(where: Place, delivery: Delivery, sequence: number): Placement {
    const run = this.#run;
    if (!run.admits(delivery)) return 'stop';
    const verdict = this.#lane.idVerdicts.get(delivery);
    if (verdict?.action !== 'conflict') {
      run.place(where, delivery, sequence, verdict?.action ?? 'apply', verdict?.appliedAs);
      return 'decided';
    }
    if (!run.isEmpty) return 'stop';
    const detail = `the id was already applied with another payload, under sequence ${verdict.appliedAs}`;
    return { kind: 'fail', delivery, reason: 'message_id_conflict', detail };
  }

  /** Nothing follows the version: what is held is rejected when the entity is parked, or the gap is skipped. */
  #settleHeld(skipsAhead: boolean): Placement {
    const { held, arrivals, known } = this.#lane;
    if (known.state === 'parked-before') return 'read';
    if (known.state === 'parked') {
      const detail = `the entity is parked at version ${known.version}`;
      for (const delivery of held.drain()) this.#sink.reject(delivery, 'entity_parked', detail);
      return 'decided';
    }
    const { strategy } = this.#limits;
    // What a replay has left, or another owner's, is decided by a strategy that holds nothing.
    const decides = strategy !== 'buffer' && known.state === 'open';
    const lowest = skipsAhead || decides ? held.lowest() : null;
    if (lowest === null) return 'decided';
    const [first, ...copies] = held.take(lowest) ?? [];
    if (first === undefined) return 'decided';
    arrivals.unshift(...copies);
    return decides ? this.#placeBy(strategy, first, lowest) : this.#placeAs('leap', first, lowest);
  }
}

/** Where an event goes, seen from the version that the run has reached. */
type Place =
  | 'next'
  | 'unsequenced'
  /** Beyond the next in line: the sequences passed over become holes, and itself when it is skipped. */
  | 'leap'
  /** The first event of a running stream: what came before it was never ours. */
  | 'baseLine'
  /** A late event fills its hole; the version stays. */
  | 'hole';

/** The slots of one commit of one entity, in order, with the version and the holes after each of them. */
class Run {
  readonly slots: Slot[] = [];
  version: number;
  holes: Holes;
  /** The entity was unknown and the run's first event is its base line. */
  adopts = false;
  #unsequenced = false;
  #ids: Set<string> | null = null;

  constructor({ known: { version, holes } }: Lane) {
    this.version = version;
    this.holes = holes;
  }

  get isEmpty(): boolean {
    return this.slots.length === 0;
  }

  /** Sequenced and unsequenced events do not share a commit: a conflict of ids means different things for them. */
  takes(unsequenced: boolean): boolean {
    return this.isEmpty || this.#unsequenced === unsequenced;
  }

  /** False when the run already carries this id: the store can only tell after the first is committed. */
  admits({ event: { id } }: Delivery): boolean {
    return this.#ids === null ? this.slots[0]?.delivery.event.id !== id : !this.#ids.has(id);
  }

  /** @param appliedAs Of an id that was applied under another sequence: that one. */
  place(where: Place, delivery: Delivery, sequence: number, action: SlotAction, appliedAs?: number): void {
    if (where === 'leap') this.holes = this.holes.add(this.version + 1, action === 'skip' ? sequence : sequence - 1);
    else if (where === 'baseLine') this.holes = this.holes.below(sequence - 1);
    else if (where === 'hole') this.holes = this.holes.close(sequence);
    if (where !== 'hole') this.version = sequence;
    this.adopts ||= where === 'baseLine';
    this.#unsequenced = where === 'unsequenced';
    if (this.slots.length > 0) {
      this.#ids ??= new Set(this.slots.map((slot) => slot.delivery.event.id));
      this.#ids.add(delivery.event.id);
    }
    this.slots.push({ delivery, sequence, action, appliedAs, versionAfter: this.version, holesAfter: this.holes.toString() });
  }
}

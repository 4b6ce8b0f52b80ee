/**
 * Moves lanes on: asks the plan for the next step, turns it into an operation, and carries out what the answer means for the lane:
 * what is settled, and what is to be decided again. A lane goes on until it waits for an answer, for time, or for the next delivery.
 */
import { InvariantError } from '../errors.ts';
import type { RejectionReason } from '../events/reasons.ts';
import type { Deadlines } from './heap.ts';
import { absorbedIn, type LookupResult, type Snapshot } from './entity.ts';
import type { Delivery, Effect, Fact, FailureText, Outcome, RefusedDelivery, Rejection, Slot, SequencerLimits } from './facts.ts';
import type { GapWatch } from './gap-watch.ts';
import { Holes } from './holes.ts';
import type { Lane, Lanes, Operation, Parking } from './lane.ts';
import type { NewOperation, Operations } from './operations.ts';
import { type PlanSink, planLane } from './plan.ts';

export type Answer<K extends Fact['kind']> = Extract<Fact, { readonly kind: K }>;

/**
 * What is settled within one fact, over all lanes: acknowledgements go out as they are decided; rejections and questions about
 * duplicates are gathered and go out once, as one operation each.
 */
export class Settlements implements PlanSink {
  /** Deliveries taken in and not decided. */
  undecided = 0;
  /** More deliveries wait outside until what is settled makes room in memory. */
  memoryIsFull = false;
  /** Decided, and being put on record before they are rejected: until then they take room in the window. */
  leaving = 0;
  effects: Effect[] = [];
  #rejections: Rejection[] = [];
  #lookups: Delivery[] = [];
  #skipped: Delivery[] = [];

  lookUp(delivery: Delivery): void {
    this.#lookups.push(delivery);
  }

  skipped(delivery: Delivery): void {
    this.#skipped.push(delivery);
  }

  violation(delivery: Delivery, received: number, expected: number): void {
    this.effects.push({ kind: 'violation', delivery, expected, received });
  }

  absorbed(delivery: Delivery, sequence: number, appliedAs: number): void {
    this.effects.push({ kind: 'absorbed', delivery, sequence, appliedAs });
  }

  remembered(delivery: Delivery, result: string): void {
    this.effects.push({ kind: 'remembered', delivery, result });
  }

  ack(outcome: Outcome, deliveries: readonly Delivery[]): void {
    if (deliveries.length === 0) return;
    this.undecided -= deliveries.length;
    this.effects.push({ kind: 'ack', outcome, deliveries });
  }

  reject(delivery: Delivery, reason: RejectionReason, detail: string, stack: string | null = null): void {
    this.undecided--;
    this.#rejections.push({ tag: delivery.tag, reason, detail, stack, event: delivery.event, refusal: null });
  }

  refuse(delivery: RefusedDelivery): void {
    const { reason, detail } = delivery.refusal;
    this.undecided--;
    this.#rejections.push({ tag: delivery.tag, reason, detail, event: null, refusal: delivery.refusal });
  }

  flush(operations: Operations): void {
    if (this.#skipped.length > 0) this.ack('skipped', this.#skipped);
    if (this.#lookups.length > 0) operations.begin(null, { kind: 'lookUp', deliveries: this.#lookups }, this.effects);
    if (this.#rejections.length > 0) operations.begin(null, { kind: 'reject', rejections: this.#rejections }, this.effects);
    this.leaving += this.#rejections.length;
    this.#empty();
  }

  /** What an operation has rejected is gone. */
  rejected({ effect }: Operation): void {
    if (effect.kind === 'reject') this.leaving -= effect.rejections.length;
  }

  clear(): void {
    this.undecided = 0;
    this.memoryIsFull = false;
    this.leaving = 0;
    this.#empty();
  }

  #empty(): void {
    if (this.#skipped.length > 0) this.#skipped = [];
    if (this.#lookups.length > 0) this.#lookups = [];
    if (this.#rejections.length > 0) this.#rejections = [];
  }
}

export class LaneRunner {
  readonly #limits: SequencerLimits;
  readonly #lanes: Lanes;
  readonly #operations: Operations;
  readonly #gaps: GapWatch;
  readonly #deadlines: Deadlines<Lane>;
  readonly #settlements: Settlements;

  constructor(
    limits: SequencerLimits,
    lanes: Lanes,
    operations: Operations,
    gaps: GapWatch,
    deadlines: Deadlines<Lane>,
    settlements: Settlements,
  ) {
    this.#limits = limits;
    this.#lanes = lanes;
    this.#operations = operations;
    this.#gaps = gaps;
    this.#deadlines = deadlines;
    this.#settlements = settlements;
  }

  /** With `mayStart` false only what a park has already decided is carried out. With `brokerHadTurn` a gap whose time is over ends. */
  advance(lane: Lane, nowMs: number, mayStart: boolean, brokerHadTurn = false): void {
    if (lane.op === null) this.#settlePark(lane);
    while (lane.op === null && mayStart) {
      if (lane.known.state === 'unknown') {
        if (lane.arrivals.length > 0) this.#begin(lane, { kind: 'load', entity: lane.entity });
        return;
      }
      const step = planLane(lane, this.#limits, this.#gaps.clock.countedMs, this.#settlements);
      this.#gaps.note(lane);
      switch (step.kind) {
        case 'idle':
          return lane.learn({ kind: 'aged' });
        case 'read':
          return this.#begin(lane, { kind: 'load', entity: lane.entity });
        case 'fail':
          this.#fail(lane, step);
          break;
        case 'gap':
          if (!this.#watchGap(lane, nowMs, brokerHadTurn)) return;
          break;
        case 'commit': {
          const { slots, adopts } = step.run;
          const { version, holes } = lane.known;
          const expected = { expectedVersion: version, expectedHoles: holes.toString() };
          return this.#begin(lane, { kind: 'commit', entity: lane.entity, ...expected, slots, adopts });
        }
      }
    }
  }

  /** The first slots are in the store; the next may have failed for good. */
  committed(lane: Lane, { slots }: Operation, { done, parked, failure }: Answer<'committed'>): void {
    const settled = done === slots.length ? slots : slots.slice(0, done);
    const last = settled.at(-1);
    if (last !== undefined) {
      const atMs = this.#gaps.clock.countedMs;
      lane.learn({ kind: 'committed', version: last.versionAfter, holes: last.holesAfter, parked, atMs });
      lane.forgetIds(settled);
      this.#ackSlots(settled);
    }
    const left = deliveriesOf(slots.slice(done));
    if (failure === null) return lane.putBack(left);
    const [failed, ...rest] = left;
    if (failed === undefined) throw new InvariantError('a commit failed behind its last slot');
    lane.putBack(rest);
    this.#fail(lane, { delivery: failed, ...failure });
  }

  /** Ids are known under other sequences: what that means is decided slot by slot when the lane goes on. */
  idConflict(lane: Lane, operation: Operation, fact: Answer<'idConflict'>): void {
    const settled = new Set<Delivery>();
    for (const { index, samePayload, recordedSequence } of fact.conflicts) {
      const delivery = operation.slots[index]?.delivery;
      if (delivery === undefined) throw new InvariantError('an id conflict names a slot that is not there');
      if (samePayload && delivery.event.sequence === null) {
        settled.add(delivery);
        this.#settlements.ack('duplicate', [delivery]);
      } else {
        lane.decideId(delivery, { action: samePayload ? 'absorb' : 'conflict', appliedAs: recordedSequence });
      }
    }
    // A run that leapt over a gap whose time was over may leap again: the lane goes on with the same event, as what is now known of it.
    const [first] = operation.slots;
    lane.skipsAhead = first !== undefined && first.sequence > lane.known.version + 1;
    lane.putBack(deliveriesOf(operation.slots).filter((delivery) => !settled.has(delivery)));
  }

  /**
   * Takes over what the store has: the answer to a load or claim, and what a stale commit or park came back with. Returns why the
   * shard has to stop, or null.
   */
  read(lane: Lane, operation: Operation, snapshot: Snapshot, nowMs: number): string | null {
    lane.putBack(deliveriesOf(operation.slots));
    const { version, holes, parked } = snapshot;
    const wasSet = Holes.parse(holes).resyncs !== lane.known.holes.resyncs;
    if (version < lane.known.version && !wasSet) {
      const { entityType, entityId } = lane.entity;
      return `${entityType} ${entityId} is at version ${version}, but ${lane.known.version} was committed`;
    }
    if (lane.parking?.delivery) lane.putBack([lane.parking.delivery]);
    lane.parking = null;
    lane.learn({ kind: 'read', version, holes, parked, atMs: this.#gaps.clock.countedMs });
    if (operation.effect.kind === 'claimAndRead') this.#gaps.noteRead(lane, nowMs);
    return null;
  }

  /** What the store remembers of events at or below the version. Returns the lanes of those that must be decided again. */
  lookedUp(operation: Operation, results: readonly LookupResult[], nowMs: number): ReadonlySet<Lane> {
    const undecided = new Set<Lane>();
    const duplicates: Delivery[] = [];
    operation.deliveries.forEach((delivery, index) => {
      const result = results[index];
      if (result === undefined) throw new InvariantError('a look-up was answered in part');
      const lane = this.#lanes.of(delivery.event);
      lane.lookingUp--;
      if (result.status === 'failed') {
        // Its keys are unusable: it is asked again later, alone.
        lane.arrivals.push(delivery);
        this.#deadlines.set(lane, nowMs + this.#limits.entityRetryMs);
      } else if (result.status === 'above') {
        lane.learn({ kind: 'contradicted' });
        lane.arrivals.push(delivery);
        undecided.add(lane);
      } else {
        const problem = this.#lookupProblem(lane, delivery, result);
        if (problem !== null) this.#settlements.reject(delivery, ...problem);
        else {
          const remembered = result.status === 'known' && absorbedIn(result.result) === null ? result.result : null;
          if (remembered !== null) this.#settlements.remembered(delivery, remembered);
          duplicates.push(delivery);
        }
      }
      this.#lanes.rest(lane);
    });
    this.#settlements.ack('duplicate', duplicates);
    return undecided;
  }

  /** Why what is remembered of its sequence makes it no duplicate, or null. */
  #lookupProblem(
    { known: { holes } }: Lane,
    { event }: Delivery,
    result: Extract<LookupResult, { readonly status: 'known' | 'unknown' }>,
  ): readonly [RejectionReason, string] | null {
    const sequence = event.sequence ?? 0;
    if (result.status === 'unknown')
      return sequence <= holes.floor ? ['late', `sequence ${sequence} lies before what is remembered of this entity`] : null;
    if (result.payloadHash === event.payloadHash) return null;
    const absorbed = absorbedIn(result.result);
    if (absorbed === null) return ['sequence_conflict', `another payload was applied under sequence ${sequence}`];
    const { id, sequence: appliedAs } = absorbed;
    return [
      'sequence_conflict',
      `sequence ${sequence} was taken by a repetition of id ${JSON.stringify(id)}, which was applied under sequence ${appliedAs}: nothing was applied here`,
    ];
  }

  #ackSlots(slots: readonly Slot[]): void {
    const applied: Delivery[] = [];
    const duplicate: Delivery[] = [];
    const skipped: Delivery[] = [];
    for (const { action, delivery, sequence, appliedAs } of slots) {
      (action === 'apply' ? applied : action === 'absorb' ? duplicate : skipped).push(delivery);
      if (appliedAs !== undefined) this.#settlements.absorbed(delivery, sequence, appliedAs);
    }
    this.#settlements.ack('applied', applied);
    this.#settlements.ack('duplicate', duplicate);
    this.#settlements.ack('skipped', skipped);
  }

  /** An event cannot be processed: it is rejected, and if nothing may pass it its entity is parked first. */
  #fail(lane: Lane, { delivery, reason, detail, stack = null }: FailureText & { readonly delivery: Delivery }): void {
    const sequence = delivery.event.sequence;
    lane.forgetIds([{ delivery }]);
    // Above the version it was next in line, if only by a strategy that leaps or by adoption: nothing may pass it.
    if (sequence === null || sequence <= lane.known.version) this.#settlements.reject(delivery, reason, detail, stack);
    else this.#park(lane, sequence, { delivery, reason, detail, stack });
  }

  /** Once its entity is parked, what caused it is rejected before anything that follows. */
  #settlePark(lane: Lane): void {
    const { parking } = lane;
    if (parking === null) return;
    lane.parking = null;
    const { delivery, reason, detail, stack } = parking;
    for (const rejected of delivery === null ? lane.held.drain() : [delivery]) this.#settlements.reject(rejected, reason, detail, stack);
    this.#gaps.note(lane);
  }

  /** What a gap asks for now. True when the lane can go on at once. */
  #watchGap(lane: Lane, nowMs: number, brokerHadTurn: boolean): boolean {
    const next = this.#gaps.watch(lane, nowMs, brokerHadTurn);
    switch (next.kind) {
      case 'wait':
        this.#deadlines.set(lane, next.untilMs);
        this.#hastenGapsWhenFull(nowMs);
        return false;
      case 'read':
        this.#begin(lane, { kind: 'claimAndRead', entity: lane.entity });
        this.#hastenGapsWhenFull(nowMs);
        return false;
      case 'skip-ahead':
        lane.skipsAhead = true;
        return true;
      case 'park':
        this.#park(lane, next.sequence, { delivery: null, reason: next.reason, detail: next.detail });
        return false;
    }
  }

  /** Keeps room in the prefetch window for the events that are missing. */
  #hastenGapsWhenFull(nowMs: number): void {
    for (let lane = this.#gaps.hastenNearestWhenFull(); lane !== null; lane = this.#gaps.hastenNearestWhenFull()) {
      this.#deadlines.set(lane, nowMs);
    }
  }

  #park(lane: Lane, sequence: number, parking: Parking): void {
    const { reason, detail } = parking;
    lane.parking = parking;
    this.#begin(lane, { kind: 'park', entity: lane.entity, expectedVersion: lane.known.version, sequence, reason, detail });
  }

  #begin(lane: Lane, operation: NewOperation): void {
    lane.learn({ kind: 'aged' });
    this.#operations.begin(lane, operation, this.#settlements.effects);
  }
}

function deliveriesOf(slots: readonly Slot[]): Delivery[] {
  return slots.map(({ delivery }) => delivery);
}

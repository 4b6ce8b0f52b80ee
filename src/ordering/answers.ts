/**
 * What the answers to operations mean for a lane: what is settled, what is to be decided again. It starts
 * nothing, but for the park of an event that failed; the sequencer lets the lane go on afterwards.
 */
import { InvariantError } from '../errors.ts';
import type { Deadlines } from './deadlines.ts';
import type { Delivery, EntityView, Fact } from './facts.ts';
import type { GapWatch } from './gap-watch.ts';
import { Holes } from './holes.ts';
import { type Lane, unknownVersion } from './lane.ts';
import type { LaneRunner } from './lane-runner.ts';
import type { Lanes } from './lanes.ts';
import type { SequencerLimits } from './limits.ts';
import type { Operation } from './operations.ts';
import type { Settlements } from './settlements.ts';

export type Answer<K extends Fact['kind']> = Extract<Fact, { readonly kind: K }>;

export class Answers {
  readonly #limits: SequencerLimits;
  readonly #lanes: Lanes;
  readonly #gaps: GapWatch;
  readonly #deadlines: Deadlines<Lane>;
  readonly #settlements: Settlements;
  readonly #runner: LaneRunner;

  constructor(limits: SequencerLimits, lanes: Lanes, gaps: GapWatch, deadlines: Deadlines<Lane>, settlements: Settlements, runner: LaneRunner) {
    this.#limits = limits;
    this.#lanes = lanes;
    this.#gaps = gaps;
    this.#deadlines = deadlines;
    this.#settlements = settlements;
    this.#runner = runner;
  }

  /** The first slots are in the store; the next may have failed for good. */
  committed(lane: Lane, operation: Operation, fact: Answer<'committed'>): void {
    const { slots } = operation;
    lane.settle(slots, fact.done);
    if (fact.done > 0) lane.stand(fact, true, this.#gaps.clock.countedMs);
    this.#ackSlots(slots, fact.done);
    if (fact.failure === null) {
      if (fact.done < slots.length) lane.putBack(slots.slice(fact.done));
      return;
    }
    const failed = slots[fact.done];
    if (failed === undefined) throw new InvariantError('a commit failed behind its last slot');
    lane.arrivals = slots.slice(fact.done + 1).map((slot) => slot.delivery).concat(lane.arrivals);
    this.#runner.fail(lane, { delivery: failed.delivery, ...fact.failure });
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
        lane.decideId(delivery, { action: samePayload ? 'consume' : 'conflict', appliedAs: recordedSequence });
      }
    }
    // Where the gap's time was over it still is: the lane goes on with the same event, as what is now known of it.
    const [first] = operation.slots;
    lane.skipsAhead = first !== undefined && first.sequence > lane.version + 1;
    lane.putBack(operation.slots.filter((slot) => !settled.has(slot.delivery)));
  }

  /** Takes over a reading of the store. Returns why the shard has to stop, or null. */
  read(lane: Lane, operation: Operation, view: EntityView, nowMs: number): string | null {
    if (operation.effect.kind === 'commit') lane.putBack(operation.slots);
    const wasSet = Holes.parse(view.holes).resyncs !== lane.holes.resyncs;
    if (lane.version !== unknownVersion && view.version < lane.version && !wasSet) {
      const { entityType, entityId } = lane.entity;
      return `${entityType} ${entityId} is at version ${view.version}, but ${lane.version} was committed`;
    }
    if (lane.failure !== null) lane.arrivals.unshift(lane.failure.delivery);
    lane.failure = null;
    lane.verdict = null;
    lane.update(view, this.#gaps.clock.countedMs);
    if (operation.effect.kind === 'openGap') this.#gaps.read(lane, nowMs);
    return null;
  }

  /** What the store remembers of events at or below the version. Returns the lanes of those that must be decided anew. */
  recalled(operation: Operation, verdicts: Answer<'recalled'>['verdicts'], nowMs: number): ReadonlySet<Lane> {
    const undecided = new Set<Lane>();
    const duplicates: Delivery[] = [];
    operation.deliveries.forEach((delivery, index) => {
      const verdict = verdicts[index];
      if (verdict === undefined) throw new InvariantError('a recall was answered in part');
      const lane = this.#lanes.of(delivery.event);
      const sequence = delivery.event.sequence ?? 0;
      lane.recalling--;
      if (verdict === 'failed') {
        lane.arrivals.push(delivery);
        this.#deadlines.set(lane, nowMs + this.#limits.entityRetryMs);
      } else if (verdict === 'above') {
        lane.isDoubtful = true;
        lane.arrivals.push(delivery);
        undecided.add(lane);
      } else if (verdict === 'different') {
        this.#settlements.reject(delivery, 'sequence_conflict', `another payload was applied under sequence ${sequence}`);
      } else if (typeof verdict === 'object') {
        const { id, sequence: appliedAs } = verdict.absorbed;
        this.#settlements.reject(delivery, 'sequence_conflict', `sequence ${sequence} was taken by a repetition of id ${JSON.stringify(id)}, which was applied under sequence ${appliedAs}: nothing was applied here`);
      } else if (verdict === 'unknown' && sequence <= lane.holes.floor) {
        this.#settlements.reject(delivery, 'late', `sequence ${sequence} lies before what is remembered of this entity`);
      } else {
        duplicates.push(delivery);
      }
      this.#lanes.rest(lane);
    });
    this.#settlements.ack('duplicate', duplicates);
    return undecided;
  }

  #ackSlots(slots: Operation['slots'], done: number): void {
    const applied: Delivery[] = [];
    const duplicate: Delivery[] = [];
    const skipped: Delivery[] = [];
    for (const { action, delivery, sequence, appliedAs } of done === slots.length ? slots : slots.slice(0, done)) {
      (action === 'apply' ? applied : action === 'consume' ? duplicate : skipped).push(delivery);
      if (appliedAs !== undefined) this.#settlements.absorbed(delivery, sequence, appliedAs);
    }
    this.#settlements.ack('applied', applied);
    this.#settlements.ack('duplicate', duplicate);
    this.#settlements.ack('skipped', skipped);
  }
}

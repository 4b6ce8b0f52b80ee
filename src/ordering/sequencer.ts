/**
 * The sequencer of one shard: a synchronous, deterministic state machine. Facts go in, effects come out
 * (facts.ts); time is an input. It alone decides in which order events are committed, what is acknowledged
 * and what is rejected.
 *
 * It guarantees, whatever facts arrive and in whatever order: a delivery is settled (acknowledged or
 * rejected) at most once, and only after its commit, a remembered duplicate, or a rejection on record; one
 * operation per entity at a time; the slots of the commits of an entity go up by one, except where a
 * strategy leaves holes. It leaves to the driver: carrying effects out, back-off and jitter, and the
 * processors; to the store: that a commit happens at most once and only by who knows the version.
 *
 * Mutable inside, deterministic outside: the same facts give the same effects.
 */
import { InvariantError } from '../errors.ts';
import { Deadlines } from './deadlines.ts';
import type { Delivery, Effect, EntityView, Fact, RefusedDelivery } from './facts.ts';
import { GapWatch } from './gap-watch.ts';
import { checkInvariants } from './invariants.ts';
import { type Lane, unknownVersion } from './lane.ts';
import { LaneRunner } from './lane-runner.ts';
import { Lanes } from './lanes.ts';
import type { SequencerLimits } from './limits.ts';
import { Operations, type Operation } from './operations.ts';
import { Settlements } from './settlements.ts';

export interface SequencerOverview {
  /** Deliveries that wait for a predecessor. */
  readonly held: number;
  readonly gaps: number;
  /** Entities whose version is known here. */
  readonly entities: number;
  /** Deliveries that are neither acknowledged nor rejected. */
  readonly unsettled: number;
  readonly operations: number;
  readonly paused: boolean;
  readonly state: 'running' | 'draining' | 'drained' | 'halted';
}

type Answer<K extends Fact['kind']> = Extract<Fact, { readonly kind: K }>;

/** Facts that end an operation. */
type OperationAnswer = Answer<'loaded' | 'committed' | 'stale' | 'idConflict' | 'recalled' | 'parked' | 'rejected' | 'fenced'>;

export class ShardSequencer {
  readonly #limits: SequencerLimits;
  readonly #lanes: Lanes;
  readonly #operations: Operations;
  readonly #deadlines = new Deadlines<Lane>();
  readonly #gaps: GapWatch;
  #state: SequencerOverview['state'] = 'running';
  readonly #settlements = new Settlements();
  readonly #runner: LaneRunner;
  #nowMs = 0;
  #effects: Effect[] = [];

  constructor(limits: SequencerLimits) {
    this.#limits = limits;
    this.#lanes = new Lanes(limits.maxLanes);
    this.#operations = new Operations(limits.maxProbe);
    this.#gaps = new GapWatch(limits);
    this.#runner = new LaneRunner(limits, this.#operations, this.#gaps, this.#deadlines, this.#settlements);
  }

  handle(nowMs: number, fact: Fact): readonly Effect[] {
    this.#nowMs = nowMs;
    this.#effects = [];
    this.#settlements.effects = this.#effects;
    if (fact.kind === 'channelLost') this.#forgetEverything();
    else if (this.#state !== 'halted') this.#dispatch(fact);
    return this.#effects;
  }

  /** When `timePassed` is due next, or null. */
  nextDeadlineMs(): number | null {
    // A halted shard waits for its channel to go, not for time.
    if (this.#state === 'halted') return null;
    const lane = this.#deadlines.nextMs;
    const probe = this.#operations.nextProbeMs;
    if (lane === null || probe === null) return lane ?? probe;
    return Math.min(lane, probe);
  }

  overview(): SequencerOverview {
    return {
      held: this.#gaps.held,
      gaps: this.#gaps.size,
      entities: this.#lanes.size,
      unsettled: this.#settlements.unsettled,
      operations: this.#operations.size,
      paused: this.#operations.paused,
      state: this.#state,
    };
  }

  /** Deliveries held for one entity, lowest sequence first, with what they wait for; null when it is not known here. */
  heldOf(entityType: string, entityId: string): { readonly version: number; readonly sequences: readonly number[] } | null {
    const lane = this.#lanes.get(entityType, entityId);
    if (lane === undefined || lane.version === unknownVersion) return null;
    const sequences = [...lane.held.deliveries()].map((delivery) => delivery.event.sequence ?? 0);
    return { version: lane.version, sequences: sequences.sort((a, b) => a - b) };
  }

  /** Deliveries held, by entity type. */
  heldByEntityType(): ReadonlyMap<string, number> {
    return this.#gaps.heldByEntityType();
  }

  /** Open gaps, longest wait first. */
  openGaps(limit: number): readonly { readonly lane: Lane; readonly sinceMs: number }[] {
    return this.#gaps.oldest(limit);
  }

  /** Throws `InvariantError` when the state contradicts itself. Tests call it after every step. */
  assertInvariants(): void {
    const problem = checkInvariants(this.#lanes.values(), this.#operations.all(), {
      unsettled: this.#settlements.unsettled,
      held: this.#gaps.held,
      gaps: this.#gaps.size,
      running: this.#state === 'running',
    });
    if (problem !== null) throw new InvariantError(problem);
  }

  #dispatch(fact: Exclude<Fact, { kind: 'channelLost' }>): void {
    switch (fact.kind) {
      case 'delivered':
        this.#delivered(fact.deliveries);
        break;
      case 'timePassed':
        this.#timePassed();
        break;
      case 'drainRequested':
        if (this.#state === 'running') this.#state = 'draining';
        break;
      case 'storeUnavailable':
        this.#operations.suspend(fact.ops, this.#nowMs + fact.retryInMs, this.#effects);
        break;
      case 'entityUnavailable':
        this.#entityUnavailable(fact);
        break;
      default:
        this.#answered(fact);
    }
    if (this.#state === 'halted') return;
    this.#settlements.flush(this.#operations);
    if (this.#state === 'draining' && this.#operations.size === 0) this.#endDrain();
  }

  #endDrain(): void {
    this.#state = 'drained';
    this.#effects.push({ kind: 'drained' });
  }

  #delivered(deliveries: readonly (Delivery | RefusedDelivery)[]): void {
    // While draining, what arrives stays with the broker: closing the channel puts it back in order.
    if (this.#state !== 'running') return;
    const settlements = this.#settlements;
    settlements.unsettled += deliveries.length;
    const touched = new Set<Lane>();
    for (const delivery of deliveries) {
      if ('refusal' in delivery) {
        settlements.refuse(delivery);
      } else if (delivery.event.sequence === null && this.#limits.unsequenced === 'reject') {
        settlements.reject(delivery, 'invalid_sequence', 'the event has no sequence and UNSEQUENCED is reject');
      } else {
        const lane = this.#lanes.of(delivery.event);
        lane.arrivals.push(delivery);
        touched.add(lane);
      }
    }
    for (const lane of touched) this.#runner.advance(lane, this.#nowMs, this.#state === 'running');
    this.#lanes.trim();
  }

  #timePassed(): void {
    this.#operations.probe(this.#nowMs, this.#effects);
    for (const lane of this.#deadlines.takeDue(this.#nowMs)) {
      const waiting = lane.op?.waits === true && !this.#operations.paused ? lane.op : null;
      if (waiting !== null) this.#operations.repeat(waiting, this.#effects);
      else this.#runner.advance(lane, this.#nowMs, this.#state === 'running');
    }
  }

  #entityUnavailable(fact: Answer<'entityUnavailable'>): void {
    const operation = this.#operations.get(fact.op);
    if (operation === undefined) return;
    if (operation.lane === null) throw new InvariantError(`${operation.effect.kind} concerns no single entity`);
    this.#operations.setAside(operation, this.#effects);
    this.#deadlines.set(operation.lane, this.#nowMs + fact.retryInMs);
  }

  #answered(fact: OperationAnswer): void {
    const operation = this.#operations.finish(fact.op, this.#effects);
    if (operation === null) return;
    switch (fact.kind) {
      case 'rejected':
        return;
      case 'recalled':
        return this.#recalled(operation, fact.verdicts);
      case 'fenced':
        return this.#halt('fenced', 'a later owner of this shard has claimed an entity that is held here');
      default:
    }
    const lane = operation.lane;
    if (lane === null) throw new InvariantError(`${fact.kind} answers an operation without an entity`);
    if (fact.kind === 'committed') this.#committed(lane, operation, fact);
    else if (fact.kind === 'idConflict') this.#idConflict(lane, operation, fact);
    else if (fact.kind === 'parked') lane.parked = true;
    else if (!this.#refresh(lane, operation, fact.view)) return;
    this.#runner.advance(lane, this.#nowMs, this.#state === 'running');
  }

  #committed(lane: Lane, operation: Operation, fact: Answer<'committed'>): void {
    const { slots } = operation;
    lane.settle(slots, fact.done);
    if (fact.done > 0) lane.parked = fact.parked;
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

  #ackSlots(slots: Operation['slots'], done: number): void {
    const applied: Delivery[] = [];
    const duplicate: Delivery[] = [];
    const skipped: Delivery[] = [];
    for (const { action, delivery } of done === slots.length ? slots : slots.slice(0, done)) {
      (action === 'apply' ? applied : action === 'consume' ? duplicate : skipped).push(delivery);
    }
    this.#settlements.ack('applied', applied);
    this.#settlements.ack('duplicate', duplicate);
    this.#settlements.ack('skipped', skipped);
  }

  #idConflict(lane: Lane, operation: Operation, fact: Answer<'idConflict'>): void {
    const settled = new Set<Delivery>();
    for (const { index, samePayload } of fact.conflicts) {
      const delivery = operation.slots[index]?.delivery;
      if (delivery === undefined) throw new InvariantError('an id conflict names a slot that is not there');
      if (samePayload && delivery.event.sequence === null) {
        settled.add(delivery);
        this.#settlements.ack('duplicate', [delivery]);
      } else {
        lane.idVerdicts.set(delivery, samePayload ? 'consume' : 'conflict');
      }
    }
    lane.putBack(operation.slots.filter((slot) => !settled.has(slot.delivery)));
  }

  /** Takes over a reading of the store. False when the shard has to stop. */
  #refresh(lane: Lane, operation: Operation, view: EntityView): boolean {
    if (operation.effect.kind === 'commit') lane.putBack(operation.slots);
    if (lane.version !== unknownVersion && view.version < lane.version) {
      const { entityType, entityId } = lane.entity;
      this.#halt('store-went-backwards', `${entityType} ${entityId} is at version ${view.version}, but ${lane.version} was committed`);
      return false;
    }
    if (lane.failure !== null) lane.arrivals.unshift(lane.failure.delivery);
    lane.failure = null;
    lane.verdict = null;
    lane.update(view);
    if (operation.effect.kind === 'openGap') this.#gaps.read(lane, this.#nowMs);
    return true;
  }

  #recalled(operation: Operation, verdicts: Answer<'recalled'>['verdicts']): void {
    const duplicates: Delivery[] = [];
    operation.deliveries.forEach((delivery, index) => {
      const verdict = verdicts[index];
      if (verdict === undefined) throw new InvariantError('a recall was answered in part');
      const lane = this.#lanes.of(delivery.event);
      const sequence = delivery.event.sequence ?? 0;
      if (verdict === 'failed') {
        lane.arrivals.push(delivery);
        this.#deadlines.set(lane, this.#nowMs + this.#limits.entityRetryMs);
      } else if (verdict === 'unknown' && lane.version === unknownVersion) {
        // The lane was forgotten meanwhile, and with it which sequences lie before what is remembered.
        lane.arrivals.push(delivery);
        this.#runner.advance(lane, this.#nowMs, this.#state === 'running');
      } else if (verdict === 'different') {
        this.#settlements.reject(delivery, 'sequence_conflict', `another payload was applied under sequence ${sequence}`);
      } else if (verdict === 'unknown' && sequence <= lane.holes.floor) {
        this.#settlements.reject(delivery, 'late', `sequence ${sequence} lies before what is remembered of this entity`);
      } else {
        duplicates.push(delivery);
      }
    });
    this.#settlements.ack('duplicate', duplicates);
  }

  #halt(cause: 'fenced' | 'store-went-backwards', detail: string): void {
    this.#state = 'halted';
    this.#effects.push({ kind: 'halt', cause, detail });
  }

  #forgetEverything(): void {
    this.#lanes.clear();
    this.#operations.clear();
    this.#deadlines.clear();
    this.#gaps.clear();
    this.#settlements.clear();
    if (this.#state === 'draining') this.#endDrain();
    else if (this.#state === 'halted') this.#state = 'running';
  }
}

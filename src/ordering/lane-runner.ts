/**
 * Lets lanes take their steps: asks the plan what comes next and turns it into an operation. A lane goes on
 * until it waits for an answer, for time, or for the next delivery.
 */
import type { RejectionReason } from '../events/reasons.ts';
import type { Deadlines } from './deadlines.ts';
import type { GapWatch } from './gap-watch.ts';
import { type Failure, type Lane, unknownVersion } from './lane.ts';
import type { SequencerLimits } from './limits.ts';
import type { NewOperation, Operations } from './operations.ts';
import { planLane } from './plan.ts';
import type { Settlements } from './settlements.ts';

export class LaneRunner {
  readonly #limits: SequencerLimits;
  readonly #operations: Operations;
  readonly #gaps: GapWatch;
  readonly #deadlines: Deadlines<Lane>;
  readonly #settlements: Settlements;

  constructor(limits: SequencerLimits, operations: Operations, gaps: GapWatch, deadlines: Deadlines<Lane>, settlements: Settlements) {
    this.#limits = limits;
    this.#operations = operations;
    this.#gaps = gaps;
    this.#deadlines = deadlines;
    this.#settlements = settlements;
  }

  /** With `starts` false only what a park has already decided is carried out. With `brokerHadTurn` a gap whose time is over ends. */
  advance(lane: Lane, nowMs: number, starts: boolean, brokerHadTurn = false): void {
    if (lane.op === null) this.#settlePark(lane);
    while (lane.op === null && starts) {
      if (lane.version === unknownVersion) {
        if (lane.arrivals.length > 0) this.#begin(lane, { kind: 'load', entity: lane.entity });
        return;
      }
      const step = planLane(lane, this.#limits, this.#gaps.clock.countedMs, this.#settlements);
      this.#gaps.note(lane);
      if (step.kind === 'idle') {
        lane.parkedIsFresh = false;
        return;
      }
      if (step.kind === 'read') {
        this.#begin(lane, { kind: 'load', entity: lane.entity });
        return;
      }
      if (step.kind === 'fail') this.fail(lane, step);
      else if (step.kind === 'gap') {
        if (!this.#watchGap(lane, nowMs, brokerHadTurn)) return;
      } else {
        const { slots, adopts } = step.run;
        const expected = { expectedVersion: lane.version, expectedHoles: lane.holes.toString() };
        this.#begin(lane, { kind: 'commit', entity: lane.entity, ...expected, slots, adopts });
      }
    }
  }

  /** The event that was next in line cannot be processed: its entity is parked first, then it is rejected. */
  fail(lane: Lane, failure: Failure): void {
    const { delivery, reason, detail, stack } = failure;
    const sequence = delivery.event.sequence;
    lane.forgetId(delivery);
    // Above the version it was next in line, if only by a strategy that leaps or by adoption: nothing may pass it.
    if (sequence === null || sequence <= lane.version) {
      this.#settlements.reject(delivery, reason, detail, stack);
      return;
    }
    lane.failure = failure;
    this.#park(lane, sequence, reason, detail);
  }

  /** Once its entity is parked, what caused it is rejected before anything that follows: the event that failed, or all that was held. */
  #settlePark(lane: Lane): void {
    const { failure, verdict } = lane;
    lane.failure = null;
    lane.verdict = null;
    if (failure !== null) this.#settlements.reject(failure.delivery, failure.reason, failure.detail, failure.stack);
    if (verdict === null) return;
    for (const delivery of lane.held.drain()) this.#settlements.reject(delivery, verdict.reason, verdict.detail);
    this.#gaps.note(lane);
  }

  /** What a gap asks for now. True when the lane can go on at once. */
  #watchGap(lane: Lane, nowMs: number, brokerHadTurn: boolean): boolean {
    const next = this.#gaps.watch(lane, nowMs, brokerHadTurn);
    switch (next.kind) {
      case 'wait':
        this.#deadlines.set(lane, next.untilMs);
        this.#endOldestGapWhenFull(nowMs);
        return false;
      case 'read':
        this.#begin(lane, { kind: 'openGap', entity: lane.entity });
        this.#endOldestGapWhenFull(nowMs);
        return false;
      case 'skip-ahead':
        lane.skipsAhead = true;
        return true;
      case 'park':
        lane.verdict = { reason: next.reason, detail: next.detail };
        this.#park(lane, next.sequence, next.reason, next.detail);
        return false;
    }
  }

  /** Keeps room in the prefetch window for the events that are missing. */
  #endOldestGapWhenFull(nowMs: number): void {
    for (let lane = this.#gaps.endOldestWhenFull(); lane !== null; lane = this.#gaps.endOldestWhenFull()) {
      this.#deadlines.set(lane, nowMs);
    }
  }

  #park(lane: Lane, sequence: number, reason: RejectionReason, detail: string): void {
    const { entity, version } = lane;
    this.#begin(lane, { kind: 'park', entity, expectedVersion: version, sequence, reason, detail });
  }

  #begin(lane: Lane, operation: NewOperation): void {
    lane.parkedIsFresh = false;
    this.#operations.begin(lane, operation, this.#settlements.effects);
  }
}

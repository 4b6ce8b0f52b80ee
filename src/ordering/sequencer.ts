/**
 * The sequencer of one shard: a synchronous, deterministic state machine. Facts go in, effects come out
 * (facts.ts); time is an input. With what it calls (lane-runner.ts, plan.ts, gap-watch.ts) it alone decides in which order events
 * are committed, what is acknowledged and what is rejected.
 *
 * It guarantees, whatever facts arrive and in whatever order: a delivery is settled (acknowledged or
 * rejected) at most once, and only after its commit, as a duplicate or skipped, or once its rejection is on record; one
 * operation per entity at a time; the slots of the commits of an entity go up by one, except where a
 * strategy leaves holes. It leaves to the driver: carrying effects out, back-off and jitter, and the
 * processors; to the store: that a commit happens at most once and only by who knows the version.
 *
 * Mutable inside, deterministic outside: the same facts give the same effects.
 */
import { InvariantError } from '../errors.ts';
import type { Delivery, Effect, Fact, RefusedDelivery, SequencerLimits } from './facts.ts';
import { GapWatch, type OpenGap } from './gap-watch.ts';
import { Deadlines } from './heap.ts';
import { type Answer, LaneRunner, Settlements } from './lane-runner.ts';
import { type Lane, Lanes, type Operation } from './lane.ts';
import { Operations } from './operations.ts';
import { Work } from './work.ts';

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
  readonly state: 'running' | 'draining' | 'drained' | 'ended';
}

/** Facts that end an operation. */
type OperationAnswer = Answer<'loaded' | 'committed' | 'stale' | 'idConflict' | 'lookedUp' | 'parked' | 'rejected' | 'fenced'>;

export class ShardSequencer {
  readonly #limits: SequencerLimits;
  readonly #lanes: Lanes;
  readonly #operations: Operations;
  readonly #deadlines = new Deadlines<Lane>();
  readonly #gaps: GapWatch;
  readonly #work: Work;
  #state: SequencerOverview['state'] = 'running';
  readonly #settlements = new Settlements();
  readonly #runner: LaneRunner;
  #nowMs = 0;
  #effects: Effect[] = [];

  constructor(limits: SequencerLimits) {
    this.#limits = limits;
    this.#lanes = new Lanes(limits.maxRememberedBytes);
    this.#operations = new Operations(limits.maxProbe);
    this.#gaps = new GapWatch(limits);
    this.#work = new Work(limits.gapTimeoutMs);
    this.#runner = new LaneRunner(limits, this.#lanes, this.#operations, this.#gaps, this.#deadlines, this.#settlements);
  }

  handle(nowMs: number, fact: Fact): readonly Effect[] {
    // While a lane waits for an answer it sets no deadline: at most the interval of readings counts, for a longer silence means that
    // the process was stopped.
    this.#work.advance(this.#gaps.clock.advance(nowMs, Math.min(this.nextDeadlineMs() ?? nowMs, this.#nowMs + this.#limits.gapRereadMs)));
    this.#nowMs = nowMs;
    this.#effects = [];
    this.#settlements.effects = this.#effects;
    if (fact.kind === 'channelLost') this.#forgetEverything();
    else if (this.#state !== 'ended') this.#dispatch(fact);
    this.#observeRoom();
    return this.#effects;
  }

  /** When `timePassed` is due next, or null. */
  nextDeadlineMs(): number | null {
    // It waits for the loss of its channel, not for time.
    if (this.#state === 'ended') return null;
    let next = this.#deadlines.nextMs;
    const { movesForMs } = this.#work;
    for (const dueMs of [
      this.#operations.nextProbeMs,
      this.#gaps.nextDeadlineMs(),
      movesForMs === null ? null : this.#nowMs + movesForMs,
    ]) {
      if (dueMs !== null && (next === null || dueMs < next)) next = dueMs;
    }
    return next;
  }

  overview(): SequencerOverview {
    return {
      held: this.#gaps.held,
      gaps: this.#gaps.size,
      entities: this.#lanes.size,
      unsettled: this.#settlements.undecided + this.#settlements.leaving,
      operations: this.#operations.size,
      paused: this.#operations.paused,
      state: this.#state,
    };
  }

  /**
   * Deliveries that only an event that is missing, or the end of a gap, settles; with those in work where nothing but stuck ones are.
   * None while the store is unavailable: what is let in for them would be held as well, and no gap ends.
   */
  get waiting(): number {
    return this.#operations.paused ? 0 : this.#gaps.held + this.#work.stuck;
  }

  /** Deliveries held for one entity, lowest sequence first, with what they wait for; null when it is not known here. */
  heldOf(entityType: string, entityId: string): { readonly version: number; readonly sequences: readonly number[] } | null {
    const lane = this.#lanes.look(entityType, entityId);
    if (lane === undefined || lane.known.state === 'unknown') return null;
    const sequences = [...lane.held.deliveries()].map((delivery) => delivery.event.sequence ?? 0);
    return { version: lane.known.version, sequences: sequences.sort((a, b) => a - b) };
  }

  /** Deliveries held, by entity type. */
  heldByEntityType(): ReadonlyMap<string, number> {
    return this.#gaps.heldByEntityType();
  }

  /** Open gaps, longest wait first. */
  openGaps(limit: number, nowMs: number): readonly OpenGap[] {
    return this.#gaps.oldest(limit, nowMs);
  }

  /** Throws `InvariantError` when the state contradicts itself. Tests call it after every step. */
  assertInvariants(): void {
    const problem = checkInvariants(this.#lanes.awake(), this.#operations.all(), {
      undecided: this.#settlements.undecided,
      leaving: this.#settlements.leaving,
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
      case 'turned':
        for (const lane of this.#gaps.takeTurned(fact.turn)) this.#advance(lane, true);
        break;
      case 'storeUnavailable':
        this.#gaps.clock.storeIsUnavailable();
        this.#operations.suspend(fact.ops, this.#nowMs + fact.retryInMs, this.#effects);
        break;
      case 'entityUnavailable':
        this.#entityUnavailable(fact);
        break;
      case 'memoryFull':
        this.#settlements.memoryIsFull = fact.isFull;
        break;
      case 'processing':
        this.#operations.leaveProbe(fact.op, this.#nowMs, this.#effects);
        break;
      default:
        this.#answered(fact);
    }
    if (this.#state === 'ended') return;
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
    settlements.undecided += deliveries.length;
    this.#gaps.clock.delivered();
    const touched = new Set<Lane>();
    for (const delivery of deliveries) {
      if ('refusal' in delivery) {
        settlements.refuse(delivery);
      } else if (delivery.event.sequence === null && this.#limits.unsequenced === 'reject') {
        settlements.reject(delivery, 'invalid_sequence', 'the event has no sequence and UNSEQUENCED is reject');
      } else {
        const lane = this.#lanes.of(delivery.event);
        this.#work.arrives(lane);
        lane.arrivals.push(delivery);
        touched.add(lane);
      }
    }
    for (const lane of touched) this.#advance(lane);
  }

  #timePassed(): void {
    this.#operations.probe(this.#nowMs, this.#effects);
    for (const lane of this.#deadlines.takeDue(this.#nowMs)) {
      const waiting = lane.op?.isSuspended === true && !this.#operations.paused ? lane.op : null;
      if (waiting !== null) this.#operations.repeat(waiting, this.#effects);
      else this.#advance(lane);
    }
    for (const lane of this.#gaps.takeDue()) this.#advance(lane);
  }

  /** Whether a missing event could come now (gap-clock.ts); and the broker's turn, where a gap is about to end. */
  #observeRoom(): void {
    const { undecided, leaving, memoryIsFull } = this.#settlements;
    const storeAnswers = !this.#operations.paused;
    const hasRoom = undecided + leaving < this.#limits.prefetch && !memoryIsFull;
    let onlyGapsMakeRoom = false;
    if (hasRoom || !storeAnswers) this.#work.forget(storeAnswers);
    else {
      const somethingMoves = this.#work.look(this.#lanes.awake()) || leaving > 0;
      onlyGapsMakeRoom = !somethingMoves && this.#gaps.isFull;
    }
    this.#gaps.clock.observe({ storeAnswers, hasRoom, onlyGapsMakeRoom });
    if (this.#state !== 'running') return;
    const turn = this.#gaps.askForTurn();
    if (turn !== null) this.#effects.push({ kind: 'turn', turn });
  }

  #entityUnavailable(fact: Answer<'entityUnavailable'>): void {
    const operation = this.#operations.get(fact.op);
    if (operation === undefined) return;
    if (operation.lane === null) throw new InvariantError(`${operation.effect.kind} concerns no single entity`);
    this.#gaps.clock.storeAnswered();
    this.#operations.setAside(operation, this.#effects);
    this.#deadlines.set(operation.lane, this.#nowMs + fact.retryInMs);
  }

  #answered(fact: OperationAnswer): void {
    const operation = this.#operations.finish(fact.op, this.#effects);
    if (operation === null) return;
    // That a processor has failed for good is not the store's word.
    if (fact.kind !== 'committed' || fact.done > 0) this.#gaps.clock.storeAnswered();
    if (operation.lane !== null) this.#work.answered(operation.lane);
    if (fact.kind === 'rejected') return this.#settlements.rejected(operation);
    if (fact.kind === 'fenced') return this.#end('overtaken', 'a later owner of this shard has claimed an entity that is held here');
    if (fact.kind === 'lookedUp') {
      const undecided = this.#runner.lookedUp(operation, fact.results, this.#nowMs);
      for (const lane of undecided) this.#advance(lane);
      return;
    }
    const lane = operation.lane;
    if (lane === null) throw new InvariantError(`${fact.kind} answers an operation without an entity`);
    if (fact.kind === 'committed') this.#runner.committed(lane, operation, fact);
    else if (fact.kind === 'idConflict') this.#runner.idConflict(lane, operation, fact);
    else if (fact.kind === 'parked') lane.learn({ kind: 'parked' });
    else {
      const wentBackwards = this.#runner.read(lane, operation, fact.snapshot, this.#nowMs);
      if (wentBackwards !== null) return this.#end('halt', wentBackwards);
    }
    this.#advance(lane);
  }

  #advance(lane: Lane, brokerHadTurn = false): void {
    this.#runner.advance(lane, this.#nowMs, this.#state === 'running', brokerHadTurn);
    this.#lanes.rest(lane);
  }

  /** Nothing more is decided until the channel is lost. */
  #end(kind: 'overtaken' | 'halt', detail: string): void {
    this.#state = 'ended';
    this.#effects.push({ kind, detail });
  }

  #forgetEverything(): void {
    this.#lanes.clear();
    this.#operations.clear();
    this.#deadlines.clear();
    this.#gaps.clear();
    this.#work.forget(true);
    this.#settlements.clear();
    if (this.#state === 'draining') this.#endDrain();
    else if (this.#state === 'ended') this.#state = 'running';
  }
}

interface Totals {
  readonly undecided: number;
  readonly leaving: number;
  readonly held: number;
  readonly gaps: number;
  /** False while draining and after: then lanes stop where they are. */
  readonly running: boolean;
}

/** What must hold after every step: the first contradiction found, or null. Slow, for tests and the simulation. */
function checkInvariants(lanes: Iterable<Lane>, operations: Iterable<Operation>, totals: Totals): string | null {
  const seen = new Set<number>();
  let held = 0;
  let gaps = 0;
  let leaving = 0;
  let problem: string | null = null;
  const see = (tag: number, where: string) => {
    if (seen.has(tag)) problem ??= `delivery ${tag} is in two places (${where})`;
    seen.add(tag);
  };
  const underWay = new Set<Operation>();
  let lookingUp = 0;
  for (const operation of operations) {
    underWay.add(operation);
    if (operation.lane !== null && operation.lane.op !== operation) problem ??= `operation ${operation.id} is not its lane's`;
    for (const slot of operation.slots) see(slot.delivery.tag, 'slot');
    for (const delivery of operation.deliveries) see(delivery.tag, 'lookUp');
    lookingUp += operation.deliveries.length;
    if (operation.effect.kind === 'reject') leaving += operation.effect.rejections.length;
    problem ??= checkSlots(operation);
  }
  for (const lane of lanes) {
    const name = `${lane.entity.entityType} ${lane.entity.entityId}`;
    for (const delivery of lane.arrivals) see(delivery.tag, 'arrivals');
    for (const delivery of lane.held.deliveries()) see(delivery.tag, 'held');
    if (lane.parking?.delivery) see(lane.parking.delivery.tag, 'parking');
    held += lane.held.count;
    lookingUp -= lane.lookingUp;
    const { version, state } = lane.known;
    const isOpen = lane.gap !== null && lane.gap.aboveVersion !== null;
    if (isOpen) gaps++;
    if (lane.op !== null && !underWay.has(lane.op)) problem ??= `${name} waits for an operation that is over`;
    if (totals.running && lane.idle) problem ??= `${name} is at rest and its lane is kept`;
    if (lane.op === null && state === 'unknown' && lane.held.count > 0) problem ??= `${name} holds without knowing its version`;
    if (!totals.running) continue;
    const lowest = lane.held.lowest();
    if (lane.op === null && lowest !== null && lowest <= version + 1) problem ??= `${name} holds ${lowest} at version ${version}`;
    if (lane.op === null && lowest !== null && !isOpen) problem ??= `${name} holds ${lowest} and watches no gap`;
  }
  if (problem !== null) return problem;
  if (lookingUp !== 0) return `${lookingUp} deliveries are asked about that no lane waits for`;
  if (held !== totals.held) return `${held} are held, but ${totals.held} are counted`;
  if (gaps !== totals.gaps) return `${gaps} gaps are open, but ${totals.gaps} are counted`;
  if (leaving !== totals.leaving) return `${leaving} are being rejected, but ${totals.leaving} are counted`;
  if (seen.size !== totals.undecided) return `${seen.size} deliveries are kept, but ${totals.undecided} are undecided`;
  return null;
}

/** The slots of a commit go up by one from the expected version, except over holes. */
function checkSlots(operation: Operation): string | null {
  if (operation.effect.kind !== 'commit') return null;
  let version = operation.effect.expectedVersion;
  for (const slot of operation.slots) {
    const closesHole = slot.sequence <= version;
    if (slot.versionAfter < version) return `operation ${operation.id} takes the version back to ${slot.versionAfter}`;
    if (!closesHole && slot.versionAfter !== slot.sequence)
      return `operation ${operation.id} records ${slot.sequence} as ${slot.versionAfter}`;
    if (slot.sequence > version + 1 && slot.holesAfter === '') return `operation ${operation.id} passes over sequences without holes`;
    version = slot.versionAfter;
  }
  return null;
}

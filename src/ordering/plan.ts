/**
 * Decides what one lane does next: the table "per delivery" of src/README.md (section 5), case by case. It is called whenever the
 * lane has no operation under way, looks at what arrived in the order of arrival, and stops at the first
 * thing that needs the store's answer.
 */
import type { RejectionReason } from '../events/reasons.ts';
import type { Delivery, Slot, SlotAction } from './facts.ts';
import type { Holes } from './holes.ts';
import type { Lane } from './lane.ts';
import { maxAhead, type SequencerLimits } from './limits.ts';

export type Step =
  | { readonly kind: 'commit'; readonly run: Run }
  /** The event that is next in line, or with `fail` the one that came too early, cannot be processed. */
  | { readonly kind: 'fail'; readonly delivery: Delivery; readonly reason: RejectionReason; readonly detail: string }
  /** To be read again first: what is known here is in doubt, or arrivals would have to follow dead letters that may be being replayed. */
  | { readonly kind: 'read' }
  /** Something is held and its predecessor is not here. */
  | { readonly kind: 'gap' }
  | { readonly kind: 'idle' };

/** Decisions that need nothing further of the lane. */
export interface PlanSink {
  /** At or below the version: to be compared with what the store remembers. */
  lookUp(delivery: Delivery): void;
  /** Falls into a hole that `skip` left. */
  skipped(delivery: Delivery): void;
  reject(delivery: Delivery, reason: RejectionReason, detail: string): void;
  violation(delivery: Delivery, sequence: number, expected: number): void;
}

export function planLane(lane: Lane, limits: SequencerLimits, countedMs: number, sink: PlanSink): Step {
  if (lane.known.state === 'doubtful') return { kind: 'read' };
  releaseOvertaken(lane);
  const { skipsAhead } = lane;
  lane.skipsAhead = false;
  const run = new Run(lane);
  const arrivals = lane.arrivals;
  const later: Delivery[] = [];
  let failed: Step | null = null;
  let rereads = false;
  let at = 0;
  for (;;) {
    if (run.slots.length >= limits.maxFold) break;
    if (takeHeld(lane, run, later)) continue;
    const delivery = arrivals[at];
    if (delivery === undefined) break;
    const verdict = placeArrival(lane, run, delivery, limits, countedMs, sink);
    if (verdict === 'stop' || verdict === 'read') {
      rereads = verdict === 'read' && run.isEmpty;
      break;
    }
    if (verdict === 'later') later.push(delivery);
    else if (typeof verdict === 'object') failed = verdict;
    at++;
    if (failed !== null) break;
  }
  // Copies of what is in the run wait for its commit; they go first, as they came before the rest.
  if (at > 0 || later.length > 0) lane.arrivals = later.length === 0 ? arrivals.slice(at) : later.concat(arrivals.slice(at));
  if (failed !== null) return failed;
  if (rereads) return { kind: 'read' };
  const held = run.isEmpty && lane.held.count > 0 ? settleHeld(lane, run, skipsAhead, sink) : 'placed';
  if (typeof held === 'object') return held;
  if (held === 'read') return { kind: 'read' };
  if (!run.isEmpty) return { kind: 'commit', run };
  if (lane.held.count > 0) return { kind: 'gap' };
  return { kind: 'idle' };
}

/** What another owner has committed meanwhile is held no longer: it is decided as what it is now, a duplicate or a hole. */
function releaseOvertaken(lane: Lane): void {
  const overtaken: Delivery[] = [];
  for (let lowest = lane.held.lowest(); lowest !== null && lowest <= lane.known.version; lowest = lane.held.lowest()) {
    overtaken.push(...(lane.held.take(lowest) ?? []));
  }
  lane.putBack(overtaken);
}

/** Moves what is held for the next sequence into the run. */
function takeHeld(lane: Lane, run: Run, later: Delivery[]): boolean {
  if (lane.held.count === 0 || !run.takes(false) || !lane.held.has(run.version + 1)) return false;
  const [first, ...copies] = lane.held.take(run.version + 1) ?? [];
  if (first === undefined) return false;
  if (!run.admits(first) || lane.idVerdicts.has(first)) {
    // Decided as an arrival, where these cases are at home.
    lane.arrivals.push(first, ...copies);
    return true;
  }
  run.follow(first, 'apply');
  later.push(...copies);
  return true;
}

type Placement = 'placed' | 'later' | 'stop' | 'read' | Extract<Step, { kind: 'fail' }>;

function placeArrival(lane: Lane, run: Run, delivery: Delivery, limits: SequencerLimits, countedMs: number, sink: PlanSink): Placement {
  const sequence = delivery.event.sequence;
  if (!run.takes(sequence === null)) return 'stop';
  if (sequence === null) return placeUnsequenced(lane, run, delivery);
  const { version, state, parkedAt } = lane.known;
  if (sequence <= version) return placeSettled(lane, run, delivery, sequence, limits, sink);
  // What the run itself has passed over is decided once that is committed, and before what came after it.
  if (sequence <= run.version) return run.holes.has(sequence) ? 'stop' : 'later';
  if (sequence === run.version + 1) {
    return placeAs(lane, run, delivery, (action) => run.follow(delivery, action));
  }
  // Before the limit on how far ahead: a running stream may have passed any number. Parked at version 0 means
  // that its base line was dead-lettered, and what follows must not take its place, nor while that is being replayed.
  const hasBaseLine = version > 0 || limits.firstSequence !== 'any';
  const mayBeBaseLine = !hasBaseLine && (state === 'open' || (state === 'replayed' && sequence <= (parkedAt ?? sequence)));
  if (mayBeBaseLine && run.isEmpty) return placeAs(lane, run, delivery, (action) => run.adopt(delivery, sequence, action));
  if (sequence > version + maxAhead && (hasBaseLine || state === 'open')) {
    // How far ahead it is can be said once the run is committed.
    if (!run.isEmpty) return 'stop';
    sink.reject(delivery, 'invalid_sequence', `sequence ${sequence} is more than ${maxAhead} ahead of version ${version}`);
    return 'placed';
  }
  if (state === 'parked-before') return 'read';
  if (state === 'parked') {
    sink.reject(delivery, 'entity_parked', `the entity is parked at version ${version}`);
    return 'placed';
  }
  return placeEarly(lane, run, delivery, sequence, limits, countedMs, sink);
}

function placeUnsequenced(lane: Lane, run: Run, delivery: Delivery): Placement {
  return placeAs(lane, run, delivery, () => run.unsequenced(delivery));
}

/** At or below the version: a duplicate, unless it falls into a hole. */
function placeSettled(lane: Lane, run: Run, delivery: Delivery, sequence: number, limits: SequencerLimits, sink: PlanSink): Placement {
  const { version, holes } = lane.known;
  if (!holes.has(sequence)) {
    lane.lookingUp++;
    sink.lookUp(delivery);
    return 'placed';
  }
  if (!run.holes.has(sequence)) return 'later';
  if (limits.strategy === 'skip') {
    sink.skipped(delivery);
    return 'placed';
  }
  if (limits.strategy !== 'log_and_process') {
    sink.reject(delivery, 'late', `version ${version} has passed over sequence ${sequence}`);
    return 'placed';
  }
  return placeAs(lane, run, delivery, (action) => run.close(delivery, sequence, action));
}

/** Into the run, as what the store has said about its id; a conflict is decided when it comes first. */
function placeAs(lane: Lane, run: Run, delivery: Delivery, place: (action: SlotAction) => void): Placement {
  if (!run.admits(delivery)) return 'stop';
  const verdict = lane.idVerdicts.get(delivery);
  if (verdict?.action === 'conflict') return run.isEmpty ? conflict(delivery, verdict.appliedAs) : 'stop';
  place(verdict?.action ?? 'apply');
  if (verdict !== undefined) run.repeats(verdict.appliedAs);
  return 'placed';
}

/** Beyond the next in line: a violation if it reveals a new gap, and then by strategy. */
function placeEarly(
  lane: Lane,
  run: Run,
  delivery: Delivery,
  sequence: number,
  limits: SequencerLimits,
  countedMs: number,
  sink: PlanSink,
): Placement {
  if (limits.strategy === 'fail' && !run.isEmpty) return 'stop';
  const expected = Math.max(lane.known.highest, run.version) + 1;
  if (sequence > expected) sink.violation(delivery, sequence, expected);
  lane.learn({ kind: 'seen', sequence });
  switch (limits.strategy) {
    case 'buffer':
      lane.held.add(sequence, delivery, countedMs);
      return 'placed';
    case 'fail':
      return { kind: 'fail', delivery, reason: 'out_of_order', detail: `expected ${run.version + 1}, received ${sequence}` };
    case 'skip':
      run.leap(delivery, sequence, 'skip');
      return 'placed';
    case 'log_and_process':
      return placeAs(lane, run, delivery, (action) => run.leap(delivery, sequence, action));
  }
}

function conflict(delivery: Delivery, appliedAs: number): Extract<Step, { kind: 'fail' }> {
  return {
    kind: 'fail',
    delivery,
    reason: 'message_id_conflict',
    detail: `the id was already applied with another payload, under sequence ${appliedAs}`,
  };
}

/** Nothing follows the version: what is held is rejected when the entity is parked, or the gap is skipped. */
function settleHeld(lane: Lane, run: Run, skipsAhead: boolean, sink: PlanSink): Placement {
  const { state, version } = lane.known;
  if (state === 'parked-before') return 'read';
  if (state === 'parked') {
    const detail = `the entity is parked at version ${version}`;
    for (const delivery of lane.held.drain()) sink.reject(delivery, 'entity_parked', detail);
    return 'placed';
  }
  const lowest = skipsAhead ? lane.held.lowest() : null;
  if (lowest === null) return 'placed';
  const [first, ...copies] = lane.held.take(lowest) ?? [];
  if (first === undefined) return 'placed';
  lane.arrivals.unshift(...copies);
  return placeAs(lane, run, first, (action) => run.leap(first, lowest, action));
}

/** The slots of one commit of one entity, in order, with the version and the holes after each of them. */
class Run {
  readonly slots: Slot[] = [];
  version: number;
  holes: Holes;
  /** The entity was unknown and the run's first event is its base line. */
  adopts = false;
  #unsequenced = false;
  #ids: Set<string> | null = null;

  constructor(lane: Lane) {
    this.version = lane.known.version;
    this.holes = lane.known.holes;
  }

  get isEmpty(): boolean {
    return this.slots.length === 0;
  }

  /** Sequenced and unsequenced events do not share a commit: a conflict of ids means different things for them. */
  takes(unsequenced: boolean): boolean {
    return this.isEmpty || this.#unsequenced === unsequenced;
  }

  /** False when the run already carries this id: the store can only tell after the first is committed. */
  admits(delivery: Delivery): boolean {
    return this.#ids === null ? this.slots[0]?.delivery.event.id !== delivery.event.id : !this.#ids.has(delivery.event.id);
  }

  /** The next sequence in line. */
  follow(delivery: Delivery, action: SlotAction): void {
    this.version += 1;
    this.#push(delivery, this.version, action);
  }

  /** An event beyond the next in line: the sequences passed over become holes, and itself when it is skipped. */
  leap(delivery: Delivery, sequence: number, action: SlotAction): void {
    this.holes = this.holes.add(this.version + 1, action === 'skip' ? sequence : sequence - 1);
    this.version = sequence;
    this.#push(delivery, sequence, action);
  }

  /** The first event of a running stream: what came before it was never ours. */
  adopt(delivery: Delivery, sequence: number, action: SlotAction): void {
    this.adopts = true;
    this.holes = this.holes.below(sequence - 1);
    this.version = sequence;
    this.#push(delivery, sequence, action);
  }

  /** A late event fills its hole; the version stays. */
  close(delivery: Delivery, sequence: number, action: SlotAction): void {
    this.holes = this.holes.close(sequence);
    this.#push(delivery, sequence, action);
  }

  /** What was placed last has an id that was applied under another sequence. */
  repeats(appliedAs: number): void {
    const last = this.slots.pop();
    if (last !== undefined) this.slots.push({ ...last, appliedAs });
  }

  unsequenced(delivery: Delivery): void {
    this.#unsequenced = true;
    this.follow(delivery, 'apply');
  }

  #push(delivery: Delivery, sequence: number, action: SlotAction): void {
    if (this.slots.length > 0) {
      this.#ids ??= new Set(this.slots.map((slot) => slot.delivery.event.id));
      this.#ids.add(delivery.event.id);
    }
    this.slots.push({ delivery, sequence, action, versionAfter: this.version, holesAfter: this.holes.toString() });
  }
}

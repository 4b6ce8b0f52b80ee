/**
 * One entity's lane: what is known of its version, what has arrived and is not yet decided, what is held, and
 * the one operation that may be under way. Lanes do not see each other, so a stuck entity delays no other.
 */
import type { EntityRef } from '../events/event.ts';
import type { RejectionReason } from '../events/reasons.ts';
import type { Delivery, EntityView, FailureText, Slot } from './facts.ts';
import { Holes } from './holes.ts';
import type { Operation } from './operations.ts';
import { SequenceBuffer } from './sequence-buffer.ts';

/** The version before the store was asked: below every one that there is. */
export const unknownVersion = Number.NEGATIVE_INFINITY;

/** A gap below the lowest held sequence. A new one begins whenever the version has moved and something is still held. */
export interface Gap {
  /** The version it stands above: the first missing sequence is one more. */
  readonly aboveVersion: number;
  /** Ends it early: too much is held. */
  overflow: boolean;
  /** Its time is over, and the version is being, or has been, read since. */
  final: boolean;
  /** When it is to be claimed and read next; at once when it was opened. */
  nextReadMs: number;
}

/** An event that was next in line and cannot be processed, waiting until its entity is parked. */
export interface Failure extends FailureText {
  readonly delivery: Delivery;
}

/** What is kept of an entity at rest: its version alone, as a rule. */
export type Remembered =
  | number
  | { readonly version: number; readonly holes: Holes; readonly parked: boolean; readonly highest: number };

/** What becomes of an event whose id was applied under another sequence. */
export interface IdVerdict {
  readonly action: 'consume' | 'conflict';
  readonly appliedAs: number;
}

const noVerdicts: ReadonlyMap<Delivery, IdVerdict> = new Map();

export class Lane {
  readonly entity: EntityRef;
  readonly held = new SequenceBuffer();
  /** Arrived and not yet decided, in order of arrival. */
  arrivals: Delivery[] = [];
  version = unknownVersion;
  holes = Holes.none;
  parked = false;
  /** Its dead letters are being replayed. */
  isReplayed = false;
  parkedAt: number | null = null;
  /** When the version last moved in a replay, or that ended, in the time of the gap clock: what is held has waited from then. */
  replayMovedMs = 0;
  /** Whether that was just read. What was read long ago may have ended: only a fresh reading makes an event follow into the dead letters. */
  parkedIsFresh = false;
  /** The store has said something that does not go with the version known here: it is read before anything else. */
  isDoubtful = false;
  /** The highest sequence seen; what comes above it by more than one reveals a new gap. */
  highest = unknownVersion;
  op: Operation | null = null;
  /** Deliveries at or below the version of which the store is asked what it remembers. */
  recalling = 0;
  gap: Gap | null = null;
  /** `held.count` as it was last counted into the shard's total. */
  heldNoted = 0;
  heldBytesNoted = 0;
  /** Since when it has work without an answer, in the time of work.ts. */
  workSinceMs = 0;
  failure: Failure | null = null;
  /** Why everything held is to be rejected, once the entity is parked. */
  verdict: { readonly reason: RejectionReason; readonly detail: string } | null = null;
  /** The gap's time is over and `skip-ahead` is chosen: go on with the lowest held sequence. */
  skipsAhead = false;
  /** Deliveries whose id is known under another sequence: consume the slot, or fail. */
  #idVerdicts: Map<Delivery, IdVerdict> | null = null;

  constructor(entity: EntityRef, remembered: Remembered | null) {
    this.entity = entity;
    if (typeof remembered === 'number') {
      this.version = this.highest = remembered;
    } else if (remembered !== null) {
      this.version = remembered.version;
      this.holes = remembered.holes;
      this.parked = remembered.parked;
      this.highest = remembered.highest;
    }
  }

  get idVerdicts(): ReadonlyMap<Delivery, IdVerdict> {
    return this.#idVerdicts ?? noVerdicts;
  }

  decideId(delivery: Delivery, verdict: IdVerdict): void {
    this.#idVerdicts ??= new Map();
    this.#idVerdicts.set(delivery, verdict);
  }

  forgetId(delivery: Delivery): void {
    this.#idVerdicts?.delete(delivery);
  }

  /** Takes over what the store says. */
  update(view: EntityView, countedMs: number): void {
    this.stand(view, view.version !== this.version, countedMs);
    this.parkedAt = view.parkedAt;
    this.version = view.version;
    this.isDoubtful = false;
    this.holes = Holes.parse(view.holes);
    if (this.highest < view.version) this.highest = view.version;
  }

  /** Whether it is parked or replayed, as the store has just said. */
  stand({ parked, replaying }: Pick<EntityView, 'parked' | 'replaying'>, hasMoved: boolean, countedMs: number): void {
    if (this.isReplayed !== replaying || (replaying && hasMoved)) this.replayMovedMs = countedMs;
    this.isReplayed = replaying;
    this.parked = parked;
    this.parkedIsFresh = true;
  }

  /** The first `done` slots are in the store. */
  settle(slots: readonly Slot[], done: number): void {
    const last = slots[done - 1];
    if (last === undefined) return;
    this.version = last.versionAfter;
    this.holes = Holes.parse(last.holesAfter);
    if (this.highest < this.version) this.highest = this.version;
    if (this.#idVerdicts !== null) for (const slot of slots.slice(0, done)) this.forgetId(slot.delivery);
  }

  /** Slots that were not committed are to be decided again, before what arrived since. */
  putBack(slots: readonly Slot[]): void {
    this.arrivals = slots.map((slot) => slot.delivery).concat(this.arrivals);
  }

  /** True when nothing of it is left but what `remembered` says. */
  get idle(): boolean {
    return this.op === null && this.recalling === 0 && this.arrivals.length === 0 && this.held.count === 0;
  }

  /** Null when nothing is known, or what is known is in doubt. */
  remembered(): Remembered | null {
    const { version, holes, parked, highest } = this;
    // Which event may be the base line of an entity that is replayed is read anew.
    if (version === unknownVersion || this.isDoubtful || (this.isReplayed && version === 0)) return null;
    return !parked && highest === version && holes.toString() === '' ? version : { version, holes, parked, highest };
  }
}

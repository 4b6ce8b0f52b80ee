/**
 * One entity's lane: what is known of its version, what has arrived and is not yet decided, what is held, and
 * the one operation that may be under way. Lanes do not see each other, so a stuck entity delays no other.
 *
 * A lane lives while something of its entity arrives, is held or is under way; at rest only what is known of the entity is
 * remembered, in tens of bytes, and the oldest of that is forgotten when it takes too many: the entity is then read again.
 */
import type { EntityRef } from '../events/event.ts';
import { entityKey } from '../events/identity.ts';
import type { RejectionReason } from '../events/reasons.ts';
import { ByteLru } from './byte-lru.ts';
import type { Parked, Snapshot } from './entity.ts';
import type { Delivery, FailureText, Slot } from './facts.ts';
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
export type Remembered = number | { readonly version: number; readonly holes: Holes; readonly parked: boolean; readonly highest: number };

/** What becomes of an event whose id was applied under another sequence. */
export interface IdVerdict {
  readonly action: 'absorb' | 'conflict';
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
  lookingUp = 0;
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
  update({ version, holes, parked }: Pick<Snapshot, 'version' | 'holes' | 'parked'>, countedMs: number): void {
    this.stand(parked, version !== this.version, countedMs);
    this.parkedAt = parked?.sequence ?? null;
    this.version = version;
    this.isDoubtful = false;
    this.holes = Holes.parse(holes);
    if (this.highest < version) this.highest = version;
  }

  /** As the store has just said: what arrives has to follow its dead letters, or is held until they have come, for they are being replayed. */
  stand(parked: Parked | null, hasMoved: boolean, countedMs: number): void {
    const isReplayed = parked?.replaying ?? false;
    if (this.isReplayed !== isReplayed || (isReplayed && hasMoved)) this.replayMovedMs = countedMs;
    this.isReplayed = isReplayed;
    this.parked = parked !== null && !isReplayed;
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
    return this.op === null && this.lookingUp === 0 && this.arrivals.length === 0 && this.held.count === 0;
  }

  /** Null when nothing is known, or what is known is in doubt. */
  remembered(): Remembered | null {
    const { version, holes, parked, highest } = this;
    // Which event may be the base line of an entity that is replayed is read anew.
    if (version === unknownVersion || this.isDoubtful || (this.isReplayed && version === 0)) return null;
    return !parked && highest === version && holes.toString() === '' ? version : { version, holes, parked, highest };
  }
}

/** The lanes of one shard, by entity. */
export class Lanes {
  readonly #awake = new Map<string, Lane>();
  readonly #atRest: ByteLru<Remembered>;

  constructor(maxRememberedBytes: number) {
    this.#atRest = new ByteLru(maxRememberedBytes, rememberedBytes);
  }

  get size(): number {
    return this.#awake.size + this.#atRest.size;
  }

  /** For looking only: what is done to the lane of an entity at rest is lost. */
  look(entityType: string, entityId: string): Lane | undefined {
    const key = entityKey({ entityType, entityId });
    const remembered = this.#atRest.get(key);
    return remembered === undefined ? this.#awake.get(key) : new Lane({ entityType, entityId }, remembered);
  }

  /** Wakes it. Whoever does calls `rest` when the lane has gone as far as it can. */
  of({ entityType, entityId }: EntityRef): Lane {
    const key = entityKey({ entityType, entityId });
    let lane = this.#awake.get(key);
    if (lane === undefined) {
      lane = new Lane({ entityType, entityId }, this.#atRest.take(key) ?? null);
      this.#awake.set(key, lane);
    }
    return lane;
  }

  /** Lets go of the lane, where nothing of it is left but what is remembered. */
  rest(lane: Lane): void {
    if (!lane.idle) return;
    const key = entityKey(lane.entity);
    // A deadline may come up for a lane that has gone: its entity may have another one by now.
    if (this.#awake.get(key) !== lane) return;
    this.#awake.delete(key);
    const remembered = lane.remembered();
    if (remembered !== null) this.#atRest.put(key, remembered);
  }

  awake(): Iterable<Lane> {
    return this.#awake.values();
  }

  clear(): void {
    this.#awake.clear();
    this.#atRest.clear();
  }
}

function rememberedBytes(remembered: Remembered): number {
  return typeof remembered === 'number' ? 0 : 120 + remembered.holes.toString().length * 2;
}

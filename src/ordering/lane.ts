/**
 * One entity's lane: what is known of the entity, what has arrived and is not yet decided, what is held, and the one operation that
 * may be under way. Lanes do not see each other, so a stuck entity delays no other.
 *
 * What is known has a state, which decides what becomes of an arrival. It changes in `learned` alone:
 *
 *   read ──────────▶ open, parked or replaying, as the store says; from any state
 *   committed ─────▶ the same, but a doubtful lane stays doubtful
 *   parked ────────▶ parked, but a doubtful lane stays doubtful
 *   aged ──────────▶ parked becomes parked-before
 *   contradicted ──▶ doubtful; from any state
 *
 * `op` is written by operations.ts alone, `gap` by gap-watch.ts, `workSinceMs` by work.ts, `parking` by lane-runner.ts. Arrivals
 * come from the sequencer; plan.ts and lane-runner.ts take them out, put them back and count those that are looked up.
 *
 * A lane lives while something of its entity arrives, is held or is under way; at rest only what is known of the entity is
 * remembered, in tens of bytes, and the oldest of that is forgotten when it takes too much: the entity is then read again.
 */
import type { EntityRef } from '../events/event.ts';
import { entityKey } from '../events/identity.ts';
import type { Parked } from './entity.ts';
import type { Delivery, FailureText, OperationEffect, Slot } from './facts.ts';
import { Holes } from './holes.ts';
import { SequenceBuffer } from './sequence-buffer.ts';

export type LaneState =
  /** The store was not asked yet. */
  | 'unknown'
  /** Events are applied in sequence; one that comes early is held. */
  | 'open'
  /** So the store has just said: an event that comes early follows into the dead letters. */
  | 'parked'
  /** It was parked when the store was last asked, and may be replayed by now: it is read before anything follows. */
  | 'parked-before'
  /** Its dead letters are being replayed: an event that comes early is held until they have come. */
  | 'replaying'
  /** The store has said something that does not go with the version known here: it is read before anything else. */
  | 'doubtful';

/** What is known of an entity. */
export interface Known {
  readonly state: LaneState;
  /** Below every version that there is while the state is `unknown`. */
  readonly version: number;
  readonly holes: Holes;
  /** Whether its dead letters were being replayed when the store last said so. */
  readonly replaying: boolean;
  /** The highest sequence seen; what comes above it by more than one reveals a new gap. */
  readonly highest: number;
  /** Of an entity that is replayed: the sequence that was dead-lettered first. */
  readonly parkedSequence: number | null;
  /** When a replay began or ended, or the version last moved in one, by the gap clock: a gap's deadline counts from no earlier time. */
  readonly heldFromMs: number;
}

export type News =
  /** What the store has, by a reading or after a commit. */
  | {
      readonly kind: 'read' | 'committed';
      readonly version: number;
      readonly holes: string;
      readonly parked: Parked | null;
      /** By the gap clock. */
      readonly atMs: number;
    }
  /** A delivery with this sequence has come. */
  | { readonly kind: 'seen'; readonly sequence: number }
  | { readonly kind: 'parked' | 'contradicted' }
  /** The lane waits, for an answer or for the next delivery: what the store said last is no longer new. */
  | { readonly kind: 'aged' };

const nothing: Known = {
  state: 'unknown',
  version: Number.NEGATIVE_INFINITY,
  holes: Holes.none,
  replaying: false,
  highest: Number.NEGATIVE_INFINITY,
  parkedSequence: null,
  heldFromMs: 0,
};

/** The one transition function of `Known`. */
export function learned(known: Known, news: News): Known {
  switch (news.kind) {
    case 'seen':
      return news.sequence > known.highest ? { ...known, highest: news.sequence } : known;
    case 'aged':
      return known.state === 'parked' ? { ...known, state: 'parked-before' } : known;
    case 'contradicted':
      return { ...known, state: 'doubtful' };
    case 'parked':
      return known.state === 'doubtful' ? known : { ...known, state: 'parked' };
    default:
      return taken(known, news);
  }
}

function taken(known: Known, { kind, version, holes, parked, atMs }: Extract<News, { readonly version: number }>): Known {
  const isDoubtful = known.state === 'doubtful' && kind === 'committed';
  const replaying = parked?.replaying ?? false;
  const moves = kind === 'committed' || version !== known.version;
  return {
    state: isDoubtful ? 'doubtful' : parked === null ? 'open' : replaying ? 'replaying' : 'parked',
    version,
    holes: Holes.parse(holes),
    replaying,
    highest: Math.max(known.highest, version),
    parkedSequence: parked?.sequence ?? null,
    heldFromMs: replaying !== known.replaying || (replaying && moves) ? atMs : known.heldFromMs,
  };
}

/** What is held of one entity, and the gap below it. A new gap begins whenever the version has moved and something is still held. */
export interface Gap {
  /** As counted into the totals of the shard. */
  held: number;
  heldBytes: number;
  /** The version it stands above: the first missing sequence is one more. Null until the lane can go no further. */
  aboveVersion: number | null;
  /** Ends it early: too much is held. */
  overflow: boolean;
  /** Its time is over, and the last reading before its end was asked for. */
  final: boolean;
  /** When it is to be claimed and read next; at once when it was opened. */
  nextReadMs: number;
}

/** What is asked of the store, until a fact answers it. */
export interface Operation {
  readonly id: number;
  readonly effect: OperationEffect;
  /** Null when it concerns no single entity. */
  readonly lane: Lane | null;
  readonly slots: readonly Slot[];
  readonly deliveries: readonly Delivery[];
  isSuspended: boolean;
}

/** Why the entity is being parked, and what is rejected once it is: the event that failed or, with null, all that is held. */
export interface Parking extends FailureText {
  readonly delivery: Delivery | null;
}

/** What is kept of an entity at rest: its version alone, as a rule. */
export type Remembered = number | Known;

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
  op: Operation | null = null;
  /** Deliveries at or below the version of which the store is asked what it remembers. */
  lookingUp = 0;
  /** Null while nothing is held. */
  gap: Gap | null = null;
  /** Since when it has work without an answer, in the time of work.ts. */
  workSinceMs = 0;
  parking: Parking | null = null;
  /** The gap's time is over and `skip-ahead` is chosen: go on with the lowest held sequence. */
  skipsAhead = false;
  #known: Known;
  /** Deliveries whose id is known under another sequence: consume the slot, or fail. */
  #idVerdicts: Map<Delivery, IdVerdict> | null = null;

  constructor(entity: EntityRef, remembered: Remembered | null) {
    this.entity = entity;
    if (remembered === null) this.#known = nothing;
    else if (typeof remembered === 'object') this.#known = remembered;
    else this.#known = { ...nothing, state: 'open', version: remembered, highest: remembered };
  }

  get known(): Known {
    return this.#known;
  }

  learn(news: News): void {
    this.#known = learned(this.#known, news);
  }

  get idVerdicts(): ReadonlyMap<Delivery, IdVerdict> {
    return this.#idVerdicts ?? noVerdicts;
  }

  decideId(delivery: Delivery, verdict: IdVerdict): void {
    this.#idVerdicts ??= new Map();
    this.#idVerdicts.set(delivery, verdict);
  }

  forgetIds(slots: readonly Pick<Slot, 'delivery'>[]): void {
    if (this.#idVerdicts !== null) for (const { delivery } of slots) this.#idVerdicts.delete(delivery);
  }

  /** To be decided again, before what arrived since. */
  putBack(deliveries: readonly Delivery[]): void {
    if (deliveries.length > 0) this.arrivals = deliveries.concat(this.arrivals);
  }

  /** True when nothing of it is left but what `remembered` says. */
  get idle(): boolean {
    return this.op === null && this.lookingUp === 0 && this.arrivals.length === 0 && this.held.count === 0;
  }

  /** Null when the entity is to be read again. */
  remembered(): Remembered | null {
    const { state, version, holes, highest } = this.#known;
    if (state === 'unknown' || state === 'doubtful') return null;
    // Which event may be the base line of an entity that is replayed is read again.
    if (state === 'replaying') return version === 0 ? null : this.#known;
    return state === 'open' && highest === version && holes.toString() === '' ? version : learned(this.#known, { kind: 'aged' });
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
  return typeof remembered === 'number' ? 0 : 144 + remembered.holes.toString().length * 2;
}

/** What an entry costs besides its value: its place in the map, and its key. Measured on Node 20 and 22, rounded up. */
function entryBytes(key: string): number {
  return 72 + key.length;
}

/**
 * Entries by key that together take no more than so many bytes: the least recently put go first. What an entry takes is
 * said by whoever keeps it; keys are counted here.
 *
 * Why not lru-cache: with entries that are taken out and put back at each commit, as a worker does, it takes 1.2 to 1.8 times the CPU
 * and 50 bytes more for each, and it looks at a clock, which nothing in a pure folder does.
 */
export class ByteLru<V> {
  readonly #entries = new Map<string, V>();
  readonly #maxBytes: number;
  /** Of a value; the same each time it is asked for. */
  readonly #bytesOf: (value: V) => number;
  #bytes = 0;

  constructor(maxBytes: number, bytesOf: (value: V) => number) {
    this.#maxBytes = maxBytes;
    this.#bytesOf = bytesOf;
  }

  get size(): number {
    return this.#entries.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get(key: string): V | undefined {
    return this.#entries.get(key);
  }

  /** Removes and returns it. */
  take(key: string): V | undefined {
    const value = this.#entries.get(key);
    if (value === undefined) return undefined;
    this.#entries.delete(key);
    this.#bytes -= entryBytes(key) + this.#bytesOf(value);
    return value;
  }

  put(key: string, value: V): void {
    this.take(key);
    this.#entries.set(key, value);
    this.#bytes += entryBytes(key) + this.#bytesOf(value);
    if (this.#bytes > this.#maxBytes) this.#trim();
  }

  clear(): void {
    this.#entries.clear();
    this.#bytes = 0;
  }

  /** A tenth at a time, so that it is rare: each look for the oldest passes over the places of those that have left. */
  #trim(): void {
    const target = this.#maxBytes * 0.9;
    for (const key of this.#entries.keys()) {
      if (this.#bytes <= target) return;
      this.take(key);
    }
  }
}

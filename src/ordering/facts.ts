/**
 * The language between the sequencer and whoever drives it: facts go in, effects come out, by strategies and limits that are fixed
 * for the life of a shard's sequencer. Effects are data; the driver carries them out and reports back with a fact that names the
 * same operation number.
 *
 * An operation (`load`, `claimAndRead`, `commit`, `lookUp`, `park`, `reject`) is answered by exactly one fact,
 * unless the channel is lost first; answers to operations from before `channelLost` are ignored.
 */
import type { EntityRef, Event, Refusal } from '../events/event.ts';
import type { RejectionReason } from '../events/reasons.ts';
import type { IdConflict, Parked, LookupResult, Snapshot } from './entity.ts';

/** One arrival, decoded. `tag` is the broker's delivery tag on the channel that delivered. */
export interface Delivery {
  readonly tag: number;
  readonly event: Event;
  /** What it takes in memory until it is settled. Default 0: it is not counted. */
  readonly bytes?: number;
  /** It may have been in work before: the broker delivers it again, or it was fetched. */
  readonly mayRepeat?: boolean;
}

/** One arrival that is no event. */
export interface RefusedDelivery {
  readonly tag: number;
  readonly refusal: Refusal;
}

/** How a slot of a commit is to be treated. */
export type SlotAction =
  /** Run the processor. */
  | 'apply'
  /** It repeats an event that was applied under another sequence: the version passes it, the state stays, its id is not recorded. */
  | 'absorb'
  /** Strategy `skip`: the version passes it, the state stays, its id is neither checked nor recorded. */
  | 'skip';

export interface Slot {
  readonly delivery: Delivery;
  /** The sequence it is recorded under; for an unsequenced event the next version. */
  readonly sequence: number;
  readonly action: SlotAction;
  /** Of `absorb`: the sequence under which the id was applied. */
  readonly appliedAs?: number | undefined;
  /** The version and the holes once this slot and all before it are committed. */
  readonly versionAfter: number;
  readonly holesAfter: string;
}

/** Why an event cannot be processed. */
export interface FailureText {
  readonly reason: RejectionReason;
  readonly detail: string;
  /** Where in a processor it came from. */
  readonly stack?: string | null;
}

export type Fact =
  | { readonly kind: 'delivered'; readonly deliveries: readonly (Delivery | RefusedDelivery)[] }
  /** Answers `load` and `claimAndRead`. */
  | { readonly kind: 'loaded'; readonly op: number; readonly snapshot: Snapshot }
  /**
   * Answers `commit`. The first `done` slots are committed. With a failure the next one failed for good; without one the rest is to
   * be asked again.
   */
  | {
      readonly kind: 'committed';
      readonly op: number;
      readonly done: number;
      /** Whether and why the entity is parked after it. */
      readonly parked: Parked | null;
      readonly failure: FailureText | null;
    }
  /** About a `commit`, which it does not answer: processors are running, and the store is not asked meanwhile. */
  | { readonly kind: 'processing'; readonly op: number }
  /** Answers `commit` and `park`: nothing was written, the entity's version or holes are not those expected. */
  | { readonly kind: 'stale'; readonly op: number; readonly snapshot: Snapshot }
  /** Answers `commit`: nothing was written; these slots carry ids that are known under other sequences. */
  | { readonly kind: 'idConflict'; readonly op: number; readonly conflicts: readonly IdConflict[] }
  /** Answers `lookUp`, item by item. */
  | { readonly kind: 'lookedUp'; readonly op: number; readonly results: readonly LookupResult[] }
  /** Answers `park`. */
  | { readonly kind: 'parked'; readonly op: number }
  /** Answers `reject`: the reasons are on record and the rejects are on their way. */
  | { readonly kind: 'rejected'; readonly op: number }
  /** Answers `claimAndRead` and `park`: a later epoch owns the entity. The sequencer is done until the channel is lost. */
  | { readonly kind: 'fenced'; readonly op: number }
  /** Answers `load`, `claimAndRead`, `commit` and `park`: the keys of this entity are unusable. It is tried again later, alone. */
  | { readonly kind: 'entityUnavailable'; readonly op: number; readonly retryInMs: number }
  /** The outcome of these operations is unknown. They are asked again: a probe after `retryInMs`, then all. */
  | { readonly kind: 'storeUnavailable'; readonly ops: readonly number[]; readonly retryInMs: number }
  /** What was delivered and not settled is the broker's again. A new epoch begins with the next delivery. */
  | { readonly kind: 'channelLost' }
  /** Deliveries wait outside for want of memory, or no longer do. */
  | { readonly kind: 'memoryFull'; readonly isFull: boolean }
  /** Answers `turn`: what the broker had sent was delivered before this. */
  | { readonly kind: 'turned'; readonly turn: number }
  | { readonly kind: 'timePassed' }
  /** Finish what is in flight, start nothing new, then say `drained`. */
  | { readonly kind: 'drainRequested' };

export type Outcome = 'applied' | 'duplicate' | 'skipped';

export interface Rejection extends FailureText {
  readonly tag: number;
  readonly event: Event | null;
  readonly refusal: Refusal | null;
}

export type Effect =
  | { readonly kind: 'load'; readonly op: number; readonly entity: EntityRef }
  /** Claim the entity for this epoch and read it again. */
  | { readonly kind: 'claimAndRead'; readonly op: number; readonly entity: EntityRef }
  | {
      readonly kind: 'commit';
      readonly op: number;
      readonly entity: EntityRef;
      readonly expectedVersion: number;
      readonly expectedHoles: string;
      readonly slots: readonly Slot[];
      /** The entity is unknown and its first event is its base line (`FIRST_SEQUENCE=any`). */
      readonly adopts: boolean;
    }
  | { readonly kind: 'lookUp'; readonly op: number; readonly deliveries: readonly Delivery[] }
  | {
      readonly kind: 'park';
      readonly op: number;
      readonly entity: EntityRef;
      readonly expectedVersion: number;
      readonly sequence: number;
      readonly reason: RejectionReason;
      readonly detail: string;
    }
  /** To be on record before any later commit is carried out: an entity stays parked while one of its letters is on record. */
  | { readonly kind: 'reject'; readonly op: number; readonly rejections: readonly Rejection[] }
  /** This duplicate is answered with what the handler returned for the event. Comes before its acknowledgement. */
  | { readonly kind: 'remembered'; readonly delivery: Delivery; readonly result: string }
  | { readonly kind: 'ack'; readonly outcome: Outcome; readonly deliveries: readonly Delivery[] }
  /** An event came before its predecessor. To be counted and logged. */
  | { readonly kind: 'violation'; readonly delivery: Delivery; readonly expected: number; readonly received: number }
  /** A slot was passed for an event whose id was applied under another sequence, with the same payload. To be counted and logged. */
  | { readonly kind: 'absorbed'; readonly delivery: Delivery; readonly sequence: number; readonly appliedAs: number }
  /**
   * A gap is about to end. Send the acknowledgements so far, ask the broker for an answer, take in what it sent before that, then say
   * `turned`.
   */
  | { readonly kind: 'turn'; readonly turn: number }
  /** The store is unavailable: nothing is asked of it until the probe. */
  | { readonly kind: 'pause' }
  | { readonly kind: 'resume' }
  /** Draining is over: close the channel. */
  | { readonly kind: 'drained' }
  /** A later owner has claimed an entity that is held here: give the channel up and begin again as a newcomer. */
  | { readonly kind: 'overtaken'; readonly detail: string }
  /** The store went backwards: halt the shard. */
  | { readonly kind: 'halt'; readonly detail: string };

/** An effect that a fact answers. */
export type OperationEffect = Extract<Effect, { readonly op: number }>;

/** What happens to an event that comes before its predecessor. */
export type ViolationStrategy = 'buffer' | 'skip' | 'fail' | 'log_and_process';
export type GapTimeoutAction = 'dead-letter' | 'skip-ahead';
/** The sequence that the events of an entity begin with; `any`: whatever the first event seen of it has, from 1 up. */
export type FirstSequence = 0 | 1 | 'any';

/** The version of an entity of which nothing was applied: one below its first sequence. */
export function initialVersionOf(firstSequence: FirstSequence): 0 | -1 {
  return firstSequence === 0 ? -1 : 0;
}

export interface SequencerLimits {
  readonly strategy: ViolationStrategy;
  /** The most unsettled deliveries that the broker gives out. While so many are here, no missing event can come. */
  readonly prefetch: number;
  /** How long the first event held for a gap waits, in milliseconds that count (gap-clock.ts). */
  readonly gapTimeoutMs: number;
  readonly gapTimeoutAction: GapTimeoutAction;
  /** While a gap is open the version is read again this often, in milliseconds. */
  readonly gapRereadMs: number;
  /** Held deliveries of one entity; reaching it ends the entity's gap. At least 2, or nothing could be held. */
  readonly maxHeldPerEntity: number;
  /**
   * Held deliveries of the shard; reaching it ends the gap that is nearest to its end. At least 2, or nothing could be held; below the
   * prefetch, or the missing event could not be delivered.
   */
  readonly maxHeld: number;
  /** What the held deliveries of the shard may take in memory, in bytes; reaching it has the same effect. */
  readonly maxHeldBytes: number;
  /** `any`: the first event seen of an unknown entity is its base line. */
  readonly firstSequence: FirstSequence;
  readonly unsequenced: 'reject' | 'process';
  /** An entity whose keys are unusable is asked for again after this long, in milliseconds. */
  readonly entityRetryMs: number;
  /** Most events that one commit of one entity may carry. */
  readonly maxFold: number;
  /** Operations that go out together to find out whether the store is back. */
  readonly maxProbe: number;
  /** What is remembered of entities at rest, in bytes; beyond it the oldest are forgotten, and read again when they are needed. */
  readonly maxRememberedBytes: number;
}

/** An event further ahead than this is an error of the producer, not a gap. */
export const maxAhead = 1_000_000;

/**
 * How long a gap of an entity that is being replayed waits for the version to move, in milliseconds: letters of other entities may
 * come between two of its own. A third of the broker's `consumer_timeout`, like the longest gap.
 */
export const longestReplayStallMs = 600_000;

export const defaultSequencerLimits: SequencerLimits = {
  strategy: 'buffer',
  prefetch: 1_000,
  gapTimeoutMs: 30_000,
  gapTimeoutAction: 'dead-letter',
  gapRereadMs: 5_000,
  maxHeldPerEntity: 1_000,
  maxHeld: 800,
  maxHeldBytes: Number.POSITIVE_INFINITY,
  firstSequence: 1,
  unsequenced: 'reject',
  entityRetryMs: 1_000,
  maxFold: 256,
  maxProbe: 16,
  maxRememberedBytes: 4 * 1024 * 1024,
};

/** The strategies and limits of one shard's sequencer, fixed for its life. */

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

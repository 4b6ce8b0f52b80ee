/**
 * What became of a replay: the workers decide, and this waits for them. An entity is done when its version has
 * passed the last letter that was replayed, or when it was parked again meanwhile.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Snapshot, Store } from '../stores/store.ts';
import { snapshotsOf } from './entity-snapshots.ts';
import { patiently } from './patience.ts';
import type { EntityReplay, ReplayPlan } from './replay-plan.ts';

export interface EntityOutcome {
  readonly replay: EntityReplay;
  readonly now: Snapshot;
  /**
   * `whole`: all replayed, and parked no more. `passed`: all replayed; it is still parked, for others of its letters are
   * left. `parked-again`: one of them was dead-lettered again. `undecided`: nobody has processed all of them yet.
   */
  readonly status: 'whole' | 'passed' | 'parked-again' | 'undecided';
}

export interface OutcomeOptions {
  readonly store: Pick<Store, 'load'>;
  /** How long the workers are waited for, in milliseconds. Default 30,000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

const defaultTimeoutMs = 30_000;
const pollMs = 100;

export async function awaitOutcomes({ entities }: ReplayPlan, { store, timeoutMs = defaultTimeoutMs, signal }: OutcomeOptions): Promise<readonly EntityOutcome[]> {
  const outcomes = new Map<EntityReplay, EntityOutcome>();
  const deadlineMs = performance.now() + timeoutMs;
  for (;;) {
    const open = entities.filter((replay) => replay.letters.length > 0 && (outcomes.get(replay)?.status ?? 'undecided') === 'undecided');
    const snapshots = await patiently(() => snapshotsOf(store, open.map(({ entity }) => entity)), deadlineMs - performance.now(), signal);
    open.forEach((replay, index) => outcomes.set(replay, outcomeOf(replay, snapshots[index]!)));
    const undecided = open.some((replay) => outcomes.get(replay)?.status === 'undecided');
    if (!undecided || signal?.aborted || performance.now() > deadlineMs) return [...outcomes.values()];
    await sleep(pollMs, undefined, { signal }).catch(() => undefined);
  }
}

function outcomeOf(replay: EntityReplay, now: Snapshot): EntityOutcome {
  const last = Math.max(0, ...replay.letters.map(({ sequence }) => sequence ?? 0));
  if (now.version >= last) return { replay, now, status: now.parked === null ? 'whole' : 'passed' };
  const parkedAgain = now.parked !== null && now.parked.at !== replay.parked?.at;
  return { replay, now, status: parkedAgain ? 'parked-again' : 'undecided' };
}

/**
 * From what the store answers to the facts that the sequencer takes in. What was read on the way is handed to
 * `Reading`, so that a state that has just been seen is not loaded again.
 */
import { InvariantError } from '../errors.ts';
import type { EntityRef } from '../events/event.ts';
import type { Absorbed, Delivery, Effect, EntityView, Fact, RecallVerdict } from '../ordering/facts.ts';
import type { ClaimResult, Parked, ParkResult, RecallResult, Snapshot } from '../stores/store.ts';

export type OperationOf<Kind extends Effect['kind']> = Extract<Effect, { readonly kind: Kind }>;

export interface Reading {
  /** A snapshot of the entity was read. */
  seen(entity: EntityRef, snapshot: Snapshot): void;
  /** The entity's keys cannot be used: the fact that sets it aside for a while. */
  entityUnavailable(op: number, error: Error): Fact;
  /** A duplicate whose first processing returned something. */
  remember(tag: number, result: string): void;
}

/** What is remembered instead of a result where nothing was applied. No handler's result begins like that: those are JSON. */
const absorbedMark = 'absorbed ';

export function absorbedText(absorbed: Absorbed): string {
  return absorbedMark + JSON.stringify(absorbed);
}

function absorbedIn(result: string): Absorbed | null {
  return result.startsWith(absorbedMark) ? (JSON.parse(result.slice(absorbedMark.length)) as Absorbed) : null;
}

export function viewOf({ exists, version, holes, parked }: Snapshot): EntityView {
  return { exists, version, holes, ...standingOf(parked), parkedAt: parked?.sequence ?? null };
}

/** Whether what arrives has to follow the dead letters, or is held until they have come, for they are being replayed. */
export function standingOf(parked: Parked | null): Pick<EntityView, 'parked' | 'replaying'> {
  const replaying = parked?.replaying ?? false;
  return { parked: parked !== null && !replaying, replaying };
}

export function claimedFact({ op, entity }: OperationOf<'openGap'>, result: ClaimResult, reading: Reading): Fact {
  switch (result.status) {
    case 'failed':
      return reading.entityUnavailable(op, result.error);
    case 'fenced':
      return { kind: 'fenced', op };
    case 'ok':
      reading.seen(entity, result.snapshot);
      return { kind: 'loaded', op, view: viewOf(result.snapshot) };
  }
}

export function parkedFact({ op, entity }: OperationOf<'park'>, result: ParkResult, reading: Reading): Fact {
  switch (result.status) {
    case 'failed':
      return reading.entityUnavailable(op, result.error);
    case 'fenced':
      return { kind: 'fenced', op };
    case 'ok':
      return { kind: 'parked', op };
    case 'stale':
      reading.seen(entity, result.snapshot);
      return { kind: 'stale', op, view: viewOf(result.snapshot) };
  }
}

/** `results` answers the deliveries of all the recalls, one after the other. */
export function recalledFacts(recalls: readonly OperationOf<'recall'>[], results: readonly RecallResult[], reading: Reading): readonly Fact[] {
  let at = 0;
  return recalls.map(({ op, deliveries }): Fact => {
    return { kind: 'recalled', op, verdicts: deliveries.map((delivery) => verdictOf(delivery, results[at++], reading)) };
  });
}

function verdictOf({ tag, event }: Delivery, result: RecallResult | undefined, reading: Reading): RecallVerdict {
  if (result === undefined) throw new InvariantError('the store answered a recall in part');
  if (result.status !== 'known') return result.status;
  const absorbed = result.result === null ? null : absorbedIn(result.result);
  if (result.payloadHash !== event.payloadHash) return absorbed === null ? 'different' : { absorbed };
  if (result.result !== null && absorbed === null) reading.remember(tag, result.result);
  return 'same';
}

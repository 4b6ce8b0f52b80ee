/**
 * Which of the operations that have gathered go to the store together: all of them, or as many as there is memory for
 * the states that they bring along.
 */
import type { OperationEffect } from '../ordering/operations.ts';

/** A state as it is read, parsed, evolved, written and sent. */
const copiesOfState = 8;

/** Rejections go at once, for commits must not overtake them; what has a state in the order of asking, so that busy entities keep nothing from being read. */
export function nextBatch(gathered: OperationEffect[], maxStateBytes: number, typicalBytes: number): { readonly now: OperationEffect[]; readonly later: OperationEffect[] } {
  const most = Math.max(1, Math.floor(maxStateBytes / (copiesOfState * typicalBytes)));
  if (gathered.length <= most) return { now: gathered, later: [] };
  const hasNoState = ({ kind }: OperationEffect) => kind === 'recall' || kind === 'park' || kind === 'reject';
  const withState = gathered.filter((operation) => !hasNoState(operation));
  return { now: gathered.filter(hasNoState).concat(withState.slice(0, most)), later: withState.slice(most) };
}

/**
 * Which of the operations that have gathered go to the store together: all of them, or as many as there is memory for
 * the states that they bring along.
 */
import type { Effect } from '../ordering/facts.ts';

export type OperationEffect = Extract<Effect, { readonly op: number }>;

/** A state as it is read, parsed, evolved, written and sent. */
const copiesOfState = 8;

/** Rejections go at once, for commits must not overtake them; then commits, which give their memory back; then what reads. */
export function nextBatch(gathered: OperationEffect[], maxStateBytes: number, typicalBytes: number): { readonly now: OperationEffect[]; readonly later: OperationEffect[] } {
  const most = Math.max(1, Math.floor(maxStateBytes / (copiesOfState * typicalBytes)));
  if (gathered.length <= most) return { now: gathered, later: [] };
  const stateless = gathered.filter(({ kind }) => kind === 'recall' || kind === 'park' || kind === 'reject');
  const commits = gathered.filter(({ kind }) => kind === 'commit');
  const withState = commits.concat(gathered.filter(({ kind }) => kind === 'load' || kind === 'openGap'));
  return { now: stateless.concat(withState.slice(0, most)), later: withState.slice(most) };
}

/**
 * An entity's sequences as runs in the same state, from its version with the holes, its held events, and
 * its dead letters. Pure. Sequences far below the version are one run; an unknown sequence is `missing` only if
 * there is something above it.
 */
import type { LetterSummary } from '../dead-letters/replay-plan.ts';
import { Holes } from '../ordering/holes.ts';
import type { Run } from './page/answers.d.ts';

export interface TimelineInput {
  readonly version: number;
  readonly firstSequence: 0 | 1;
  /** As they are stored. */
  readonly holes: string;
  readonly held: readonly (readonly [first: number, last: number])[];
  readonly letters: readonly LetterSummary[];
}

export interface Timeline {
  readonly runs: readonly Run[];
  /** Dead letters that the version has passed, and those without a sequence. */
  readonly passed: readonly LetterSummary[];
  /** Runs that were left out at the end. */
  readonly more: number;
}

/** With holes, how many sequences below the version are shown one by one. */
const closeBelow = 200;
/** The most runs; consecutive dead letters are separate runs up to this number. */
const maxSingle = 60;
const maxRuns = 400;

export function timelineOf({ version, firstSequence, holes, held, letters }: TimelineInput): Timeline {
  const isAbove = ({ sequence }: LetterSummary) => sequence !== null && sequence > version;
  const above = aboveVersion(version, held, letters.filter(isAbove));
  const below = merged(belowVersion(version, firstSequence, Holes.parse(holes)));
  const runs = [...below, ...(above.length > maxSingle ? merged(above) : above)];
  return { runs: runs.slice(0, maxRuns), passed: letters.filter((letter) => !isAbove(letter)), more: Math.max(0, runs.length - maxRuns) };
}

function belowVersion(version: number, lowest: number, holes: Holes): readonly Run[] {
  const first = Math.max(lowest, version - closeBelow + 1);
  const runs: Run[] = first > lowest ? [{ state: 'applied', from: lowest, to: first - 1 }] : [];
  for (let sequence = first; sequence <= version; sequence++) {
    runs.push({ state: holes.has(sequence) ? 'hole' : 'applied', from: sequence, to: sequence });
  }
  return runs;
}

function aboveVersion(version: number, held: TimelineInput['held'], letters: readonly LetterSummary[]): readonly Run[] {
  const known: Run[] = [
    ...held
      .filter(([, last]) => last > version)
      .map(([first, last]): Run => ({ state: 'held', from: Math.max(first, version + 1), to: last })),
    ...letters.map(
      ({ sequence, reason, fingerprint }): Run => ({ state: 'dead-lettered', from: sequence!, to: sequence!, reason, fingerprint }),
    ),
  ].sort((a, b) => a.from - b.from);
  const runs: Run[] = [];
  let reached = version;
  for (const run of known) {
    if (run.to <= reached) continue;
    const from = Math.max(run.from, reached + 1);
    if (from > reached + 1) runs.push({ state: 'missing', from: reached + 1, to: from - 1 });
    runs.push({ ...run, from });
    reached = run.to;
  }
  return runs;
}

/** Joins neighbours in the same state; a run of several letters has no fingerprint. */
function merged(runs: readonly Run[]): readonly Run[] {
  const result: Run[] = [];
  for (const run of runs) {
    const last = result.at(-1);
    if (last === undefined || last.state !== run.state || last.reason !== run.reason || last.to !== run.from - 1) result.push(run);
    else
      result[result.length - 1] = {
        state: last.state,
        from: last.from,
        to: run.to,
        ...(last.reason === undefined ? {} : { reason: last.reason }),
      };
  }
  return result;
}

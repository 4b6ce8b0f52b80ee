/** How a dead letter stands with its entity: what it waits for, and where that is. Pure. */
import type { Snapshot } from '../stores/store.ts';
import { type LettersOfEntity, type LetterSummary, planEntity } from './replay-plan.ts';
import { sequencesText } from './sequences-text.ts';

export interface Standing {
  readonly version: number;
  readonly parked: boolean;
  /** The first sequence above the version that is neither applied nor a dead letter; null where none is missing below it. */
  readonly missing: number | null;
  /** In a sentence. */
  readonly text: string;
}

/** `letters.meant` are all dead letters of the entity. */
export function standingOf(letter: LetterSummary, letters: LettersOfEntity, snapshot: Snapshot): Standing {
  const { version } = snapshot;
  const { blocked } = planEntity(letters, snapshot, 1);
  const { sequence } = letter;
  const isBlocked = sequence !== null && blocked !== null && sequence > blocked.missing;
  return {
    version,
    parked: snapshot.parked !== null,
    missing: isBlocked ? blocked.missing : null,
    text: isBlocked ? waits(blocked.missing, letters.meant) : stands(sequence, version, letters.meant),
  };
}

function waits(missing: number, letters: readonly LetterSummary[]): string {
  const here = letters.filter(({ sequence }) => sequence !== null && sequence > missing);
  return `waits for ${missing}, which was never seen; here ${here.length === 1 ? 'is' : 'are'} ${sequencesText(here)}`;
}

function stands(sequence: number | null, version: number, letters: readonly LetterSummary[]): string {
  if (sequence === null) return 'has no sequence: it waits for nothing';
  if (sequence <= version) return `version ${version} has passed it: replayed, it turns out a duplicate, or late where it was passed over`;
  const before = letters.find((other) => other.sequence === version + 1);
  if (sequence === version + 1 || before === undefined) return 'is next in line: it can be replayed';
  return `follows ${version + 1}, which is itself a dead letter (${before.reason}): both can be replayed`;
}

/** How a dead letter stands with its entity: what it waits for, and where that is. Pure. */
import type { Snapshot } from '../stores/store.ts';
import { rejectionReasons } from '../events/reasons.ts';
import { type LettersOfEntity, type LetterSummary, planEntity, whichMayBe } from './replay-plan.ts';
import { whyUnmendable } from './unmendable.ts';
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
export function standingOf(letter: LetterSummary, letters: LettersOfEntity, snapshot: Snapshot, firstSequence: Parameters<typeof planEntity>[2]): Standing {
  const { version } = snapshot;
  const { blocked, next } = planEntity(letters, snapshot, firstSequence);
  const { sequence } = letter;
  const unmendable = isEventAsItIs(letter) || (sequence !== null && sequence <= version) ? whyUnmendable(letter, version) : null;
  const isBlocked = sequence !== null && blocked !== null && sequence > blocked.missing;
  return {
    version,
    parked: snapshot.parked !== null,
    missing: isBlocked ? blocked.missing : null,
    text: unmendable ?? (isBlocked ? waits(blocked.missing, letters) : stands(sequence, version, next, letters.meant)),
  };
}

function waits(missing: number, { meant, unread }: LettersOfEntity): string {
  const here = meant.filter(({ sequence }) => sequence !== null && sequence > missing);
  const where = unread.length === 0 ? 'was never seen' : whichMayBe(unread);
  return `waits for ${missing}, which ${where}; here ${here.length === 1 ? 'is' : 'are'} ${sequencesText(here)}`;
}

function stands(sequence: number | null, version: number, next: number, letters: readonly LetterSummary[]): string {
  if (sequence === null) return 'has no sequence: it waits for nothing';
  if (sequence <= version) return `version ${version} has passed it: replayed, it turns out a duplicate, unless the plan says why it stays`;
  const before = letters.find((other) => other.sequence === next);
  if (before !== undefined && !isEventAsItIs(before)) {
    const what = `cannot be applied as it is (${before.reason}): export it, correct it, publish it`;
    return sequence === next ? `is next in line, and ${what}` : `follows ${next}, which is itself a dead letter and ${what}; then replay`;
  }
  if (sequence === next || before === undefined) return 'is next in line: it can be replayed';
  if (whyUnmendable(before, version) !== null) return `follows ${next}, which is itself a dead letter (${before.reason}) that a replay does not mend`;
  return `follows ${next}, which is itself a dead letter (${before.reason}): both can be replayed`;
}

/** Whether a worker may take it when it comes again unchanged. */
function isEventAsItIs({ reason }: LetterSummary): boolean {
  return !(reason in rejectionReasons) || reason === 'misrouted' || rejectionReasons[reason as keyof typeof rejectionReasons].inSequence;
}

/**
 * What a replay will do, before anything is done: of each entity the letters that can go, in the order of their
 * sequences, and those that cannot, with what they wait for. Pure: it knows the letters and the versions, and decides.
 *
 * A letter can go when its predecessor is applied or goes before it; behind a missing event it would only be held
 * and dead-lettered again. What the version has passed goes as well: it turns out a duplicate, and is gone.
 */
import type { EncodedEvent } from '../events/encode.ts';
import type { EntityRef } from '../events/event.ts';
import type { FirstSequence } from '../ordering/limits.ts';
import type { Parked, Snapshot } from '../stores/store.ts';
import type { DeadLetter, DeadLetterReason } from './dead-letter.ts';
import type { LetterCopy } from './replayable-message.ts';
import type { Unmendable } from './unmendable.ts';

/** As much of a dead letter as a plan keeps of it: a hundred thousand have to fit. */
export interface LetterSummary {
  readonly messageId: string;
  readonly fingerprint: string;
  readonly entityType: string | null;
  readonly entityId: string | null;
  readonly sequence: number | null;
  readonly reason: DeadLetterReason;
  /** What its copy will be to a worker; absent where nobody plans to publish one. */
  readonly copy?: LetterCopy | undefined;
}

export interface LettersOfEntity {
  readonly entity: EntityRef;
  /** In the order of the queue. */
  readonly meant: LetterSummary[];
  /** Not meant by the replay. */
  readonly others: LetterSummary[];
  /** Of its id, and without a sequence (or a type) that can be read: one of them may be what the others wait for. */
  readonly unread: readonly LetterSummary[];
}

/** Letters that cannot go. */
export interface Blocked {
  readonly letters: readonly LetterSummary[];
  /** The sequence they wait for. */
  readonly missing: number;
  /** The first sequence above it that is here; what lies between is missing as well. */
  readonly next: number;
  /** It lies among the dead letters, and is not part of this. */
  readonly isDeadLetter: boolean;
  /** Where that is, as far as anybody knows. */
  readonly why: string;
}

export interface EntityReplay {
  readonly entity: EntityRef;
  readonly version: number;
  readonly parked: Parked | null;
  /** In the order in which they go. */
  readonly letters: readonly LetterSummary[];
  /** Missing events that a source had: each is published before the first letter behind it. */
  readonly fetched: readonly EncodedEvent[];
  readonly blocked: Blocked | null;
}

export interface ReplayPlan {
  readonly entities: readonly EntityReplay[];
  /** Of no entity that could be read, or without a sequence: each is decided anew, in the order of the queue. */
  readonly unordered: readonly LetterSummary[];
  /** Meant, and left where they are, for a replay would not mend them. Default: none. */
  readonly unmendable?: readonly Unmendable[];
}

export function summaryOf({ messageId, fingerprint, entityType, entityId, sequence, reason }: DeadLetter, copy?: LetterCopy): LetterSummary {
  return { messageId, fingerprint, entityType, entityId, sequence, reason, copy };
}

/** `fetched` are in the order of their sequences. `next` is the sequence that a worker would take next. */
export function planEntity(
  { entity, meant, others, unread }: LettersOfEntity,
  snapshot: Snapshot,
  firstSequence: FirstSequence,
  fetched: readonly EncodedEvent[] = [],
): EntityReplay & { readonly next: number } {
  const { version, parked } = snapshot;
  const ordered = meant.filter(hasSequence).sort((a, b) => a.sequence - b.sequence);
  const letters: LetterSummary[] = [];
  // Where a running stream is adopted the first event may have any sequence; where that was dead-lettered, its own.
  const isAdopted = version === 0 && firstSequence === 'any';
  let reached = isAdopted ? (parked?.sequence ?? ordered[0]?.sequence ?? 1) - 1 : version;
  const next = reached + 1;
  const source = new Set(fetched.map(({ event }) => event.sequence));
  for (const letter of ordered) {
    while (letter.sequence > reached + 1 && source.has(reached + 1)) reached++;
    if (letter.sequence > reached + 1) break;
    letters.push(letter);
    reached = Math.max(reached, letter.sequence);
  }
  const rest = ordered.slice(letters.length);
  const last = letters.at(-1)?.sequence ?? 0;
  letters.push(...meant.filter(({ sequence }) => sequence === null));
  const used = fetched.filter(({ event }) => event.sequence !== null && event.sequence < last);
  return { entity, version, next, parked, letters, fetched: used, blocked: blockedOf(rest, reached + 1, others, unread) };
}

/** How many letters a plan takes out of the queue, and how many it leaves. */
export function countLetters({ entities, unordered }: ReplayPlan): { readonly going: number; readonly blocked: number } {
  let going = unordered.length;
  let blocked = 0;
  for (const entity of entities) {
    going += entity.letters.length;
    blocked += entity.blocked?.letters.length ?? 0;
  }
  return { going, blocked };
}

function blockedOf(letters: readonly (LetterSummary & { readonly sequence: number })[], missing: number, others: readonly LetterSummary[], unread: readonly LetterSummary[]): Blocked | null {
  const [first] = letters;
  if (first === undefined) return null;
  const deadLetter = others.find(({ sequence }) => sequence === missing);
  const why = deadLetter === undefined ? `${missing} ${unread.length === 0 ? 'has not arrived' : whichMayBe(unread)}` : `${missing} is itself a dead letter (${deadLetter.reason}), and not part of this`;
  const next = others.reduce((least, { sequence }) => (sequence !== null && sequence > missing && sequence < least ? sequence : least), first.sequence);
  return { letters, missing, next, isDeadLetter: deadLetter !== undefined, why };
}

/** In words that follow a sequence. */
export function whichMayBe([first, ...others]: readonly LetterSummary[]): string {
  const more = others.length === 0 ? '' : ` or one of ${others.length} more`;
  return `may be the letter ${first?.messageId} (${first?.reason}), whose sequence cannot be read${more}`;
}

function hasSequence(letter: LetterSummary): letter is LetterSummary & { readonly sequence: number } {
  return letter.sequence !== null;
}

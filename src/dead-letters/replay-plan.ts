/**
 * The plan of a replay: per entity the replayable letters in the order of their sequences, and the blocked ones with what they
 * wait for. Pure: it decides from the letters and the versions.
 *
 * A letter is replayable when its predecessor is applied or is replayed before it; behind a missing event it would only be held
 * and dead-lettered again. A letter that the version has passed is replayable as well: it is a duplicate and disappears. Not
 * replayable is a letter that would be dead-lettered again, or be mistaken for a duplicate. The status of a single letter says the
 * same in a sentence, as far as that is known without the strategy, the holes and what the store remembers.
 */
import type { EncodedEvent } from '../events/encode.ts';
import type { EntityRef } from '../events/event.ts';
import { rejectionReasons } from '../events/reasons.ts';
import type { FirstSequence, ViolationStrategy } from '../ordering/facts.ts';
import type { Parked, LookupResult, Snapshot } from '../ordering/entity.ts';
import { type DeadLetter, type DeadLetterReason, type LetterCopy, textOf } from './dead-letter.ts';

/** What a plan keeps of a dead letter: a hundred thousand must fit into memory. */
export interface LetterSummary {
  readonly messageId: string;
  readonly fingerprint: string;
  readonly entityType: string | null;
  readonly entityId: string | null;
  readonly sequence: number | null;
  readonly reason: DeadLetterReason;
  /** How a worker will see its copy; absent if none is going to be published. */
  readonly copy?: LetterCopy | undefined;
}

export interface LettersOfEntity {
  readonly entity: EntityRef;
  /** In the order of the queue. */
  readonly matched: LetterSummary[];
  /** Other letters of the entity, not matched. */
  readonly others: LetterSummary[];
  /** Letters of its id without a readable sequence (or type): one of them may be the event that the others wait for. */
  readonly unread: readonly LetterSummary[];
}

/** Letters that are not replayable now. */
export interface Blocked {
  readonly letters: readonly LetterSummary[];
  /** The sequence they wait for. */
  readonly missing: number;
  /** The first sequence above it among the letters; those in between are missing as well. */
  readonly next: number;
  /** Whether the missing one is a dead letter that is not part of the plan. */
  readonly isDeadLetter: boolean;
  /** What is known of the missing one, in words. */
  readonly why: string;
}

export interface EntityReplay {
  readonly entity: EntityRef;
  readonly version: number;
  readonly parked: Parked | null;
  /** In the order of publishing. */
  readonly letters: readonly LetterSummary[];
  /** Missing events from a source: each is published before the first letter behind it. */
  readonly fetched: readonly EncodedEvent[];
  readonly blocked: Blocked | null;
}

export interface NotReplayable {
  readonly letter: LetterSummary;
  /** Why, and what to do instead. */
  readonly why: string;
}

export interface ReplayPlan {
  readonly entities: readonly EntityReplay[];
  /** Letters without a readable entity or sequence: each is decided again, in the order of the queue. */
  readonly unordered: readonly LetterSummary[];
  /** Matched letters that are not replayable. Default: none. */
  readonly notReplayable?: readonly NotReplayable[];
}

export function summaryOf(letter: DeadLetter, copy?: LetterCopy): LetterSummary {
  const { messageId, fingerprint, entityType, entityId, sequence, reason } = letter;
  return { messageId, fingerprint, entityType, entityId, sequence, reason, copy };
}

/** The letter with the fingerprint of its published copy. */
export function asCopied(letter: LetterSummary): LetterSummary {
  return { ...letter, fingerprint: letter.copy?.fingerprint ?? letter.fingerprint };
}

/** Whether the next letter only lacked its predecessor, which is applied by now: not if it failed by itself. */
export function isReady({ letters, version }: EntityReplay): boolean {
  const next = letters.find(({ sequence }) => sequence !== null && sequence > version);
  return next !== undefined && textOf(next.reason).fault === 'predecessor';
}

/** `fetched` is in the order of its sequences. `next` is the sequence that a worker would apply next. */
export function planEntity(
  { entity, matched, others, unread }: LettersOfEntity,
  snapshot: Snapshot,
  firstSequence: FirstSequence,
  fetched: readonly EncodedEvent[] = [],
): EntityReplay & { readonly next: number } {
  const { version, parked } = snapshot;
  const ordered = matched.filter(hasSequence).sort((a, b) => a.sequence - b.sequence);
  const letters: LetterSummary[] = [];
  // In an adopted stream the first event may have any sequence, so a dead-lettered base line starts at its own.
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
  letters.push(...matched.filter(({ sequence }) => sequence === null));
  const used = fetched.filter(({ event }) => event.sequence !== null && event.sequence < last);
  return { entity, version, next, parked, letters, fetched: used, blocked: blockedOf(rest, reached + 1, { others, unread }) };
}

/** How many letters a plan replays, and how many are blocked. */
export function countLetters({ entities, unordered }: ReplayPlan): { readonly replayable: number; readonly blocked: number } {
  let replayable = unordered.length;
  let blocked = 0;
  for (const entity of entities) {
    replayable += entity.letters.length;
    blocked += entity.blocked?.letters.length ?? 0;
  }
  return { replayable, blocked };
}

type Beside = Pick<LettersOfEntity, 'others' | 'unread'>;

function blockedOf(letters: readonly OrderedSummary[], missing: number, { others, unread }: Beside): Blocked | null {
  const [first] = letters;
  if (first === undefined) return null;
  const deadLetter = others.find(({ sequence }) => sequence === missing);
  const unknown = unread.length === 0 ? 'has not arrived' : whichMayBe(unread);
  const why = deadLetter === undefined ? unknown : `is itself a dead letter (${deadLetter.reason}), and not part of this`;
  const above = others.filter(hasSequence).filter(({ sequence }) => sequence > missing);
  const next = above.reduce((least, { sequence }) => Math.min(least, sequence), first.sequence);
  return { letters, missing, next, isDeadLetter: deadLetter !== undefined, why: `${missing} ${why}` };
}

/** As words that follow a sequence. */
export function whichMayBe([first, ...others]: readonly LetterSummary[]): string {
  const more = others.length === 0 ? '' : ` or one of ${others.length} more`;
  return `may be the letter ${first?.messageId} (${first?.reason}), whose sequence cannot be read${more}`;
}

type OrderedSummary = LetterSummary & { readonly sequence: number };

function hasSequence(letter: LetterSummary): letter is OrderedSummary {
  return letter.sequence !== null;
}

const discardIt = 'then discard this one';
const taken = `another event was applied under its sequence: publish it under the next one if it is still wanted, ${discardIt}`;
const idIsTaken = `its id was applied with other content: publish it with an id of its own, ${discardIt}`;
const asNext = 'publish it under the next one if its effect is still wanted';
const passed = `its sequence was passed over, and it would be late: ${asNext}, ${discardIt}`;

/** Decides without asking the store what was applied in its place; null if it may be replayable. */
export function whyNotReplayable({ copy, reason, sequence }: LetterSummary, version: number): string | null {
  const refused = copy === undefined ? (textOf(reason).fault === 'message' ? reason : null) : copy.refused;
  const correctIt = 'correct it (`inorder dead-letters export --events`)';
  if (refused !== null) return `it would be refused again (${refused}): ${correctIt}, publish that, ${discardIt}`;
  if (reason === 'message_id_conflict') return idIsTaken;
  if (sequence === null || sequence > version) return null;
  if (reason === 'sequence_conflict') return taken;
  return reason === 'late' ? passed : null;
}

/** Of a letter that the version has passed: what the store remembers of its sequence decides; where that is nothing, `floor` does. */
export function whyPassed({ sequence, copy }: LetterSummary, lookedUp: LookupResult | undefined, floor: number): string | null {
  if (lookedUp?.status === 'known' && lookedUp.payloadHash !== copy?.payloadHash) return taken;
  return lookedUp?.status === 'unknown' && (sequence ?? 0) <= floor ? passed : null;
}

/** Some strategies accept a valid event into a hole, one of them only with an id of its own. */
export function whyNotInHole({ copy, reason }: LetterSummary, strategy: ViolationStrategy): string | null {
  if (reason === 'message_id_conflict' && strategy === 'log_and_process') return idIsTaken;
  return (strategy === 'skip' || strategy === 'log_and_process') && copy?.refused === null ? null : passed;
}

/** `4, 6-9`: the sequences of letters that are in order, copies once. */
export function sequencesText(letters: readonly { readonly sequence: number | null }[]): string {
  const ranges: { first: number; last: number }[] = [];
  for (const { sequence } of letters) {
    const range = ranges.at(-1);
    if (sequence === null || sequence === range?.last) continue;
    if (range !== undefined && sequence === range.last + 1) range.last = sequence;
    else ranges.push({ first: sequence, last: sequence });
  }
  return ranges.map(({ first, last }) => (first === last ? String(first) : `${first}-${last}`)).join(', ');
}

/** The status of a dead letter in its entity: what it waits for, and where that is. */
export interface LetterStatus {
  readonly version: number;
  readonly parked: boolean;
  /** The first sequence above the version that is neither applied nor a dead letter; null if none is missing below the letter. */
  readonly missing: number | null;
  /** In a sentence. */
  readonly text: string;
}

/** `letters.matched` are all dead letters of the entity. */
export function statusOf(letter: LetterSummary, letters: LettersOfEntity, snapshot: Snapshot, firstSequence: FirstSequence): LetterStatus {
  const { version } = snapshot;
  const { blocked, next } = planEntity(letters, snapshot, firstSequence);
  const { sequence } = letter;
  const notReplayable = isEventAsItIs(letter) || (sequence !== null && sequence <= version) ? whyNotReplayable(letter, version) : null;
  const isBlocked = sequence !== null && blocked !== null && sequence > blocked.missing;
  return {
    version,
    parked: snapshot.parked !== null,
    missing: isBlocked ? blocked.missing : null,
    text: notReplayable ?? (isBlocked ? waits(blocked.missing, letters) : statusText(sequence, version, next, letters.matched)),
  };
}

function waits(missing: number, { matched, unread }: LettersOfEntity): string {
  const here = matched.filter(({ sequence }) => sequence !== null && sequence > missing);
  const where = unread.length === 0 ? 'was never seen' : whichMayBe(unread);
  return `waits for ${missing}, which ${where}; here ${here.length === 1 ? 'is' : 'are'} ${sequencesText(here)}`;
}

function statusText(sequence: number | null, version: number, next: number, letters: readonly LetterSummary[]): string {
  if (sequence === null) return 'has no sequence: it waits for nothing';
  if (sequence <= version) return `version ${version} has passed it: replayed, it turns out a duplicate, unless the plan says why it stays`;
  const before = letters.find((other) => other.sequence === next);
  if (before !== undefined && !isEventAsItIs(before)) {
    const what = `cannot be applied as it is (${before.reason}): export it, correct it, publish it`;
    return sequence === next ? `is next in line, and ${what}` : `follows ${next}, which is itself a dead letter and ${what}; then replay`;
  }
  if (sequence === next || before === undefined) return 'is next in line: it can be replayed';
  const both = whyNotReplayable(before, version) === null ? ': both can be replayed' : ' that no replay can help';
  return `follows ${next}, which is itself a dead letter (${before.reason})${both}`;
}

/** Whether a worker may accept it unchanged. */
function isEventAsItIs({ reason }: LetterSummary): boolean {
  return !(reason in rejectionReasons) || reason === 'misrouted' || rejectionReasons[reason as keyof typeof rejectionReasons].inSequence;
}

/**
 * The outcome of a replay: waits until the workers have decided. An entity is done when its version has passed the last
 * replayed letter, or when it was parked again. The store then shows for each letter whether it was applied or
 * dead-lettered again, and the queue shows whether letters of its entity are left.
 */
import { entityKey } from '../events/identity.ts';
import { snapshotsOf, type Store } from '../stores/store.ts';
import type { DeadLetterRecord, Snapshot } from '../ordering/entity.ts';
import { patiently, sleep } from '../time.ts';
import type { DeadLetterReason } from './dead-letter.ts';
import { type InspectOptions, listDeadLetters } from './inspect.ts';
import { asCopied, countLetters, type EntityReplay, type LetterSummary, type ReplayPlan } from './replay-plan.ts';
import type { ReplayReport } from './replay.ts';
import { lookUpLetters } from './survey.ts';

/** A letter that was replayed and dead-lettered again. */
export interface LetterAgain {
  readonly letter: LetterSummary;
  readonly reason: DeadLetterReason;
  readonly detail: string;
}

export interface EntityOutcome {
  readonly replay: EntityReplay;
  readonly now: Snapshot;
  /**
   * `recovered`: all replayed letters are applied, the entity is not parked, and the queue has no letter of it. `passed`: all
   * replayed letters are applied; other letters of the entity are left. `parked-again`: a letter was dead-lettered again, and the
   * entity is parked for it. `dead-lettered-again`: the same, without parking. `undecided`: not all letters are processed yet.
   */
  readonly status: 'recovered' | 'passed' | 'parked-again' | 'dead-lettered-again' | 'undecided';
  readonly again: readonly LetterAgain[];
  /** The number of its letters in the queue now; counted only if it seems recovered. */
  readonly left: number;
}

export interface ReplayOutcome {
  readonly entities: readonly EntityOutcome[];
  /** Of the letters without a sequence: those that were dead-lettered again, and the number not yet processed. */
  readonly unordered: { readonly again: readonly LetterAgain[]; readonly undecided: number };
}

export interface OutcomeOptions extends Omit<InspectOptions, 'limit'> {
  readonly store: Pick<Store, 'load' | 'lookUp' | 'findDeadLetters'>;
  /** How long to wait while nothing more is processed, in milliseconds. Default 30,000. */
  readonly timeoutMs?: number;
}

/** Whether the whole plan was carried out and all of it is applied. */
export function isDone(plan: ReplayPlan, { replayed }: Pick<ReplayReport, 'replayed'>, { entities, unordered }: ReplayOutcome): boolean {
  const isApplied = ({ status }: EntityOutcome) => status === 'recovered' || status === 'passed';
  return replayed === countLetters(plan).replayable && unordered.again.length + unordered.undecided === 0 && entities.every(isApplied);
}

const defaultTimeoutMs = 30_000;
const pollMs = 100;
const batchSize = 500;

/** @throws UnavailableError when the store is unavailable for longer than that, or the broker becomes unavailable. */
export async function awaitOutcomes(
  plan: ReplayPlan,
  { sent }: Pick<ReplayReport, 'sent'>,
  options: OutcomeOptions,
): Promise<ReplayOutcome> {
  const { store, timeoutMs = defaultTimeoutMs, signal, time } = options;
  const entities = plan.entities.filter(({ letters }) => letters.length > 0);
  const outcomes = new Map<EntityReplay, EntityOutcome>();
  const verdicts: Verdicts = new Map(plan.unordered.filter((letter) => sent.has(letter)).map((letter) => [letter, 'pending']));
  const loose = [...verdicts.keys()];
  const pendingLoose = () => loose.filter((letter) => verdicts.get(letter) === 'pending').length;
  const openOnes = () => entities.filter((replay) => isOpen(outcomes.get(replay)));
  const versionOf = (replay: EntityReplay) => outcomes.get(replay)?.now.version;
  const stateOf = (open: readonly EntityReplay[]) => JSON.stringify([pendingLoose(), open.map(versionOf)]);
  for (let deadlineMs = time.nowMs() + timeoutMs; ; ) {
    const open = openOnes();
    const before = stateOf(open);
    const ask = async () => {
      const snapshots = await snapshotsOf(
        store,
        open.map(({ entity }) => entity),
      );
      const reached = open.filter((replay, index) => isReached(replay, snapshots[index]!, sent));
      await judge(
        [...loose.filter((letter) => typeof verdicts.get(letter) !== 'object'), ...reached.flatMap((replay) => sentOf(replay, sent))],
        sent,
        store,
        verdicts,
      );
      for (const [index, replay] of open.entries()) outcomes.set(replay, outcomeOf(replay, snapshots[index]!, sent, verdicts));
    };
    await patiently(ask, { time, signal, timeoutMs: Math.max(0, deadlineMs - time.nowMs()) });
    const left = openOnes();
    // Before the deadline is checked, because asking takes time as well.
    if (stateOf(left) !== before) deadlineMs = time.nowMs() + timeoutMs;
    const isOver = left.length + pendingLoose() === 0;
    if (isOver || signal?.aborted || time.nowMs() > deadlineMs) break;
    await sleep(time, pollMs, signal);
  }
  const unordered = { again: againOf(loose, verdicts), undecided: pendingLoose() };
  return { entities: await asTheQueueSays([...outcomes.values()], options), unordered };
}

type Sent = ReplayReport['sent'];

/** An entity is parked a moment before its letter's record is written. */
function isOpen(outcome: EntityOutcome | undefined): boolean {
  return outcome === undefined || outcome.status === 'undecided' || (outcome.status === 'parked-again' && outcome.again.length === 0);
}

const sentOf = (replay: EntityReplay, sent: Sent) => replay.letters.filter((letter) => sent.has(letter));

function lastSequenceOf(letters: readonly LetterSummary[]): number {
  return letters.reduce((highest, { sequence }) => Math.max(highest, sequence ?? highest), Number.NEGATIVE_INFINITY);
}

const isParkedAgain = (replay: EntityReplay, now: Snapshot) => now.parked !== null && now.parked.at !== replay.parked?.at;

/** Whether the workers have processed the last of its letters, or cannot get any further. */
function isReached(replay: EntityReplay, now: Snapshot, sent: Sent): boolean {
  return now.version >= lastSequenceOf(sentOf(replay, sent)) || isParkedAgain(replay, now);
}

function outcomeOf(replay: EntityReplay, now: Snapshot, sent: Sent, verdicts: Verdicts): EntityOutcome {
  const letters = sentOf(replay, sent);
  const again = isReached(replay, now, sent) ? againOf(letters, verdicts) : [];
  const outcome = { replay, now, again, left: 0 };
  if (!isReached(replay, now, sent)) return { ...outcome, status: 'undecided' };
  const isParkedForIt = isParkedAgain(replay, now) && again.length > 0;
  if (now.version < lastSequenceOf(letters) || isParkedForIt) return { ...outcome, status: 'parked-again' };
  if (letters.some((letter) => verdicts.get(letter) === 'pending')) return { ...outcome, status: 'undecided' };
  if (again.length > 0) return { ...outcome, status: 'dead-lettered-again' };
  return { ...outcome, status: now.parked === null ? 'recovered' : 'passed' };
}

type Verdicts = Map<LetterSummary, 'applied' | 'pending' | LetterAgain>;

function againOf(letters: readonly LetterSummary[], verdicts: Verdicts): readonly LetterAgain[] {
  return letters.flatMap((letter) => {
    const verdict = verdicts.get(letter);
    return typeof verdict === 'object' ? [verdict] : [];
  });
}

/**
 * For letters whose sequences the version has reached: whether each was dead-lettered again since it was sent, applied, or neither.
 * A record is written before the rejection, so a letter without a record may still be rejected.
 */
async function judge(letters: readonly LetterSummary[], sent: Sent, store: OutcomeOptions['store'], verdicts: Verdicts): Promise<void> {
  const rest: LetterSummary[] = [];
  for (let at = 0; at < letters.length; at += batchSize) {
    const batch = letters.slice(at, at + batchSize);
    const found = await store.findDeadLetters(batch.map(asCopied));
    for (const [index, letter] of batch.entries()) {
      const record: DeadLetterRecord | null = found[index]?.record ?? null;
      const isAgain = record !== null && record.deadLetteredAt !== sent.get(letter);
      if (isAgain) verdicts.set(letter, { letter, reason: record.reason, detail: record.detail });
      else rest.push(letter);
    }
  }
  const lookedUp = await lookUpLetters(rest, store);
  const isPending = (letter: LetterSummary) => {
    const verdict = lookedUp.get(letter);
    if (verdict?.status === 'known') return letter.copy?.payloadHash != null && verdict.payloadHash !== letter.copy.payloadHash;
    // A forgotten sequence was applied; an unknown id was not processed yet.
    return verdict?.status === 'unknown' && letter.sequence === null;
  };
  for (const letter of rest) verdicts.set(letter, isPending(letter) ? 'pending' : 'applied');
}

/** An entity that seems recovered is so only if the queue has no letter of it. */
async function asTheQueueSays(outcomes: readonly EntityOutcome[], options: OutcomeOptions): Promise<readonly EntityOutcome[]> {
  const recovered = outcomes.filter(({ status }) => status === 'recovered');
  const left = new Map(recovered.map(({ replay }) => [entityKey(replay.entity), 0]));
  // Their entity type is unknown, so no entity with that id counts as recovered.
  const ofUnreadType = new Map(recovered.map(({ replay }) => [replay.entity.entityId, 0]));
  if (left.size === 0) return outcomes;
  if (options.signal?.aborted) {
    return outcomes.map((outcome) => (outcome.status === 'recovered' ? { ...outcome, status: 'undecided' } : outcome));
  }
  for await (const page of listDeadLetters(options)) {
    for (const { entityType, entityId } of page) {
      if (entityId === null) continue;
      if (entityType === null) countUp(ofUnreadType, entityId);
      else countUp(left, entityKey({ entityType, entityId }));
    }
  }
  return outcomes.map((outcome) => {
    const { entity } = outcome.replay;
    const count = (left.get(entityKey(entity)) ?? 0) + (ofUnreadType.get(entity.entityId) ?? 0);
    return outcome.status !== 'recovered' || count === 0 ? outcome : { ...outcome, status: 'passed', left: count };
  });
}

function countUp(counts: Map<string, number>, name: string): void {
  const count = counts.get(name);
  if (count !== undefined) counts.set(name, count + 1);
}

/**
 * Reads all dead letters once and plans a change of the matched ones. Only a summary of each letter is kept; letters that
 * arrive later are not part of the plan. The store is asked what was applied in place of letters that the version has
 * passed, and a source for the events that the others wait for.
 */
import type { EncodedEvent } from '../events/encode.ts';
import type { MissingEvents } from '../event-sourcing/gap-source.ts';
import { Holes } from '../ordering/holes.ts';
import type { FirstSequence, ViolationStrategy } from '../ordering/limits.ts';
import { snapshotsOf, type Store } from '../stores/store.ts';
import type { LookupResult, Snapshot } from '../ordering/entity.ts';
import { type DeadLetter, type LetterFilter, matches } from './dead-letter.ts';
import { EntityLetters, type InspectOptions, listDeadLetters } from './inspect.ts';
import { copyOf } from './letter-copy.ts';
import { planEntity, summaryOf, whyNotInHole, whyPassed, whyNotReplayable } from './replay-plan.ts';
import type { EntityReplay, LettersOfEntity, LetterSummary, ReplayPlan, NotReplayable } from './replay-plan.ts';

export interface SurveyOptions extends Omit<InspectOptions, 'store' | 'limit'> {
  readonly store: Pick<Store, 'findDeadLetters' | 'load' | 'lookUp'>;
  readonly filter: LetterFilter;
  /** Letters to consider; the others are ignored. Default: all. */
  readonly concerns?: (letter: DeadLetter) => boolean;
  /** For a replay: only the matched letters, without the others of their entities. Default false. */
  readonly only?: boolean;
  /** For a replay: only entities with a letter that can be applied now, because the missing event has arrived. Default false. */
  readonly readyOnly?: boolean;
  readonly firstSequence: FirstSequence;
  /** The violation strategy of the stream's workers, which decides about holes. Default `buffer`. */
  readonly strategy?: ViolationStrategy;
  /** The source of missing events. Default: none. */
  readonly source?: MissingEventsReader;
  /** Called with the number of letters read so far. */
  readonly onProgress?: (read: number) => void;
}

/** Returns the missing events that a source has, in the order of their sequences. */
export type MissingEventsReader = (missing: MissingEvents) => Promise<readonly EncodedEvent[]>;

export interface Survey {
  readonly entities: readonly LettersOfEntity[];
  /** Matched letters without a readable entity or sequence, in the order of the queue. */
  readonly unordered: readonly LetterSummary[];
}

/** The number of matched letters. */
export function countMatched({ entities, unordered }: Survey): number {
  return entities.reduce((sum, { matched }) => sum + matched.length, unordered.length);
}

/** `toCopy`: whether the letters may be published again; then their copies are computed. */
export async function surveyLetters(options: SurveyOptions, toCopy = false): Promise<Survey> {
  const { filter, concerns = () => true, onProgress } = options;
  const entities = new EntityLetters();
  const unordered: LetterSummary[] = [];
  let read = 0;
  for await (const letters of listDeadLetters(options)) {
    for (const letter of letters.filter(concerns)) {
      const isMatched = matches(letter, filter);
      const summary = summaryOf(letter, toCopy ? copyOf(letter, options.decoding) : undefined);
      if (!entities.add(summary, isMatched) && isMatched) unordered.push(summary);
    }
    read += letters.length;
    onProgress?.(read);
  }
  return { entities: entities.all().filter(({ matched }) => matched.length > 0), unordered };
}

/**
 * A filter that matches a letter chooses its whole entity: the letters behind a failed one only wait for it, and are replayed with
 * it. Letters that are not replayable stay.
 */
export async function planReplay(options: SurveyOptions): Promise<ReplayPlan> {
  const { store, firstSequence, source, only = false, readyOnly = false, strategy = 'buffer' } = options;
  const survey = await surveyLetters(options, true);
  const whole = (letters: LettersOfEntity) => ({ ...letters, matched: [...letters.matched, ...letters.others], others: [] });
  const chosen = only ? survey.entities : survey.entities.map(whole);
  const snapshots = await snapshotsOf(
    store,
    chosen.map(({ entity }) => entity),
  );
  const { entities, notReplayable: ofEntities } = await withoutNotReplayable(chosen, snapshots, store, strategy);
  const { unordered, notReplayable: ofNone } = unorderedOf(survey, only ? [] : chosen);
  const plans: EntityReplay[] = [];
  for (const [index, letters] of entities.entries()) {
    if (letters.matched.length === 0) continue;
    const plan = planEntity(letters, snapshots[index]!, firstSequence);
    plans.push(source === undefined ? plan : await withFetched(plan, letters, snapshots[index]!, source, options));
  }
  if (!readyOnly) return { entities: plans, unordered, notReplayable: [...ofEntities, ...ofNone] };
  const isReady = ({ letters, version }: EntityReplay) => letters.some(({ sequence }) => (sequence ?? 0) > version);
  return { entities: plans.filter(isReady), unordered: [], notReplayable: [] };
}

/** The letters without a place in an entity's order, including the unread ones of the chosen entities. */
function unorderedOf({ unordered }: Survey, chosen: readonly LettersOfEntity[]): Required<Pick<ReplayPlan, 'unordered' | 'notReplayable'>> {
  const mayBeOf = ({ entityType }: LetterSummary, { entity }: LettersOfEntity) => entityType === null || entityType === entity.entityType;
  const beside = chosen.flatMap((letters) => letters.unread.filter((letter) => mayBeOf(letter, letters)));
  const all = [...new Set([...unordered, ...beside])].map((letter) => ({ letter, why: whyNotReplayable(letter, 0) }));
  return {
    unordered: all.filter(({ why }) => why === null).map(({ letter }) => letter),
    notReplayable: all.flatMap(({ letter, why }) => (why === null ? [] : [{ letter, why }])),
  };
}

/** Separates the letters that are not replayable; they are moved to `others`. */
export async function withoutNotReplayable(
  entities: readonly LettersOfEntity[],
  snapshots: readonly Snapshot[],
  store: Pick<Store, 'lookUp'>,
  strategy: ViolationStrategy,
): Promise<{ readonly entities: readonly LettersOfEntity[]; readonly notReplayable: readonly NotReplayable[] }> {
  const why = new Map<LetterSummary, string>();
  const asked: { readonly letter: LetterSummary; readonly floor: number }[] = [];
  for (const [index, { matched }] of entities.entries()) {
    const { version, holes: text } = snapshots[index]!;
    const holes = Holes.parse(text);
    for (const letter of matched) {
      const isPassed = letter.sequence !== null && letter.sequence <= version;
      const isHole = isPassed && holes.has(letter.sequence);
      const known = isHole ? whyNotInHole(letter, strategy) : whyNotReplayable(letter, version);
      if (known !== null) why.set(letter, known);
      else if (isPassed && !isHole) asked.push({ letter, floor: holes.floor });
    }
  }
  const lookedUp = await lookUpLetters(
    asked.map(({ letter }) => letter),
    store,
  );
  for (const { letter, floor } of asked) {
    const known = whyPassed(letter, lookedUp.get(letter), floor);
    if (known !== null) why.set(letter, known);
  }
  if (why.size === 0) return { entities, notReplayable: [] };
  return {
    entities: entities.map(({ matched, others, ...entity }) => ({
      ...entity,
      matched: matched.filter((letter) => !why.has(letter)),
      others: [...others, ...matched.filter((letter) => why.has(letter))],
    })),
    notReplayable: [...why].map(([letter, reason]) => ({ letter, why: reason })),
  };
}

const lookupBatch = 500;

/** What the store remembers of the sequences of these letters, or of their ids if they have no sequence. */
export async function lookUpLetters(
  letters: readonly LetterSummary[],
  store: Pick<Store, 'lookUp'>,
): Promise<ReadonlyMap<LetterSummary, LookupResult>> {
  const found = new Map<LetterSummary, LookupResult>();
  for (let at = 0; at < letters.length; at += lookupBatch) {
    const batch = letters.slice(at, at + lookupBatch);
    const queryOf = ({ entityType, entityId, sequence, messageId }: LetterSummary) => {
      return { entityType: entityType ?? '', entityId: entityId ?? '', sequence, id: messageId };
    };
    const results = await store.lookUp(batch.map(queryOf));
    for (const [index, letter] of batch.entries()) found.set(letter, results[index]!);
  }
  return found;
}

/** Entities that lack more events than this stay blocked. */
const maxFetched = 10_000;
const maxPerRead = 500;
const neverAborted = new AbortController().signal;

/** The plan with the source's events, as far as they make more letters replayable. */
export async function withFetched(
  plan: EntityReplay,
  letters: LettersOfEntity,
  snapshot: Snapshot,
  source: MissingEventsReader,
  { firstSequence, signal = neverAborted }: { readonly firstSequence: FirstSequence; readonly signal?: AbortSignal },
): Promise<EntityReplay> {
  let best = plan;
  let fetched: readonly EncodedEvent[] = [];
  for (let blocked = plan.blocked; blocked !== null && !blocked.isDeadLetter && !signal.aborted; blocked = best.blocked) {
    const { missing: from, next } = blocked;
    if (fetched.length + next - from > maxFetched) return best;
    const found: EncodedEvent[] = [];
    for (let first = from; first < next; first += maxPerRead) {
      found.push(...(await source({ entity: letters.entity, from: first, to: Math.min(next, first + maxPerRead) - 1, signal })));
    }
    // If one is still missing, no further letter is replayable.
    if (found.length < next - from) return best;
    fetched = [...fetched, ...found];
    best = planEntity(letters, snapshot, firstSequence, fetched);
  }
  return best;
}

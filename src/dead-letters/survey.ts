/**
 * Reads all dead letters once and plans what can be done with those that are meant. Of each letter only a summary is
 * kept; what is dead-lettered after this reading is no part of what is planned by it.
 */
import type { FirstSequence, ViolationStrategy } from '../ordering/limits.ts';
import type { Store } from '../stores/store.ts';
import type { DeadLetter } from './dead-letter.ts';
import { EntityLetters } from './entity-letters.ts';
import { snapshotsOf } from './entity-snapshots.ts';
import { type InspectOptions, listDeadLetters } from './inspect.ts';
import { isMeant, type LetterFilter } from './letter-filter.ts';
import { type MissingEventsReader, withFetched } from './fetch-missing.ts';
import { type EntityReplay, type LettersOfEntity, type LetterSummary, planEntity, type ReplayPlan, summaryOf } from './replay-plan.ts';
import { copyOf } from './replayable-message.ts';
import { whyUnmendable, withoutUnmendable } from './unmendable.ts';

export interface SurveyOptions extends Omit<InspectOptions, 'store' | 'limit'> {
  readonly store: Pick<Store, 'findDeadLetters' | 'load' | 'recall'>;
  readonly filter: LetterFilter;
  /** What is looked at at all; of the rest nothing is kept. Default: everything. */
  readonly concerns?: (letter: DeadLetter) => boolean;
  /** Of a replay: only the letters that are meant, and not the others of their entities. Default false. */
  readonly only?: boolean;
  /** Only entities of which a letter can be applied now: what was missing has arrived since. */
  readonly readyOnly?: boolean;
  readonly firstSequence: FirstSequence;
  /** What the stream's workers do with what comes into a hole. Default `buffer`. */
  readonly strategy?: ViolationStrategy;
  /** Asked for what letters wait for. Default: nobody is. */
  readonly source?: MissingEventsReader;
  /** How many letters were read so far. */
  readonly onProgress?: (read: number) => void;
}

export interface Survey {
  readonly entities: readonly LettersOfEntity[];
  /** Meant, and without an entity or a sequence that could be read; in the order of the queue. */
  readonly unordered: readonly LetterSummary[];
}

/** `toCopy`: the letters may be published again, so it is found out what their copies will be. */
export async function surveyLetters(options: SurveyOptions, toCopy = false): Promise<Survey> {
  const { filter, concerns = () => true, onProgress } = options;
  const entities = new EntityLetters();
  const unordered: LetterSummary[] = [];
  let read = 0;
  for await (const letters of listDeadLetters(options)) {
    for (const letter of letters.filter(concerns)) {
      const meant = isMeant(letter, filter);
      const summary = summaryOf(letter, toCopy ? copyOf(letter, options.decoding) : undefined);
      if (!entities.add(summary, meant) && meant) unordered.push(summary);
    }
    read += letters.length;
    onProgress?.(read);
  }
  return { entities: entities.all().filter(({ meant }) => meant.length > 0), unordered };
}

/**
 * Whatever chooses letters chooses their entities: what follows a letter that failed waits for it alone, and goes with it.
 * What a replay does not mend stays.
 */
export async function planReplay(options: SurveyOptions): Promise<ReplayPlan> {
  const survey = await surveyLetters(options, true);
  const chosen = options.only ? survey.entities : survey.entities.map((letters) => ({ ...letters, meant: [...letters.meant, ...letters.others], others: [] }));
  const snapshots = await snapshotsOf(options.store, chosen.map(({ entity }) => entity));
  const { entities, unmendable: ofEntities } = await withoutUnmendable(chosen, snapshots, options.store, options.strategy ?? 'buffer');
  const along = options.only ? [] : chosen.flatMap(({ entity, unread }) => unread.filter(({ entityType }) => entityType === null || entityType === entity.entityType));
  const ofNone = [...new Set([...survey.unordered, ...along])].map((letter) => ({ letter, why: whyUnmendable(letter, 0) }));
  const unmendable = [...ofEntities, ...ofNone.flatMap(({ letter, why }) => (why === null ? [] : [{ letter, why }]))];
  const unordered = ofNone.filter(({ why }) => why === null).map(({ letter }) => letter);
  const plans: EntityReplay[] = [];
  for (const [index, letters] of entities.entries()) {
    if (letters.meant.length === 0) continue;
    const plan = planEntity(letters, snapshots[index]!, options.firstSequence);
    plans.push(options.source === undefined ? plan : await withFetched(plan, letters, snapshots[index]!, options.source, options));
  }
  if (options.readyOnly !== true) return { entities: plans, unordered, unmendable };
  return { entities: plans.filter(({ letters, version }) => letters.some(({ sequence }) => (sequence ?? 0) > version)), unordered: [] };
}

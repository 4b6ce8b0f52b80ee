/**
 * Reads all dead letters once and plans what can be done with those that are meant. Of each letter only a summary is
 * kept; what is dead-lettered after this reading is no part of what is planned by it.
 */
import type { Store } from '../stores/store.ts';
import type { DeadLetter } from './dead-letter.ts';
import { EntityLetters } from './entity-letters.ts';
import { snapshotsOf } from './entity-snapshots.ts';
import { type InspectOptions, listDeadLetters } from './inspect.ts';
import { isMeant, type LetterFilter } from './letter-filter.ts';
import { type MissingEventsReader, withFetched } from './fetch-missing.ts';
import { type EntityReplay, type LettersOfEntity, type LetterSummary, planEntity, type ReplayPlan, summaryOf } from './replay-plan.ts';

export interface SurveyOptions extends Omit<InspectOptions, 'store' | 'limit'> {
  readonly store: Pick<Store, 'findDeadLetters' | 'load'>;
  readonly filter: LetterFilter;
  /** What is looked at at all; of the rest nothing is kept. Default: everything. */
  readonly concerns?: (letter: DeadLetter) => boolean;
  /** Only entities of which a letter can be applied now: what was missing has arrived since. */
  readonly readyOnly?: boolean;
  readonly firstSequence: 1 | 'any';
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

export async function surveyLetters(options: SurveyOptions): Promise<Survey> {
  const { filter, concerns = () => true, onProgress } = options;
  const entities = new EntityLetters();
  const unordered: LetterSummary[] = [];
  let read = 0;
  for await (const letters of listDeadLetters(options)) {
    for (const letter of letters.filter(concerns)) {
      const meant = isMeant(letter, filter);
      if (!entities.add(letter, meant) && meant) unordered.push(summaryOf(letter));
    }
    read += letters.length;
    onProgress?.(read);
  }
  return { entities: entities.all().filter(({ meant }) => meant.length > 0), unordered };
}

export async function planReplay(options: SurveyOptions): Promise<ReplayPlan> {
  const { entities, unordered } = await surveyLetters(options);
  const snapshots = await snapshotsOf(options.store, entities.map(({ entity }) => entity));
  const plans: EntityReplay[] = [];
  for (const [index, letters] of entities.entries()) {
    const plan = planEntity(letters, snapshots[index]!, options.firstSequence);
    plans.push(options.source === undefined ? plan : await withFetched(plan, letters, snapshots[index]!, options.source, options));
  }
  if (options.readyOnly !== true) return { entities: plans, unordered };
  return { entities: plans.filter(({ letters, version }) => letters.some(({ sequence }) => (sequence ?? 0) > version)), unordered: [] };
}

/**
 * Plans and carries changes out on the real queue and store, as the commands do, and writes who did it; and what a change will do
 * and what became of it, as the browser gets it.
 */
import type { LetterFilter } from '../dead-letters/dead-letter.ts';
import type { DeadLetters } from '../dead-letters/dead-letters.ts';
import type { ReplayOutcome } from '../dead-letters/replay.ts';
import {
  countLetters,
  type EntityReplay,
  type LettersOfEntity,
  type ReplayPlan,
  sequencesText,
  type NotReplayable,
} from '../dead-letters/replay-plan.ts';
import { countMatched, type Survey } from '../dead-letters/inspect.ts';
import { ConfigError } from '../errors.ts';
import { entityFields } from '../events/event.ts';
import type { ChangeRequest, ChangeWork } from './changes.ts';
import type { Catalogue } from './letter-catalogue.ts';
import { isFound, type LetterSearch } from './letter-json.ts';
import type { Change, PlannedEntity } from './page/answers.d.ts';

export type ChangePlan = { readonly action: 'replay'; readonly plan: ReplayPlan } | { readonly action: 'discard'; readonly survey: Survey };

export type ChangeOutcome =
  | ({ readonly action: 'replay'; readonly replayed: number; readonly left: number } & ReplayOutcome)
  | { readonly action: 'discard'; readonly discarded: number };

export interface ChangeWorkOptions {
  readonly letters: () => DeadLetters;
  readonly catalogue: () => Catalogue | null;
  /** The dead letters have changed. */
  readonly onChanged: () => void;
}

type Settle = () => Promise<ChangeOutcome>;

/** A limit, because each found letter is compared with each one in the queue. */
const maxFoundByWords = 1_000;

export class DeadLetterWork implements ChangeWork {
  readonly #options: ChangeWorkOptions;

  constructor(options: ChangeWorkOptions) {
    this.#options = options;
  }

  async plan(request: ChangeRequest, onProgress: (read: number) => void, signal: AbortSignal): Promise<ChangePlan> {
    const { action, readyOnly, skipSequence } = request;
    const letters = this.#options.letters();
    const choice = { filter: this.#filterOf(request.search), signal, onProgress };
    if (action === 'discard') return { action, survey: await letters.planDiscard({ ...choice, skipSequence }) };
    return { action, plan: await letters.plan({ ...choice, readyOnly }) };
  }

  async carryOut(change: ChangePlan, request: ChangeRequest, onProgress: (done: number) => void, signal: AbortSignal): Promise<Settle> {
    const { who, reason, skipSequence } = request;
    const { onChanged } = this.#options;
    const letters = this.#options.letters();
    const { action } = change;
    try {
      if (action === 'discard') {
        const discarded = await letters.discard(change.survey, { who, reason, skipSequence, signal, onProgress });
        return async () => ({ action, discarded });
      }
      const report = await letters.replay(change.plan, { who, signal, onProgress });
      return async () => {
        const outcome = await letters.outcome(change.plan, report, { signal });
        onChanged();
        return { action, replayed: report.replayed, left: report.left, ...outcome };
      };
    } finally {
      onChanged();
    }
  }

  /** @throws ConfigError when a search by words finds too many letters. */
  #filterOf(search: LetterSearch): LetterFilter {
    if (search.words === '') return search.filter;
    const found = this.#options.catalogue()?.letters.filter((letter) => isFound(letter, search)) ?? [];
    if (found.length <= maxFoundByWords) return { ids: [...new Set(found.map(({ fingerprint }) => fingerprint))] };
    const where = `the words are found in ${found.length} dead letters`;
    throw new ConfigError([`${where}: choose by fields, or narrow the search to ${maxFoundByWords}`]);
  }
}

/** Entities that are listed; of the others only how many. */
const maxShown = 50;

/** The number of letters that it removes from the queue. */
export function lettersOf(change: ChangePlan): number {
  return change.action === 'replay' ? countLetters(change.plan).replayable : countMatched(change.survey);
}

export function planFields(change: ChangePlan): NonNullable<Change['plan']> {
  const letters = lettersOf(change);
  if (change.action === 'discard') {
    const { entities, unordered } = change.survey;
    return {
      letters,
      blocked: 0,
      unordered: unordered.length,
      entity_count: entities.length,
      entities: entities.slice(0, maxShown).map(discardFields),
    };
  }
  const { entities, unordered } = change.plan;
  const { blocked } = countLetters(change.plan);
  // What is replayable comes first.
  const shown = [...entities].sort((a, b) => Number(b.letters.length > 0) - Number(a.letters.length > 0)).slice(0, maxShown);
  const notReplayable = notReplayableFields(change.plan.notReplayable ?? []);
  return {
    letters,
    blocked,
    unordered: unordered.length,
    entity_count: entities.length,
    entities: shown.map(replayFields),
    ...notReplayable,
  };
}

/** The number of letters that are not replayable, and the reasons for the first of them. */
function notReplayableFields(
  notReplayable: readonly NotReplayable[],
): Pick<NonNullable<Change['plan']>, 'not_replayable' | 'not_replayable_count'> {
  if (notReplayable.length === 0) return {};
  const shown = notReplayable
    .slice(0, maxShown)
    .map(({ letter, why }) => ({ ...entityFields(letter), sequence: letter.sequence, reason: letter.reason, why }));
  return { not_replayable_count: notReplayable.length, not_replayable: shown };
}

export function outcomeFields(outcome: ChangeOutcome): NonNullable<Change['outcome']> {
  if (outcome.action === 'discard') return { discarded: outcome.discarded };
  const { replayed, left, entities } = outcome;
  const others = entities.filter(({ status }) => status !== 'recovered');
  return {
    replayed,
    left,
    entity_count: entities.length,
    recovered: entities.length - others.length,
    entities: others.slice(0, maxShown).map(({ replay, status, now, again }) => ({
      ...entityFields(replay.entity),
      status,
      version: now.version,
      parked: now.parked,
      again: again[0]?.reason ?? null,
    })),
    again: outcome.unordered.again.length,
    undecided: outcome.unordered.undecided,
  };
}

function replayFields({ entity, version, letters, blocked }: EntityReplay): PlannedEntity {
  const waits = blocked === null ? null : { sequences: sequencesText(blocked.letters), missing: blocked.missing, why: blocked.why };
  return { ...entityFields(entity), version, letters: letters.length, sequences: sequencesText(letters), blocked: waits };
}

function discardFields({ entity, matched }: LettersOfEntity): PlannedEntity {
  const inOrder = [...matched].sort((a, b) => (a.sequence ?? 0) - (b.sequence ?? 0));
  return { ...entityFields(entity), version: null, letters: matched.length, sequences: sequencesText(inOrder), blocked: null };
}

/** Plans and carries changes out on the real queue and store, as the commands do, and writes who did it. */
import type { LetterFilter } from '../dead-letters/dead-letter.ts';
import type { DeadLetters } from '../dead-letters/dead-letters.ts';
import { ConfigError } from '../errors.ts';
import type { ChangeOutcome, ChangePlan } from './change-plan.ts';
import type { ChangeRequest, ChangeWork } from './changes.ts';
import type { Catalogue } from './letter-catalogue.ts';
import { isFound, type LetterSearch } from './letter-search.ts';

export interface ChangeWorkOptions {
  readonly letters: () => DeadLetters;
  readonly catalogue: () => Catalogue | null;
  /** The dead letters are others now. */
  readonly onChanged: () => void;
}

type Settle = () => Promise<ChangeOutcome>;

/** Each of the letters that words have found is compared with each in the queue. */
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

  /** @throws ConfigError when words mean more letters than can be named. */
  #filterOf(search: LetterSearch): LetterFilter {
    if (search.words === '') return search.filter;
    const found = this.#options.catalogue()?.letters.filter((letter) => isFound(letter, search)) ?? [];
    if (found.length <= maxFoundByWords) return { ids: [...new Set(found.map(({ fingerprint }) => fingerprint))] };
    const where = `the words are found in ${found.length} dead letters`;
    throw new ConfigError([`${where}: choose by fields, or narrow the search to ${maxFoundByWords}`]);
  }
}

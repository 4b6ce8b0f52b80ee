/** Plans and carries changes out on the real queue and store, with the same parts as the commands, and writes who did it. */
import type { DecodeOptions } from '../events/decode.ts';
import type { LetterFilter } from '../dead-letters/dead-letter.ts';
import { assertSkippable, discard } from '../dead-letters/discard.ts';
import { awaitOutcomes } from '../dead-letters/replay-outcome.ts';
import type { ReplayPlan } from '../dead-letters/replay-plan.ts';
import { replay } from '../dead-letters/replay.ts';
import { planReplay, type Survey, surveyLetters } from '../dead-letters/survey.ts';
import { ConfigError } from '../errors.ts';
import type { FirstSequence, ViolationStrategy } from '../ordering/limits.ts';
import type { Catalogue } from './letter-catalogue.ts';
import { isFound, type LetterSearch } from './letter-search.ts';
import type { ChangeOutcome, ChangePlan } from './change-plan.ts';
import type { ChangeRequest, ChangeWork } from './changes.ts';
import type { Sources } from './sources.ts';

export interface ChangeWorkOptions {
  readonly sources: Sources;
  readonly stream: string;
  readonly decoding: DecodeOptions;
  readonly firstSequence: FirstSequence;
  readonly strategy: ViolationStrategy;
  readonly catalogue: () => Catalogue | null;
  /** The dead letters are others now. */
  readonly onChanged: () => void;
}

/** Each of the letters that words have found is compared with each in the queue. */
const maxFoundByWords = 1_000;

export class DeadLetterWork implements ChangeWork {
  readonly #options: ChangeWorkOptions;

  constructor(options: ChangeWorkOptions) {
    this.#options = options;
  }

  plan(request: ChangeRequest, onProgress: (read: number) => void, signal: AbortSignal): Promise<ChangePlan> {
    const { sources, stream, decoding, firstSequence, strategy } = this.#options;
    return sources.withDeadLetters(async (connection): Promise<ChangePlan> => {
      const filter = this.#filterOf(request.search);
      const survey = { connection, stream, decoding, firstSequence, strategy, store: sources.store, filter, signal, onProgress };
      if (request.action === 'discard') {
        const found = await surveyLetters(survey);
        if (request.skipSequence) await assertSkippable(found, sources.store);
        return { action: 'discard', survey: found };
      }
      return { action: 'replay', plan: await planReplay({ ...survey, readyOnly: request.readyOnly }) };
    });
  }

  async carryOut(change: ChangePlan, request: ChangeRequest, onProgress: (done: number) => void, signal: AbortSignal): Promise<() => Promise<ChangeOutcome>> {
    try {
      if (change.action === 'replay') return await this.#replay(change.plan, request.who, onProgress, signal);
      const discarded = await this.#discard(change.survey, request, onProgress, signal);
      return async () => ({ action: 'discard', discarded });
    } finally {
      this.#options.onChanged();
    }
  }

  async #replay(plan: ReplayPlan, who: string, onProgress: (done: number) => void, signal: AbortSignal): Promise<() => Promise<ChangeOutcome>> {
    const { sources, stream, decoding, onChanged } = this.#options;
    const { store } = sources;
    const report = await sources.withDeadLetters((connection) =>
      sources.withPublisher((publisher) => replay(plan, { connection, publisher, stream, store, who, signal, onProgress })),
    );
    return async () => {
      const outcome = await sources.withDeadLetters((connection) => awaitOutcomes(plan, report, { connection, stream, store, decoding, signal }));
      onChanged();
      return { action: 'replay', replayed: report.replayed, left: report.left, ...outcome };
    };
  }

  #discard(survey: Survey, { who, reason, skipSequence }: ChangeRequest, onProgress: (done: number) => void, signal: AbortSignal): Promise<number> {
    const { sources, stream } = this.#options;
    return sources.withDeadLetters((connection) =>
      discard(survey, { connection, stream, store: sources.store, who, reason, skipSequence, signal, onProgress }),
    );
  }

  /** @throws ConfigError when words mean more letters than can be named. */
  #filterOf(search: LetterSearch): LetterFilter {
    if (search.words === '') return search.filter;
    const found = this.#options.catalogue()?.letters.filter((letter) => isFound(letter, search)) ?? [];
    if (found.length <= maxFoundByWords) return { ids: [...new Set(found.map(({ fingerprint }) => fingerprint))] };
    throw new ConfigError([`the words are found in ${found.length} dead letters: choose by fields, or narrow the search to ${maxFoundByWords}`]);
  }
}

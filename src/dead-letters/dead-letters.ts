/**
 * The dead letters of one stream, for whoever reads or changes them: the commands, the console, AUTO_REPLAY, and programs. Guarantees
 * that all of them decode as the stream's workers do; that what changes letters, or plans a change, has them alone, in this process
 * and beyond it; and that no call hangs on a connection that is lost. Reading leaves the queue as it is.
 *
 * It leaves to the workers what becomes of a letter that is replayed, and to the caller whether a plan is to be carried out. What
 * lies between a plan and its carrying out may change: what is not there any more is counted as left.
 */
import { type Config, decodingOf } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { decodeMessage, type DecodeOptions } from '../events/decode.ts';
import { type GapSource, readMissing } from '../event-sourcing/gap-source.ts';
import type { Log } from '../observability/log.ts';
import type { FirstSequence, ViolationStrategy } from '../ordering/limits.ts';
import { openStore } from '../stores/open-store.ts';
import type { Store } from '../stores/store.ts';
import { systemTime, type Time } from '../time.ts';
import { type DeadLetter, type Grouping, isSelective, type LetterFilter, type LetterGroup, LetterGroups, matches } from './dead-letter.ts';
import { assertSkippable, discard, type DiscardOptions } from './discard.ts';
import { findDeadLetters, findReadyEntities, type FoundLetter, listDeadLetters, type ReadyEntities, type ReadyOptions } from './inspect.ts';
import {
  KeptBroker,
  type LetterBroker,
  OneAtATime,
  onConnection,
  operatorPatienceMs,
  withConnection,
  withOperatorLock,
} from './letter-broker.ts';
import { asEventLine, asLetterLine } from './letter-copy.ts';
import type { Connection } from './queue-reading.ts';
import { replay, type ReplayOptions, type ReplayReport } from './replay.ts';
import { awaitOutcomes, type OutcomeOptions, type ReplayOutcome } from './replay-outcome.ts';
import type { ReplayPlan } from './replay-plan.ts';
import { planReplay, type Survey, surveyLetters, type SurveyOptions } from './survey.ts';

export interface DeadLettersOptions {
  /** As the stream's workers have it. Default: `loadConfig(process.env)`. */
  readonly config?: Config;
  /** The workers' store; it is not closed with this. Default: what the configuration names, on connections of its own. */
  readonly store?: Store;
  /** Told of lost connections. Default: silence. */
  readonly log?: Log;
  /** Default: that of the computer. */
  readonly time?: Time;
}

const silence: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/**
 * The dead letters of a stream for a program. It connects when it is asked something; close it at the end.
 * @throws ConfigError when the configuration is not usable.
 */
export function createDeadLetters(options: DeadLettersOptions = {}): DeadLetters {
  const { config = loadConfig(process.env), store, log = silence, time = systemTime } = options;
  const { urls, stream } = config.broker;
  const names = { reading: 'inorder dead letters', publishing: 'inorder replay' };
  return new DeadLetters({
    ...letterSettings(config),
    store: store ?? openStore(config, { log, time }),
    ownsStore: store === undefined,
    broker: new KeptBroker({ urls, stream, names, log, time }),
    time,
  });
}

/** What has to be as the stream's workers have it. */
export interface LetterSettings {
  readonly stream: string;
  readonly decoding: DecodeOptions;
  readonly firstSequence: FirstSequence;
  readonly strategy: ViolationStrategy;
}

export function letterSettings(config: Config): LetterSettings {
  const { firstSequence, strategy } = config.ordering;
  return { stream: config.broker.stream, decoding: decodingOf(config), firstSequence, strategy };
}

export interface DeadLettersParts extends LetterSettings {
  readonly store: Pick<Store, 'findDeadLetters' | 'load' | 'lookUp' | 'commit' | 'operator' | 'close'>;
  /** Whether it is closed with this. Default false. */
  readonly ownsStore?: boolean;
  readonly broker: LetterBroker;
  readonly time: Time;
  /** Whether whoever made this has the lock already. Default false. */
  readonly isLocked?: boolean;
}

export interface ReadOptions {
  /** Default: all dead letters. */
  readonly filter?: LetterFilter;
  /** Ends the reading after the present page; what was read by then is answered. */
  readonly signal?: AbortSignal;
}

export interface ListOptions extends ReadOptions {
  /** At most so many that match, the oldest. Default: all. */
  readonly limit?: number;
}

export interface ExportOptions extends ReadOptions {
  /** Only the events, in the envelope: what can be corrected and published again. Default false: everything that is known. */
  readonly events?: boolean;
}

export interface ExportedLetter {
  readonly letter: DeadLetter;
  /** One line of NDJSON with its line end. Null: it is no JSON object, and so no event. */
  readonly line: string | null;
}

export interface ProgressOptions extends ReadOptions {
  /** How many letters were read so far, matched or not. */
  readonly onProgress?: (read: number) => void;
}

export interface PlanOptions extends ProgressOptions, Pick<SurveyOptions, 'only' | 'readyOnly' | 'concerns'> {
  /** Asked for the events that letters wait for, so that more can be replayed. Default: nobody is. */
  readonly source?: GapSource | null;
}

export interface PlanDiscardOptions extends ProgressOptions {
  /** Refuses at once what could not be discarded with `skipSequence`. Default false. */
  readonly skipSequence?: boolean;
}

export interface CarryOutOptions extends Omit<ReplayOptions, 'connection' | 'publisher' | 'stream' | 'store' | 'time'> {
  /**
   * Once `signal` is aborted: how long the broker may take for what was published, in milliseconds; then that is given up, and its
   * letters stay. Default: as long as it takes.
   */
  readonly abandonAfterMs?: number;
}

export class DeadLetters {
  readonly #parts: DeadLettersParts;
  readonly #turns = new OneAtATime();

  constructor(parts: DeadLettersParts) {
    this.#parts = parts;
  }

  /** Whether somebody who shares this has the letters alone, or waits for it: what is held then, the broker does not count. */
  get busy(): boolean {
    return this.#turns.busy;
  }

  /**
   * The dead letters that are in the queue now, oldest first, page by page; in memory is a page. Another reading at the same time
   * does not see what this one holds: where that matters, read within `exclusively`.
   * @throws UnavailableError when the queue does not exist, or broker or store become unavailable.
   */
  async *list(options: ListOptions = {}): AsyncGenerator<readonly DeadLetter[], void, void> {
    const { filter = {}, limit = Number.POSITIVE_INFINITY, signal } = options;
    let remaining = limit;
    // Where all match, no more is read than what is asked for.
    const most = isSelective(filter) || limit === Number.POSITIVE_INFINITY ? {} : { limit };
    for await (const page of this.#pages({ ...most, signal })) {
      const letters = page.filter((letter) => matches(letter, filter)).slice(0, remaining);
      if (letters.length > 0) yield letters;
      remaining -= letters.length;
      if (remaining === 0) return;
    }
  }

  /**
   * Every dead letter of this id (of the event, of the message, or the fingerprint), oldest first, each with how it stands with
   * its entity: an event may have been dead-lettered in several copies.
   * @throws UnavailableError as `list`.
   */
  find(id: string, { signal }: Pick<ReadOptions, 'signal'> = {}): Promise<readonly FoundLetter[]> {
    return withConnection(this.#parts.broker, (connection) => findDeadLetters(id, { ...this.#parts, connection, signal }));
  }

  /** The dead letters counted by what they have in common, the largest group first. @throws UnavailableError as `list`. */
  async group(by: Grouping, { filter = {}, signal, onProgress }: ProgressOptions = {}): Promise<readonly LetterGroup[]> {
    const groups = new LetterGroups(by);
    let read = 0;
    for await (const page of this.#pages({ signal })) {
      for (const letter of page) if (matches(letter, filter)) groups.add(letter);
      onProgress?.((read += page.length));
    }
    return groups.list();
  }

  /** The dead letters as NDJSON, oldest first; nothing is taken out. @throws UnavailableError as `list`. */
  async *export({ events = false, ...options }: ExportOptions = {}): AsyncGenerator<ExportedLetter, void, void> {
    const { decoding } = this.#parts;
    for await (const letters of this.list(options)) {
      for (const letter of letters) {
        yield { letter, line: events ? asEventLine(letter, decodeMessage(letter.message, decoding)) : asLetterLine(letter) };
      }
    }
  }

  /** Entities whose missing event has arrived, so that letters of theirs from these shards can be replayed. */
  ready(options: Pick<ReadyOptions, 'shards' | 'maxEntities' | 'signal'>): Promise<ReadyEntities> {
    return this.#alone((connection) => findReadyEntities({ ...this.#parts, connection, ...options }));
  }

  /**
   * What a replay of the letters that match would do; it changes nothing. What is dead-lettered later is no part of it.
   * @throws UnavailableError as `list`, or when somebody else is changing the dead letters; PermanentError when the source gives what
   * it was not asked for.
   */
  plan({ filter = {}, source = null, ...options }: PlanOptions = {}): Promise<ReplayPlan> {
    const { limits } = this.#parts.decoding;
    const reader = source === null ? {} : { source: (missing: Parameters<GapSource>[0]) => readMissing(source, missing, limits) };
    return this.#alone((connection) => planReplay({ ...this.#parts, connection, filter, ...options, ...reader }));
  }

  /**
   * Publishes the letters of a plan again, of each entity in the order of its sequences, and takes each out of the queue once its
   * copy is confirmed. It is in the audit trail before the first one goes. What the workers make of them, `outcome` says.
   * @throws UnavailableError when broker or store become unavailable, the exchange has no queue for a letter, or somebody else is changing
   * the dead letters: the rest stays where it is, and can be planned again.
   */
  replay(plan: ReplayPlan, { abandonAfterMs, ...options }: CarryOutOptions): Promise<ReplayReport> {
    const { broker } = this.#parts;
    return this.#alone((connection) =>
      broker.withPublisher(
        async (publisher) => {
          const abandon = () => void publisher.close(abandonAfterMs);
          if (abandonAfterMs !== undefined) options.signal?.addEventListener('abort', abandon, { once: true });
          try {
            return await replay(plan, { ...this.#parts, connection, publisher, ...options });
          } finally {
            options.signal?.removeEventListener('abort', abandon);
          }
        },
        abandonAfterMs === undefined ? undefined : 0,
      ),
    );
  }

  /**
   * Waits until the workers have processed what was replayed, and says what became of it. It ends without them when nothing more
   * was processed for `timeoutMs` (default 30,000): what is open then is `undecided`.
   * @throws UnavailableError as `replay`.
   */
  outcome(plan: ReplayPlan, report: ReplayReport, options: Pick<OutcomeOptions, 'timeoutMs' | 'signal'> = {}): Promise<ReplayOutcome> {
    return this.#alone((connection) => awaitOutcomes(plan, report, { ...this.#parts, connection, ...options }));
  }

  /**
   * Which letters a discard would take out; it changes nothing.
   * @throws ConfigError when a sequence that is to be skipped is not the next one of its entity; UnavailableError as `plan`.
   */
  planDiscard({ filter = {}, skipSequence = false, ...options }: PlanDiscardOptions = {}): Promise<Survey> {
    return this.#alone(async (connection) => {
      const survey = await surveyLetters({ ...this.#parts, connection, filter, ...options });
      if (skipSequence && !options.signal?.aborted) await assertSkippable(survey, this.#parts.store);
      return survey;
    });
  }

  /**
   * Takes letters out for good and returns how many went: a discarded event is still missing to its entity, unless `skipSequence`
   * lets the entity pass it. Who and why is in the audit trail before the first one goes.
   * @throws ConfigError when a sequence to skip is not the next one any more, and nothing has happened; UnavailableError as `replay`.
   */
  discard(survey: Survey, options: Omit<DiscardOptions, 'connection' | 'stream' | 'store' | 'time'>): Promise<number> {
    return this.#alone((connection) => discard(survey, { ...this.#parts, connection, ...options }));
  }

  /**
   * The dead letters for one reader or changer: while `use` runs, nobody else has them who takes the lock. What is called on the
   * letters that it is given goes without waiting for it again.
   * @throws UnavailableError when somebody else has them for longer than `patienceMs` (default 5,000), or the connection is lost.
   */
  exclusively<T>(use: (letters: DeadLetters) => Promise<T>, patienceMs = operatorPatienceMs): Promise<T> {
    const { broker, stream, isLocked, time } = this.#parts;
    if (isLocked) return use(this);
    return this.#turns.run(() =>
      withConnection(broker, (connection) => {
        const letters = new DeadLetters({ ...this.#parts, broker: onConnection(connection, broker), isLocked: true });
        return withOperatorLock(connection, stream, { patienceMs, time }, () => use(letters));
      }),
    );
  }

  /** Ends the connections; what is under way fails. */
  async close(): Promise<void> {
    const { broker, store, ownsStore } = this.#parts;
    await Promise.allSettled([broker.close(), ownsStore ? store.close() : undefined]);
  }

  #alone<T>(use: (connection: Connection) => Promise<T>): Promise<T> {
    return this.exclusively((letters) => withConnection(letters.#parts.broker, use));
  }

  async *#pages(options: { readonly limit?: number; readonly signal?: AbortSignal | undefined }): AsyncGenerator<readonly DeadLetter[]> {
    const { connection, lost, release } = await this.#parts.broker.lend();
    const reading = listDeadLetters({ ...this.#parts, connection, ...options });
    // Heard of once: every race with it would keep its page for as long as the connection lasts.
    let loss: { readonly error: unknown } | null = null;
    let giveUp: (error: unknown) => void = () => undefined;
    lost.catch((error: unknown) => {
      loss = { error };
      giveUp(error);
    });
    const unlessLost = <T>(ask: () => Promise<T>) =>
      new Promise<T>((resolve, reject) => {
        if (loss !== null) return reject(loss.error);
        giveUp = reject;
        ask().then(resolve, reject);
      });
    try {
      for (let step = await unlessLost(() => reading.next()); !step.done; step = await unlessLost(() => reading.next())) yield step.value;
    } finally {
      // What was held goes back, unless that cannot be waited for any more.
      await unlessLost(() => reading.return()).catch(() => undefined);
      release();
    }
  }
}

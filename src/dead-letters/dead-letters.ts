/**
 * The dead letters of one stream, for the commands, the console, AUTO_REPLAY and programs. Guarantees that all of them
 * decode as the stream's workers do; that a change, or the plan of one, excludes every other, in all processes;
 * and that no call hangs on a lost connection. Reading leaves the queue unchanged.
 *
 * The workers decide what becomes of a replayed letter, and the caller decides whether a plan is carried out. The queue may change
 * between plan and execution: letters that are no longer there are counted as left.
 */
import { type Config, connectionName, decodingOf } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { decodeMessage, type DecodeOptions } from '../events/decode.ts';
import { type GapSource, readMissing } from '../stores/event-store.ts';
import type { Log } from '../observability/log.ts';
import type { FirstSequence, ViolationStrategy } from '../ordering/facts.ts';
import { openStore } from '../stores/open-store.ts';
import type { Store } from '../stores/store.ts';
import { systemTime, type Time } from '../time.ts';
import {
  asEventLine,
  asLetterLine,
  type DeadLetter,
  type Grouping,
  isSelective,
  type LetterFilter,
  type LetterGroup,
  LetterGroups,
  matches,
} from './dead-letter.ts';
import { assertSkippable, discard, type DiscardOptions } from './discard.ts';
import {
  findDeadLetters,
  findReadyEntities,
  type FoundLetter,
  listDeadLetters,
  planReplay,
  type ReadyEntities,
  type ReadyOptions,
  type Survey,
  surveyLetters,
  type SurveyOptions,
} from './inspect.ts';
import {
  KeptBroker,
  type LetterBroker,
  OneAtATime,
  onConnection,
  operatorPatienceMs,
  unlessLost,
  type UseConnection,
  withConnection,
  withOperatorLock,
} from './letter-broker.ts';
import { awaitOutcomes, type OutcomeOptions, replay, type ReplayOptions, type ReplayOutcome, type ReplayReport } from './replay.ts';
import type { ReplayPlan } from './replay-plan.ts';

export interface DeadLettersOptions {
  /** As the stream's workers have it. Default: `loadConfig(process.env)`. */
  readonly config?: Config;
  /** The workers' store, which the caller closes. Default: the one that the configuration names, on separate connections. */
  readonly store?: Store;
  /** Logs lost connections. Default: none. */
  readonly log?: Log;
  /** Default: the system's clock. */
  readonly time?: Time;
}

const silence: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/**
 * The dead letters of a stream for a program. It connects at the first call; close it at the end.
 * @throws ConfigError when the configuration is not usable.
 */
export function createDeadLetters(options: DeadLettersOptions = {}): DeadLetters {
  const { config = loadConfig(process.env), store, log = silence, time = systemTime } = options;
  const names = { reading: connectionName('dead-letters', config), publishing: connectionName('replay', config) };
  return new DeadLetters({
    ...letterSettings(config),
    store: store ?? openStore(config, { role: 'dead-letters', log, time }),
    ownsStore: store === undefined,
    broker: new KeptBroker({ ...config.broker, names, log, time }),
    time,
  });
}

/** Settings that must equal those of the stream's workers. */
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
  readonly store: Pick<Store, 'findDeadLetters' | 'load' | 'lookUp' | 'commit' | 'operator' | 'streamState' | 'close'>;
  /** Whether `close` closes the store. Default false. */
  readonly ownsStore?: boolean;
  readonly broker: LetterBroker;
  readonly time: Time;
  /** Messages per page of a reading, the unit that is in memory. Default: that of readings. */
  readonly pageSize?: number | undefined;
  /** Whether the caller already holds the lock. Default false. */
  readonly isLocked?: boolean;
}

export interface ReadOptions {
  /** Default: all dead letters. */
  readonly filter?: LetterFilter;
  /** Ends the reading after the present page; the result is what was read until then. */
  readonly signal?: AbortSignal;
}

export interface ListOptions extends ReadOptions {
  /** Most letters to return, the oldest first. Default: all. */
  readonly limit?: number;
}

export interface ExportOptions extends ReadOptions {
  /** Only the events, as envelopes that can be corrected and published again. Default false: everything that is known. */
  readonly events?: boolean;
}

export interface ExportedLetter {
  readonly letter: DeadLetter;
  /** One line of NDJSON with its line end. Null: the body is not a JSON object, and so no event. */
  readonly line: string | null;
}

export interface ProgressOptions extends ReadOptions {
  /** How many letters were read so far, matched or not. */
  readonly onProgress?: (read: number) => void;
}

export interface PlanOptions extends ProgressOptions, Pick<SurveyOptions, 'only' | 'readyOnly' | 'concerns'> {
  /** The source from which missing events are fetched, so that more letters are replayable. Default: none. */
  readonly source?: GapSource | null;
}

export interface PlanDiscardOptions extends ProgressOptions {
  /** Refuses letters that could not be discarded with `skipSequence`. Default false. */
  readonly skipSequence?: boolean;
}

export interface CarryOutOptions extends Omit<ReplayOptions, 'connection' | 'publisher' | 'stream' | 'store' | 'time'> {
  /**
   * Once `signal` is aborted: how long to wait for the broker to confirm published letters, in milliseconds. The letters of
   * unconfirmed copies stay in the queue. Default: without limit.
   */
  readonly abandonAfterMs?: number;
}

export class DeadLetters {
  readonly #parts: DeadLettersParts;
  readonly #turns = new OneAtATime();

  constructor(parts: DeadLettersParts) {
    this.#parts = parts;
  }

  /** Whether an exclusive use of the letters is running or waiting: the broker does not count letters held by it. */
  get busy(): boolean {
    return this.#turns.busy;
  }

  /**
   * The dead letters that are in the queue now, oldest first, page by page, with one page in memory. A concurrent reading
   * does not see what this one holds: if that matters, read within `exclusively`.
   * @throws UnavailableError when the queue does not exist, or broker or store become unavailable.
   */
  async *list(options: ListOptions = {}): AsyncGenerator<readonly DeadLetter[], void, void> {
    const { filter = {}, limit = Number.POSITIVE_INFINITY, signal } = options;
    let remaining = limit;
    // If every letter matches, only as many as asked for are read.
    const most = isSelective(filter) || limit === Number.POSITIVE_INFINITY ? {} : { limit };
    for await (const page of this.#pages({ ...most, signal })) {
      const letters = page.filter((letter) => matches(letter, filter)).slice(0, remaining);
      if (letters.length > 0) yield letters;
      remaining -= letters.length;
      if (remaining === 0) return;
    }
  }

  /**
   * Every dead letter with this id (of the event, of the message, or the fingerprint), oldest first, each with its status: an event
   * may have been dead-lettered in several copies.
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

  /** The dead letters as NDJSON, oldest first; nothing is removed. @throws UnavailableError as `list`. */
  async *export({ events = false, ...options }: ExportOptions = {}): AsyncGenerator<ExportedLetter, void, void> {
    const { decoding } = this.#parts;
    for await (const letters of this.list(options)) {
      for (const letter of letters) {
        yield { letter, line: events ? asEventLine(letter, decodeMessage(letter.message, decoding)) : asLetterLine(letter) };
      }
    }
  }

  /** Entities whose missing event has arrived, so that their letters from these shards are replayable. */
  ready(options: Pick<ReadyOptions, 'shards' | 'maxEntities' | 'signal'>): Promise<ReadyEntities> {
    return this.#alone((connection) => findReadyEntities({ ...this.#parts, connection, ...options }));
  }

  /**
   * The plan of a replay of the matching letters; it changes nothing. Letters that arrive later are not part of it.
   * @throws UnavailableError as `list`, or when somebody else is changing the dead letters; PermanentError when the source returns
   * events that it was not asked for.
   */
  plan({ filter = {}, source = null, ...options }: PlanOptions = {}): Promise<ReplayPlan> {
    const { limits } = this.#parts.decoding;
    const reader = source === null ? {} : { source: (missing: Parameters<GapSource>[0]) => readMissing(source, missing, limits) };
    return this.#alone((connection) => planReplay({ ...this.#parts, connection, filter, ...options, ...reader }));
  }

  /**
   * Publishes the letters of a plan again, per entity in the order of its sequences, and removes each from the queue once its
   * copy is confirmed. The audit entry is written before the first one is published. `outcome` says what the workers made of them.
   * @throws UnavailableError when broker or store become unavailable, the exchange has no queue for a letter, or somebody else is changing
   * the dead letters: the rest stays where it is, and can be planned again.
   */
  replay(plan: ReplayPlan, { abandonAfterMs, ...options }: CarryOutOptions): Promise<ReplayReport> {
    const { broker } = this.#parts;
    return this.#alone((connection, lost) =>
      broker.withPublisher(
        async (publisher) => {
          const abandon = () => void publisher.close(abandonAfterMs);
          if (abandonAfterMs !== undefined) options.signal?.addEventListener('abort', abandon, { once: true });
          // The letters are back in the queue, and their entities would be held until the broker confirms.
          const giveUp = () => void publisher.close(0);
          lost.addEventListener('abort', giveUp);
          const signal = AbortSignal.any([lost, ...(options.signal === undefined ? [] : [options.signal])]);
          try {
            return await replay(plan, { ...this.#parts, connection, publisher, ...options, signal });
          } finally {
            options.signal?.removeEventListener('abort', abandon);
            lost.removeEventListener('abort', giveUp);
          }
        },
        abandonAfterMs === undefined ? undefined : 0,
      ),
    );
  }

  /**
   * Waits until the workers have processed the replayed letters, and returns the outcome. It gives up when nothing more
   * was processed for `timeoutMs` (default 30,000): entities that are open then are `undecided`.
   * @throws UnavailableError as `replay`.
   */
  outcome(plan: ReplayPlan, report: ReplayReport, options: Pick<OutcomeOptions, 'timeoutMs' | 'signal'> = {}): Promise<ReplayOutcome> {
    return this.#alone((connection) => awaitOutcomes(plan, report, { ...this.#parts, connection, ...options }));
  }

  /**
   * The letters that a discard would remove; it changes nothing.
   * @throws ConfigError when a sequence to skip is not the next one of its entity; UnavailableError as `plan`.
   */
  planDiscard({ filter = {}, skipSequence = false, ...options }: PlanDiscardOptions = {}): Promise<Survey> {
    return this.#alone(async (connection) => {
      const survey = await surveyLetters({ ...this.#parts, connection, filter, ...options });
      if (skipSequence && !options.signal?.aborted) await assertSkippable(survey, this.#parts.store);
      return survey;
    });
  }

  /**
   * Removes letters for good and returns how many: a discarded event is still missing for its entity, unless `skipSequence`
   * lets the entity pass it. The audit entry is written before the first one is removed.
   * @throws ConfigError when a sequence to skip is no longer the next one: nothing was removed; UnavailableError as `replay`.
   */
  discard(survey: Survey, options: Omit<DiscardOptions, 'connection' | 'stream' | 'store' | 'time'>): Promise<number> {
    return this.#alone((connection) => discard(survey, { ...this.#parts, connection, ...options }));
  }

  /**
   * Exclusive use of the dead letters: while `use` runs, no one else can take the lock. Calls on the letters that `use` is given do
   * not wait for the lock again.
   * @throws UnavailableError when somebody else holds the lock for longer than `patienceMs` (default 5,000), or the connection is lost;
   * ConfigError when a newer version of Inorder has laid out the store.
   */
  exclusively<T>(use: (letters: DeadLetters) => Promise<T>, patienceMs = operatorPatienceMs): Promise<T> {
    const { broker, stream, store, isLocked, time } = this.#parts;
    if (isLocked) return use(this);
    return this.#turns.run(() =>
      withConnection(broker, (connection, lost) => {
        const letters = new DeadLetters({ ...this.#parts, broker: onConnection(connection, lost, broker), isLocked: true });
        return withOperatorLock(connection, stream, { patienceMs, time }, async () => {
          // Refuses a newer layout.
          await store.streamState();
          return use(letters);
        });
      }),
    );
  }

  /** Ends the connections; running calls fail. */
  async close(): Promise<void> {
    const { broker, store, ownsStore } = this.#parts;
    await Promise.allSettled([broker.close(), ownsStore ? store.close() : undefined]);
  }

  #alone<T>(use: UseConnection<T>): Promise<T> {
    return this.exclusively((letters) => withConnection(letters.#parts.broker, use));
  }

  async *#pages(options: { readonly limit?: number; readonly signal?: AbortSignal | undefined }): AsyncGenerator<readonly DeadLetter[]> {
    const { connection, lost, release } = await this.#parts.broker.lend();
    const reading = listDeadLetters({ ...this.#parts, connection, ...options });
    const next = () => unlessLost(lost, () => reading.next());
    try {
      for (let step = await next(); !step.done; step = await next()) yield step.value;
    } finally {
      // The held messages are given back; of a lost connection the reading lets go, and nobody waits for it.
      const returned = reading.return().catch(() => undefined);
      await unlessLost(lost, () => returned).catch(() => undefined);
      release();
    }
  }
}

/**
 * The dead letters of the last reading of their queue, shared by all browsers. A reading holds the messages for a
 * moment and marks them as redelivered, so the queue is read only when somebody looks and its length has changed, and
 * only after a pause, which grows with the duration of the last reading.
 *
 * `SharedReading` does the same for what costs less: depths, workers, halts, parked entities.
 *
 * Bounded: all letters are counted, and the oldest are kept, with as many bodies as fit into the budget.
 */
import { type DeadLetter, type Grouping, groupings, type LetterGroup, LetterGroups } from '../dead-letters/dead-letter.ts';
import { EntityLetters } from '../dead-letters/inspect.ts';
import { summaryOf } from '../dead-letters/replay-plan.ts';
import { messageOf } from '../errors.ts';
import { isoNow, type Time } from '../time.ts';

/** A letter, without its body if that did not fit. */
export interface KeptLetter extends DeadLetter {
  readonly bodyIsKept: boolean;
  readonly bodyBytes: number;
}

export interface Catalogue {
  /** The number of the reading. */
  readonly revision: number;
  /** ISO 8601: when the reading ended. */
  readonly asOf: string;
  /** The number of letters, kept or not. */
  readonly total: number;
  /** Oldest first. */
  readonly letters: readonly KeptLetter[];
  /** Of all letters. */
  readonly groups: Readonly<Record<Grouping, readonly LetterGroup[]>>;
  /** Of all letters, by entity. */
  readonly entities: EntityLetters;
}

export interface CatalogueOptions {
  /** Reads the queue once, oldest first, excluding other readers and changes. */
  readonly read: (each: (letters: readonly DeadLetter[]) => void) => Promise<void>;
  readonly time: Time;
  readonly limits?: Partial<CatalogueLimits>;
}

export interface CatalogueLimits {
  readonly maxLetters: number;
  readonly maxBodyBytes: number;
  readonly minPauseMs: number;
}

const defaultLimits: CatalogueLimits = { maxLetters: 20_000, maxBodyBytes: 32 * 1_048_576, minPauseMs: 10_000 };
/** A larger body is read again on request. */
const largestKeptBody = 262_144;
/** The shortest pause between two readings. */
const soonestMs = 1_000;

export class LetterCatalogue {
  readonly #options: CatalogueOptions;
  readonly #limits: CatalogueLimits;
  #catalogue: Catalogue | null = null;
  #trouble: string | null = null;
  #isOutdated = true;
  #read: number | null = null;
  readonly #shared: SharedReading<void>;
  #settled: Promise<unknown> = Promise.resolve();

  constructor(options: CatalogueOptions) {
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#shared = new SharedReading({ time: options.time, minAgeMs: this.#limits.minPauseMs, read: () => this.#fill() });
  }

  /** Null before the first reading. */
  get catalogue(): Catalogue | null {
    return this.#catalogue;
  }

  /** The number of letters that the running reading has read; null if none is running. */
  get reading(): number | null {
    return this.#read;
  }

  /** Why the last reading failed, or null. */
  get trouble(): string | null {
    return this.#trouble;
  }

  /** Somebody looks: starts a reading if the queue's length has changed and the pause is over. */
  look(ready: number | null): void {
    if (this.#isOutdated || (ready !== null && ready !== this.#catalogue?.total)) this.#settled = this.#shared.get();
  }

  /** Marks the letters as outdated: the next look starts a reading, whatever the queue's length. */
  outdate(): void {
    this.#isOutdated = true;
    this.#shared.forget(soonestMs);
  }

  /** Settles when the running reading has ended. */
  async settled(): Promise<void> {
    await this.#settled;
  }

  async #fill(): Promise<void> {
    const filling = new Filling(this.#limits);
    this.#read = 0;
    // A mark during the reading still holds after it.
    this.#isOutdated = false;
    try {
      await this.#options.read((letters) => {
        for (const letter of letters) filling.add(letter);
        this.#read = filling.total;
      });
      this.#catalogue = filling.catalogue((this.#catalogue?.revision ?? 0) + 1, isoNow(this.#options.time));
      this.#trouble = null;
    } catch (error) {
      this.#isOutdated = true;
      this.#trouble = messageOf(error);
    }
    this.#read = null;
  }
}

class Filling {
  readonly #limits: CatalogueLimits;
  readonly #letters: KeptLetter[] = [];
  readonly #entities = new EntityLetters();
  readonly #groups = groupings.map((by) => [by, new LetterGroups(by)] as const);
  #bodyBytes = 0;
  total = 0;

  constructor(limits: CatalogueLimits) {
    this.#limits = limits;
  }

  add(letter: DeadLetter): void {
    this.total++;
    this.#entities.add(summaryOf(letter), true);
    for (const [, groups] of this.#groups) groups.add(letter);
    if (this.#letters.length < this.#limits.maxLetters) this.#letters.push(this.#keep(letter));
  }

  catalogue(revision: number, asOf: string): Catalogue {
    const groups = Object.fromEntries(this.#groups.map(([by, groups]) => [by, groups.list()])) as Catalogue['groups'];
    return { revision, asOf, total: this.total, letters: this.#letters, groups, entities: this.#entities };
  }

  #keep(letter: DeadLetter): KeptLetter {
    const bodyBytes = letter.message.body.byteLength;
    const bodyIsKept = bodyBytes <= largestKeptBody && this.#bodyBytes + bodyBytes <= this.#limits.maxBodyBytes;
    if (bodyIsKept) this.#bodyBytes += bodyBytes;
    // A copy, because the body may be a small slice of a large buffer.
    const body = bodyIsKept ? Uint8Array.from(letter.message.body) : new Uint8Array();
    return { ...letter, message: { ...letter.message, body }, bodyIsKept, bodyBytes };
  }
}

export interface SharedReadingOptions<T> {
  readonly read: () => Promise<T>;
  /** The pause between two readings, in milliseconds. */
  readonly minAgeMs: number;
  readonly time: Time;
}

export type Reading<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: Error };

/** The shortest pause as a multiple of the reading's duration. */
const pauseFactor = 10;

/**
 * An expensive reading for many browsers: done at most once per interval, once for all concurrent requests, and less often
 * the longer it takes. A failure is kept for the same time.
 */
export class SharedReading<T> {
  readonly #options: SharedReadingOptions<T>;
  #last: Reading<T> | null = null;
  #endedMs = Number.NEGATIVE_INFINITY;
  #nextMs = Number.NEGATIVE_INFINITY;
  #underWay: Promise<Reading<T>> | null = null;

  constructor(options: SharedReadingOptions<T>) {
    this.#options = options;
  }

  /** The last result, if it is recent enough; otherwise a new reading. */
  get(): Promise<Reading<T>> {
    if (this.#underWay !== null) return this.#underWay;
    if (this.#last !== null && this.#options.time.nowMs() < this.#nextMs) return Promise.resolve(this.#last);
    this.#underWay = this.#read();
    return this.#underWay;
  }

  /** Marks the result as outdated: the next request gets a new reading, at the earliest `pauseMs` after the last one. */
  forget(pauseMs = 0): void {
    this.#nextMs = Math.min(this.#nextMs, this.#endedMs + pauseMs);
  }

  async #read(): Promise<Reading<T>> {
    const { read, minAgeMs, time } = this.#options;
    const startedMs = time.nowMs();
    const reading: Reading<T> = await read().then(
      (value) => ({ ok: true, value }) as const,
      (error: unknown) => ({ ok: false, error: error instanceof Error ? error : new Error(messageOf(error)) }) as const,
    );
    this.#last = reading;
    this.#endedMs = time.nowMs();
    this.#nextMs = this.#endedMs + Math.max(minAgeMs, pauseFactor * (this.#endedMs - startedMs));
    this.#underWay = null;
    return reading;
  }
}

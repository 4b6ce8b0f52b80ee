/**
 * The dead letters as the last reading of their queue found them, for all browsers at once. Reading holds the messages for a
 * moment and marks them redelivered, so the queue is read when somebody looks and its length has changed, never sooner
 * than the pause after the last reading, which grows with the time that it took.
 *
 * Bounded: all letters are counted, and the oldest are kept, with as many of their bodies as fit the budget.
 */
import { type DeadLetter, type Grouping, groupings, type LetterGroup, LetterGroups } from '../dead-letters/dead-letter.ts';
import { EntityLetters } from '../dead-letters/inspect.ts';
import { summaryOf } from '../dead-letters/replay-plan.ts';
import { messageOf } from '../errors.ts';
import { isoNow, type Time } from '../time.ts';

/** A letter without its body where there was no room for it. */
export interface KeptLetter extends DeadLetter {
  readonly bodyIsKept: boolean;
  readonly bodyBytes: number;
}

export interface Catalogue {
  /** Counts the readings. */
  readonly revision: number;
  /** ISO 8601: when the reading ended. */
  readonly asOf: string;
  /** How many letters there are, kept or not. */
  readonly total: number;
  /** Oldest first. */
  readonly letters: readonly KeptLetter[];
  /** Of all letters. */
  readonly groups: Readonly<Record<Grouping, readonly LetterGroup[]>>;
  /** Of all letters, by entity. */
  readonly entities: EntityLetters;
}

export interface CatalogueOptions {
  /** Reads the queue once, oldest first, while nobody else reads or changes it. */
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
/** A body that is larger than that is read again when somebody asks for it. */
const largestKeptBody = 262_144;
const pauseFactor = 10;
/** Between two readings, even when somebody asks for one. */
const soonestMs = 1_000;

export class LetterCatalogue {
  readonly #options: CatalogueOptions;
  readonly #limits: CatalogueLimits;
  #catalogue: Catalogue | null = null;
  #trouble: string | null = null;
  #underWay: { read: number; ended: Promise<void> } | null = null;
  #endedMs = Number.NEGATIVE_INFINITY;
  #nextMs = Number.NEGATIVE_INFINITY;
  #isOutdated = true;

  constructor(options: CatalogueOptions) {
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
  }

  /** Null before the first reading. */
  get catalogue(): Catalogue | null {
    return this.#catalogue;
  }

  /** How many letters the reading that is under way has read; null when there is none. */
  get reading(): number | null {
    return this.#underWay?.read ?? null;
  }

  /** Why the last reading failed, or null. */
  get trouble(): string | null {
    return this.#trouble;
  }

  /** Somebody is looking: reads if the queue's length says that something has changed, and it is time. */
  look(ready: number | null): void {
    const changed = this.#isOutdated || (ready !== null && ready !== this.#catalogue?.total);
    if (changed && this.#underWay === null && this.#options.time.nowMs() >= this.#nextMs) this.#begin();
  }

  /** It is known to be out of date: reads when somebody looks next, whatever the length of the queue says. */
  outdate(): void {
    this.#isOutdated = true;
    this.#nextMs = Math.min(this.#nextMs, this.#endedMs + soonestMs);
  }

  /** Settles when the reading that is under way has ended. */
  async settled(): Promise<void> {
    await this.#underWay?.ended;
  }

  #begin(): void {
    const underWay = { read: 0, ended: Promise.resolve() };
    this.#underWay = underWay;
    underWay.ended = this.#read();
  }

  async #read(): Promise<void> {
    const startedMs = this.#options.time.nowMs();
    try {
      await this.#fill();
      this.#trouble = null;
    } catch (error) {
      this.#isOutdated = true;
      this.#trouble = messageOf(error);
    }
    this.#endedMs = this.#options.time.nowMs();
    this.#nextMs = this.#endedMs + Math.max(this.#limits.minPauseMs, pauseFactor * (this.#endedMs - startedMs));
    this.#underWay = null;
  }

  async #fill(): Promise<void> {
    const filling = new Filling(this.#limits);
    // What is marked while it reads is out of date after it as well.
    this.#isOutdated = false;
    await this.#options.read((letters) => {
      for (const letter of letters) filling.add(letter);
      if (this.#underWay !== null) this.#underWay.read = filling.total;
    });
    this.#catalogue = filling.catalogue((this.#catalogue?.revision ?? 0) + 1, isoNow(this.#options.time));
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
    // A copy: the bytes as they came may be a small part of a large buffer.
    const body = bodyIsKept ? Uint8Array.from(letter.message.body) : new Uint8Array();
    return { ...letter, message: { ...letter.message, body }, bodyIsKept, bodyBytes };
  }
}

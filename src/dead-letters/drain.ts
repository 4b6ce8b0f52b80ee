/**
 * Takes letters out of the queue in another order than the queue's: each list of letters from its first to its last, and the
 * lists independently of each other. Copies of a message must be in one list. A letter that is met too early is kept until its
 * turn, up to a limit; beyond it, and when a reading ends before their turn, letters stay in the queue for the next reading.
 */
import type { ConsumeMessage } from 'amqplib';
import { UnavailableError } from '../errors.ts';
import { messageFingerprint } from '../events/identity.ts';
import { toRawMessage } from '../rabbitmq/channels.ts';
import { type Connection, type QueuePage, type ReadingEnd, type ReadingOptions, readQueue } from './queue-reading.ts';
import type { LetterSummary } from './replay-plan.ts';

/** A letter whose turn it is. */
export interface TakenLetter {
  readonly letter: LetterSummary;
  readonly message: ConsumeMessage;
  /** Whether it can still leave the queue in this reading. */
  readonly isOpen: boolean;
  /** Ends its turn and removes it. If the reading is lost, it is back in the queue and is removed when it is met again. */
  remove(): void;
  /** Ends its turn and leaves it in the queue. */
  leave(): void;
}

/** Limit on the bodies of letters that wait for their turn, in bytes. */
const maxWaitingBytes = 64 * 1_048_576;

interface List {
  readonly letters: readonly LetterSummary[];
  next: number;
}

interface Wanted {
  readonly list: List;
  /** Copies that were not met yet. */
  count: number;
}

interface Waiting {
  readonly message: ConsumeMessage;
  readonly page: QueuePage;
}

export class Drain {
  #lists: readonly (readonly LetterSummary[])[];
  /** By fingerprint: copies of a message share it, and their list. */
  readonly #wanted = new Map<string, Wanted>();
  readonly #waiting = new Map<string, Waiting[]>();
  /** Letters of this reading's lists whose turn is over. */
  readonly #over = new Set<LetterSummary>();
  /** How many copies to remove as soon as they are met, by fingerprint. */
  readonly #owed = new Map<string, number>();
  #waitingBytes = 0;
  #remaining = 0;

  constructor(lists: Iterable<readonly LetterSummary[]>) {
    this.#lists = [...lists];
    this.#remaining = this.#lists.reduce((sum, letters) => sum + letters.length, 0);
    this.#want();
  }

  /** The number of letters whose turn is not over, or that are still to be removed when they are met. */
  get remaining(): number {
    return this.#remaining;
  }

  /** Reads the queue once and hands over the letters in their turn, page by page, until none remain or `signal` is aborted. */
  async readOnce(
    connection: Connection,
    where: ReadingOptions,
    use: (taken: readonly TakenLetter[]) => Promise<void> | void,
    signal?: AbortSignal,
  ): Promise<ReadingEnd> {
    const reading = readQueue(connection, where);
    try {
      for (let step = await reading.next(); ; step = await reading.next()) {
        if (step.done) return step.value;
        const page = step.value;
        await use(page.messages.flatMap((message) => this.meet(messageFingerprint(toRawMessage(message)), message, page)));
        if (this.remaining === 0 || signal?.aborted) return 'complete';
      }
    } finally {
      await reading.return('complete');
      this.endReading();
    }
  }

  /** Takes in a message; returns the letters whose turn it is now, in order. */
  meet(fingerprint: string, message: ConsumeMessage, page: QueuePage): readonly TakenLetter[] {
    const wanted = this.#wanted.get(fingerprint);
    if (this.#settleOwed(fingerprint, message, page) || wanted === undefined || wanted.count === 0) return [];
    const { list } = wanted;
    const first = list.letters[list.next];
    if (first?.fingerprint !== fingerprint && this.#waitingBytes + message.content.length > maxWaitingBytes) return [];
    this.#keep(fingerprint, { message, page });
    wanted.count--;
    const taken: TakenLetter[] = [];
    for (let letter = first; letter !== undefined; letter = list.letters[list.next]) {
      const met = this.#release(letter.fingerprint);
      if (met === null) break;
      taken.push(this.#taken(letter, met));
      list.next++;
    }
    return taken;
  }

  /** The reading has ended: letters that waited, or did not finish their turn, are back in the queue. */
  endReading(): void {
    this.#waiting.clear();
    this.#waitingBytes = 0;
    if (this.#over.size > 0) {
      const left = this.#lists.map((letters) => letters.filter((letter) => !this.#over.has(letter)));
      this.#lists = left.filter((letters) => letters.length > 0);
    }
    this.#over.clear();
    this.#wanted.clear();
    this.#want();
  }

  #want(): void {
    for (const letters of this.#lists) {
      const list = { letters, next: 0 };
      for (const { fingerprint } of letters) {
        const wanted = this.#wanted.get(fingerprint);
        if (wanted === undefined) this.#wanted.set(fingerprint, { list, count: 1 });
        else wanted.count++;
      }
    }
  }

  #taken(letter: LetterSummary, { message, page }: Waiting): TakenLetter {
    const end = () => {
      this.#over.add(letter);
      this.#remaining--;
    };
    return {
      letter,
      message,
      get isOpen() {
        return page.isOpen;
      },
      leave: end,
      remove: () => {
        end();
        if (removed(message, page)) return;
        this.#owed.set(letter.fingerprint, (this.#owed.get(letter.fingerprint) ?? 0) + 1);
        this.#remaining++;
      },
    };
  }

  #settleOwed(fingerprint: string, message: ConsumeMessage, page: QueuePage): boolean {
    const owed = this.#owed.get(fingerprint) ?? 0;
    if (owed === 0) return false;
    if (!removed(message, page)) return true;
    this.#owed.set(fingerprint, owed - 1);
    this.#remaining--;
    return true;
  }

  #keep(fingerprint: string, waiting: Waiting): void {
    const copies = this.#waiting.get(fingerprint);
    if (copies === undefined) this.#waiting.set(fingerprint, [waiting]);
    else copies.push(waiting);
    this.#waitingBytes += waiting.message.content.length;
  }

  #release(fingerprint: string): Waiting | null {
    const copies = this.#waiting.get(fingerprint);
    const first = copies?.shift() ?? null;
    if (copies?.length === 0) this.#waiting.delete(fingerprint);
    this.#waitingBytes -= first?.message.content.length ?? 0;
    return first;
  }
}

/** False when the reading is lost. */
function removed(message: ConsumeMessage, page: QueuePage): boolean {
  try {
    page.remove(message);
    return true;
  } catch (error) {
    if (error instanceof UnavailableError) return false;
    throw error;
  }
}

/** Lists of one letter each, for letters that need no order; the copies of a message together. */
export function copiesOf(letters: readonly LetterSummary[]): readonly (readonly LetterSummary[])[] {
  const lists = new Map<string, LetterSummary[]>();
  for (const letter of letters) {
    const list = lists.get(letter.fingerprint);
    if (list === undefined) lists.set(letter.fingerprint, [letter]);
    else list.push(letter);
  }
  return [...lists.values()];
}

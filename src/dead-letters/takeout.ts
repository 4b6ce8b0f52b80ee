/**
 * Takes letters out of the queue in an order that is not the queue's: each list of letters from its first to its last,
 * and of different lists whatever comes first. Copies of a message have to be in one list. What is met too early is kept until its turn, up to a bound; what is
 * beyond it stays in the queue for another reading.
 */
import type { ConsumeMessage } from 'amqplib';
import type { QueuePage } from './queue-reading.ts';
import type { LetterSummary } from './replay-plan.ts';

/** A letter whose turn it is. */
export interface TakenLetter {
  readonly letter: LetterSummary;
  readonly message: ConsumeMessage;
  /** Out of the queue. @throws UnavailableError when the reading is lost: then it is in the queue again. */
  remove(): void;
}

/** Bytes of bodies that wait for their turn. */
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

export class Takeout {
  /** By fingerprint, which copies of a message share, and with it their list. */
  readonly #wanted = new Map<string, Wanted>();
  readonly #waiting = new Map<string, Waiting[]>();
  readonly #maxWaitingBytes: number;
  #waitingBytes = 0;
  #remaining = 0;

  constructor(lists: Iterable<readonly LetterSummary[]>, options: { readonly maxWaitingBytes?: number } = {}) {
    this.#maxWaitingBytes = options.maxWaitingBytes ?? maxWaitingBytes;
    for (const letters of lists) {
      const list = { letters, next: 0 };
      this.#remaining += letters.length;
      for (const { fingerprint } of letters) {
        const wanted = this.#wanted.get(fingerprint);
        if (wanted === undefined) this.#wanted.set(fingerprint, { list, count: 1 });
        else wanted.count++;
      }
    }
  }

  /** Letters that were not met yet. */
  get remaining(): number {
    return this.#remaining;
  }

  /** Meets a message; returns what has its turn now, in order. */
  meet(fingerprint: string, message: ConsumeMessage, page: QueuePage): readonly TakenLetter[] {
    const wanted = this.#wanted.get(fingerprint);
    if (wanted === undefined || wanted.count === 0) return [];
    const { list } = wanted;
    const first = list.letters[list.next];
    if (first?.fingerprint !== fingerprint && this.#waitingBytes + message.content.length > this.#maxWaitingBytes) return [];
    this.#keep(fingerprint, { message, page });
    wanted.count--;
    const taken: TakenLetter[] = [];
    for (let letter = first; letter !== undefined; letter = list.letters[list.next]) {
      const met = this.#release(letter.fingerprint);
      if (met === null) break;
      taken.push({ letter, message: met.message, remove: () => met.page.remove(met.message) });
      list.next++;
      this.#remaining--;
    }
    return taken;
  }

  /** The reading has ended, and what waited is in the queue again. */
  endReading(): void {
    for (const [fingerprint, copies] of this.#waiting) {
      const wanted = this.#wanted.get(fingerprint);
      if (wanted !== undefined) wanted.count += copies.length;
    }
    this.#waiting.clear();
    this.#waitingBytes = 0;
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

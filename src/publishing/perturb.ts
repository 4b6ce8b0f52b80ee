/**
 * Perturbs an ordered stream as a bad network would: shuffled, partly repeated, partly lost. Guarantees
 * that an element, and its repetition, arrives at most `window` places from its own (counted among first
 * arrivals); that the same seed and source give the same result; and that memory holds about
 * `window` elements, however long the source.
 *
 * Each element draws a random key from the `window + 1` places that begin at its own, and elements leave in the
 * order of keys. So an element can only be overtaken by those within the window behind it. A repetition draws its key from
 * the rest of these places after the first arrival.
 */
import { MinHeap } from '../ordering/heap.ts';
import { seededRandom } from './seeded-random.ts';

export interface PerturbOptions {
  /** How many places an element may move, either way: a whole number from 0 to 1,000,000. 0 keeps the order. */
  readonly window: number;
  /** Probability, 0 to 1, that an element arrives a second time. */
  readonly duplicate: number;
  /** Probability, 0 to 1, that an element never arrives. */
  readonly drop: number;
  /** A whole number from 0 to 2^32 - 1. */
  readonly seed: number;
}

/** Keys are whole numbers, so that no rounding can break the limit. */
const keysPerPlace = 2 ** 20;

interface Waiting<T> {
  readonly key: number;
  readonly element: T;
}

export async function* perturb<T>(source: AsyncIterable<T>, options: PerturbOptions): AsyncGenerator<T, void> {
  const random = seededRandom(options.seed);
  const waiting = new MinHeap<Waiting<T>>((item) => item.key);
  let place = 0;
  for await (const element of source) {
    // Every element draws the same numbers, so that changing one option does not change the effects of the others.
    const [lost, where, repeated, whereAgain] = [random(), random(), random(), random()];
    const first = place * keysPerPlace;
    const end = first + (options.window + 1) * keysPerPlace;
    place++;
    if (lost >= options.drop) {
      const key = first + Math.floor(where * (end - first));
      waiting.push({ key, element });
      if (repeated < options.duplicate) waiting.push({ key: key + Math.floor(whereAgain * (end - key)), element });
    }
    // Later elements draw keys that are not below this.
    yield* takeBelow(waiting, place * keysPerPlace);
  }
  yield* takeBelow(waiting, Number.POSITIVE_INFINITY);
}

function* takeBelow<T>(waiting: MinHeap<Waiting<T>>, key: number): Generator<T, void> {
  for (let next = waiting.peek(); next !== undefined && next.key < key; next = waiting.peek()) {
    waiting.pop();
    yield next.element;
  }
}

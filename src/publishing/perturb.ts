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

/**
 * Pseudo-random numbers that are the same for the same seed on every machine: Chris Doty-Humphrey's sfc32
 * (from PractRand), 128 bits of state with a period of at least 2^32. For shuffling, never for secrets.
 * A generator of numbers in [0, 1) with 32 random bits each. `seed` is a whole number from 0 to 2^32 - 1.
 */
export function seededRandom(seed: number): () => number {
  let a = 0;
  let b = seed | 0;
  let c = 0;
  let counter = 1;
  const next = () => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  };
  // The first numbers of similar seeds are similar; the author of the generator discards twelve.
  for (let round = 0; round < 12; round++) next();
  return next;
}

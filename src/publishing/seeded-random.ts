/**
 * Pseudo-random numbers that are the same for the same seed on every machine: Chris Doty-Humphrey's sfc32
 * (from PractRand), 128 bits of state with a period of at least 2^32. For shuffling, never for secrets.
 */

/** A generator of numbers in [0, 1) with 32 random bits each. `seed` is a whole number from 0 to 2^32 - 1. */
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

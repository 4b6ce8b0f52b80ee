/** How much a worker does per second, from its running totals at two moments some seconds apart. Pure. */

/**
 * @typedef {{ shard: number, totals: import('./answers.js').Totals | null }} Counted
 * @typedef {{ atMs: number, worker: string | null, ended: number }} Sample
 */

const windowMs = 5_000;

/** @param {import('./answers.js').Totals} totals */
export function ended({ applied, duplicate, skipped, dead_lettered }) {
  return applied + duplicate + skipped + dead_lettered;
}

export class Rates {
  /** By shard, the oldest sample first. @type {Map<number, Sample[]>} */
  #samples = new Map();

  /** @param {number | null} atMs the server's clock @param {readonly import('./answers.js').Shard[]} shards */
  note(atMs, shards) {
    if (atMs === null) return;
    for (const { shard, worker, totals } of shards) {
      if (totals === null) {
        this.#samples.delete(shard);
        continue;
      }
      const sample = { atMs, worker, ended: ended(totals) };
      const samples = this.#samples.get(shard) ?? [];
      const last = samples.at(-1);
      if (last !== undefined && last.atMs === atMs) continue;
      // Another worker counts from its own beginning, and so does one that was started again.
      const goesOn = last !== undefined && last.worker === worker && last.ended <= sample.ended && last.atMs < atMs;
      const kept = goesOn ? samples.filter((one) => atMs - one.atMs <= windowMs) : [];
      this.#samples.set(shard, [...(goesOn && kept.length === 0 && last !== undefined ? [last] : kept), sample]);
    }
  }

  /** Events that ended per second; null when there is nothing to tell it from. @param {number} shard @returns {number | null} */
  of(shard) {
    const samples = this.#samples.get(shard) ?? [];
    const [first] = samples;
    const last = samples.at(-1);
    if (first === undefined || last === undefined || first === last) return null;
    return ((last.ended - first.ended) * 1_000) / (last.atMs - first.atMs);
  }

  /** @param {readonly { shard: number }[]} shards @returns {number | null} */
  total(shards) {
    const known = shards.map(({ shard }) => this.of(shard)).filter((value) => value !== null);
    return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0);
  }
}

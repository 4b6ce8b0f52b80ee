/**
 * Sequences at or below the version that were passed over and may still arrive. Immutable and bounded: at
 * most `maxIntervals` intervals are kept; the lowest one beyond that becomes the `floor`, at or below which
 * nobody can tell any more whether a sequence was applied or missed.
 *
 * They also carry how often an operator has set the version: what was known of an entity before the last time is out of date,
 * even if the version is the same.
 *
 * Text form, as stored with the version: `3-5,8`, with a floor `f2;3-5,8`, once resynced `r1;f2;3-5,8`; the empty string
 * for none.
 */

export const maxIntervals = 64;

/** Below every sequence. */
const noFloor = -1;

type Interval = readonly [first: number, last: number];

export class Holes {
  static readonly none = new Holes([], noFloor, 0);

  readonly #intervals: readonly Interval[];
  /** At or below it, only the store's memory can tell a duplicate from a late event. -1 when there is none. */
  readonly floor: number;
  /** How often the version was set by an operator. */
  readonly resyncs: number;
  #text: string | null = null;

  private constructor(intervals: readonly Interval[], floor: number, resyncs: number) {
    const forgotten = intervals.length > maxIntervals ? intervals[0] : undefined;
    this.#intervals = forgotten === undefined ? intervals : intervals.slice(1);
    this.floor = forgotten === undefined ? floor : forgotten[1];
    this.resyncs = resyncs;
  }

  static parse(text: string): Holes {
    if (text === '') return Holes.none;
    const [, resyncs = '0', floor = noFloor, rest = ''] = /^(?:r(\d+);)?(?:f(\d+);)?(.*)$/.exec(text) ?? [];
    const intervals = rest
      .split(',')
      .filter((part) => part !== '')
      .map((part): Interval => {
        const [first, last] = part.split('-', 2);
        return [Number(first), Number(last ?? first)];
      });
    return new Holes(intervals, Number(floor), Number(resyncs));
  }

  /** Everything at or below `floor` happened before this stream was adopted, which counts from 1. */
  below(floor: number): Holes {
    return new Holes([], floor > 0 ? floor : noFloor, this.resyncs);
  }

  has(sequence: number): boolean {
    return this.#intervals.some(([first, last]) => first <= sequence && sequence <= last);
  }

  /** Adds `first..last`, which lie above every hole there is. */
  add(first: number, last: number): Holes {
    if (last < first) return this;
    const intervals = [...this.#intervals];
    const top = intervals.at(-1);
    if (top !== undefined && top[1] === first - 1) intervals[intervals.length - 1] = [top[0], last];
    else intervals.push([first, last]);
    return new Holes(intervals, this.floor, this.resyncs);
  }

  /** The version is set from `version` to `to`: what it passes that way may still arrive, and nothing above it is known any more. */
  resynced(version: number, to: number): Holes {
    const passed = this.add(version + 1, to);
    const intervals = passed.#intervals.flatMap(([first, last]): Interval[] => (first > to ? [] : [[first, Math.min(last, to)]]));
    return new Holes(intervals, to > 0 ? Math.min(passed.floor, to) : noFloor, this.resyncs + 1);
  }

  /** The same without `sequence`, which has now arrived. */
  close(sequence: number): Holes {
    const intervals: Interval[] = [];
    for (const interval of this.#intervals) {
      const [first, last] = interval;
      if (sequence < first || sequence > last) {
        intervals.push(interval);
        continue;
      }
      if (first < sequence) intervals.push([first, sequence - 1]);
      if (sequence < last) intervals.push([sequence + 1, last]);
    }
    return new Holes(intervals, this.floor, this.resyncs);
  }

  toString(): string {
    this.#text ??=
      (this.resyncs > 0 ? `r${this.resyncs};` : '') +
      (this.floor > noFloor ? `f${this.floor};` : '') +
      this.#intervals.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(',');
    return this.#text;
  }
}

/**
 * Sequences at or below the version that were passed over and may still arrive. Immutable and bounded: at
 * most `maxIntervals` intervals are kept; the lowest one beyond that becomes the `floor`, at or below which
 * nobody can tell any more whether a sequence was applied or missed.
 *
 * Text form, as stored with the version: `3-5,8` and with a floor `f2;3-5,8`; the empty string for none.
 */

export const maxIntervals = 64;

type Interval = readonly [first: number, last: number];

export class Holes {
  static readonly none = new Holes([], 0);

  readonly #intervals: readonly Interval[];
  /** At or below it, only the store's memory can tell a duplicate from a late event. 0 when there is none. */
  readonly floor: number;
  #text: string | null = null;

  private constructor(intervals: readonly Interval[], floor: number) {
    this.#intervals = intervals;
    this.floor = floor;
  }

  static parse(text: string): Holes {
    if (text === '') return Holes.none;
    const [head, tail] = text.startsWith('f') ? text.slice(1).split(';', 2) : ['0', text];
    const intervals = (tail ?? '')
      .split(',')
      .filter((part) => part !== '')
      .map((part): Interval => {
        const [first, last] = part.split('-', 2);
        return [Number(first), Number(last ?? first)];
      });
    return new Holes(intervals, Number(head));
  }

  /** Everything at or below `floor` happened before this stream was adopted. */
  static below(floor: number): Holes {
    return new Holes([], floor);
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
    const forgotten = intervals.length > maxIntervals ? intervals.shift() : undefined;
    return new Holes(intervals, forgotten === undefined ? this.floor : forgotten[1]);
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
    // Splitting an interval may cross the bound: then the lowest is forgotten, as when one is added.
    const forgotten = intervals.length > maxIntervals ? intervals.shift() : undefined;
    return new Holes(intervals, forgotten === undefined ? this.floor : forgotten[1]);
  }

  toString(): string {
    this.#text ??=
      (this.floor > 0 ? `f${this.floor};` : '') +
      this.#intervals.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(',');
    return this.#text;
  }
}

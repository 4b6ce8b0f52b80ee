/**
 * Label values that come from messages. Whoever can publish can invent types without end, and each new value
 * is a time series for ever: the first hundred get their own, everything after them is `other`.
 */

export const maxLabelValues = 100;
/** A longer text is not a type that somebody chose for a label. */
const maxLabelLength = 128;
const other = 'other';

/** Makes one child per label value, once, and hands it out from then on. */
export class BoundedChildren<Child> {
  readonly #make: (value: string) => Child;
  readonly #children = new Map<string, Child>();
  #other: Child | null = null;

  constructor(make: (value: string) => Child) {
    this.#make = make;
  }

  get(value: string): Child {
    const known = this.#children.get(value);
    if (known !== undefined) return known;
    if (this.#children.size >= maxLabelValues || value.length > maxLabelLength) {
      return (this.#other ??= this.#make(other));
    }
    const child = this.#make(value);
    this.#children.set(value, child);
    return child;
  }

  /** Every child that was made. */
  *all(): Iterable<Child> {
    yield* this.#children.values();
    if (this.#other !== null) yield this.#other;
  }
}

/**
 * Visits every state that a small world can come into, once, the nearest first: so the first breach that is met has the shortest way
 * to it. Judged in each state is what led there (small-world.ts), and what is at rest; and that from each state all comes to rest, with
 * everything applied, where nothing goes wrong any more.
 */
import type { Core } from './opened-core.ts';
import { type Scope, SmallWorld } from './small-world.ts';

export interface Exploration {
  readonly states: number;
  readonly transitions: number;
  /** Of the state that is farthest from the beginning. */
  readonly depth: number;
  /** From the state that is farthest from rest, where nothing goes wrong any more. */
  readonly stepsToRest: number;
  readonly breach: { readonly symptom: string; readonly trace: readonly string[] } | null;
}

class Explorer {
  readonly #begin: SmallWorld;
  readonly #mostStates: number;
  readonly #visited = new Visited();
  /** Of each state the one from which it was first reached, and which of that one's actions led there. */
  readonly #parents: number[] = [];
  readonly #byAction: number[] = [];
  /** Of each state the one that follows where nothing goes wrong; -1 at rest. */
  readonly #calmNext: number[] = [];
  #frontier: SmallWorld[] = [];
  #transitions = 0;

  constructor(begin: SmallWorld, mostStates: number) {
    this.#begin = begin;
    this.#mostStates = mostStates;
    this.#visit(begin, -1, 0);
  }

  run(): Exploration {
    for (let id = 0; this.#frontier.length > 0; ) {
      // Taken from its end, so that a world that was expanded can be collected.
      const level = this.#frontier.reverse();
      this.#frontier = [];
      if (id > this.#mostStates) return this.#ended(null, 0);
      for (let world = level.pop(); world !== undefined; world = level.pop()) {
        const breach = this.#expand(world, id++);
        if (breach !== null) return this.#ended(breach, 0);
      }
    }
    return this.#comesToRest();
  }

  #expand(world: SmallWorld, id: number): Exploration['breach'] {
    const actions = world.actions();
    const [first] = actions;
    this.#calmNext.push(-1);
    try {
      if (first?.fault !== undefined || first === undefined || first.kind === 'a replay is planned') world.judgeRest();
    } catch (error) {
      return { symptom: (error as Error).message, trace: this.#traceTo(id) };
    }
    for (const [index, action] of actions.entries()) {
      this.#transitions++;
      try {
        const next = this.#visit(world.after(action), id, index);
        if (index === 0 && action.fault === undefined) this.#calmNext[id] = next;
      } catch (error) {
        return { symptom: (error as Error).message, trace: [...this.#traceTo(id), world.describe(action)] };
      }
    }
    return null;
  }

  #visit(world: SmallWorld, from: number, action: number): number {
    const states = this.#visited.size;
    const id = this.#visited.add(world.text());
    if (id < states) return id;
    this.#parents.push(from);
    this.#byAction.push(action);
    this.#frontier.push(world);
    return id;
  }

  /** Follows from each state the one way on which nothing goes wrong. */
  #comesToRest(): Exploration {
    const [unknown, onTheWay] = [-1, -2];
    const steps = new Int32Array(this.#visited.size).fill(unknown);
    let most = 0;
    for (let start = 0; start < steps.length; start++) {
      const way: number[] = [];
      let at = start;
      while (steps[at] === unknown && this.#calmNext[at]! !== -1) {
        steps[at] = onTheWay;
        way.push(at);
        at = this.#calmNext[at]!;
      }
      if (steps[at] === onTheWay) return this.#ended({ symptom: 'it never comes to rest', trace: this.#traceTo(start, way.length) }, 0);
      let left = Math.max(0, steps[at]!);
      steps[at] = left;
      for (const passed of way.reverse()) steps[passed] = ++left;
      most = Math.max(most, left);
    }
    return this.#ended(null, most);
  }

  /** With so many steps more in which nothing goes wrong. */
  #traceTo(id: number, calmSteps = 0): string[] {
    const actions: number[] = [];
    for (let at = id; at > 0; at = this.#parents[at]!) actions.unshift(this.#byAction[at]!);
    let world = this.#begin;
    const trace: string[] = [];
    for (let step = 0; step < actions.length + calmSteps; step++) {
      const action = world.actions()[actions[step] ?? 0]!;
      trace.push(world.describe(action));
      world = world.after(action);
    }
    return trace;
  }

  #ended(breach: Exploration['breach'], stepsToRest: number): Exploration {
    let depth = 0;
    for (let at = this.#visited.size - 1; at > 0; at = this.#parents[at]!) depth++;
    return { states: this.#visited.size, transitions: this.#transitions, depth, stepsToRest, breach };
  }
}

/**
 * Numbers states in the order of their arrival, by hashes of 64 bits: of a hundred million states two are taken for one with a chance of
 * one in 3,000.
 */
class Visited {
  readonly #low: number[] = [];
  readonly #high: number[] = [];
  /** Open addressing: an id lies in the first free place from that of its hash on; -1 is free. */
  #places = new Int32Array(4_096).fill(-1);

  get size(): number {
    return this.#low.length;
  }

  add(text: string): number {
    let [low, high] = [0x811c9dc5 | 0, 0x9747b28c | 0];
    for (let at = 0; at < text.length; at++) {
      const code = text.charCodeAt(at);
      low = Math.imul(low ^ code, 0x01000193);
      high = Math.imul(high ^ code, 0x5bd1e995);
      high ^= high >>> 15;
    }
    low ^= high >>> 13;
    const id = this.#find(low, high);
    if (id >= 0) return id;
    this.#low.push(low);
    this.#high.push(high);
    if (this.size * 2 > this.#places.length) this.#grow();
    else this.#places[-1 - id] = this.size - 1;
    return this.size - 1;
  }

  /** The id of the state with this hash; where there is none, -1 - p: p is the free place in which it belongs. */
  #find(low: number, high: number): number {
    const mask = this.#places.length - 1;
    for (let place = low & mask; ; place = (place + 1) & mask) {
      const id = this.#places[place]!;
      if (id === -1) return -1 - place;
      if (this.#low[id] === low && this.#high[id] === high) return id;
    }
  }

  #grow(): void {
    this.#places = new Int32Array(this.#places.length * 2).fill(-1);
    for (let id = 0; id < this.size; id++) this.#places[-1 - this.#find(this.#low[id]!, this.#high[id]!)] = id;
  }
}

/** @param mostStates With more of them it ends without a breach: a world with a planted defect may have no end. */
export function explore(core: Core, scope: Scope, mostStates = Number.POSITIVE_INFINITY): Exploration {
  return new Explorer(SmallWorld.begin(core, scope), mostStates).run();
}

/** As it is printed. */
export function summaryOf({ name }: Scope, { states, transitions, depth, stepsToRest }: Exploration): string {
  const count = (value: number) => value.toLocaleString('en').padStart(10);
  return `${count(states)} states ${count(transitions)} steps, ${depth} deep, at most ${stepsToRest} to rest: ${name}`;
}

function scopeOf(queue: string, late: string, faults: Scope['faults'], more: Pick<Scope, 'fails' | 'limits'> = {}): Scope {
  const names = (text: string) => text.split(' ').filter((name) => name !== '');
  const what = Object.entries(faults).map(([fault, times]) => (times === 1 ? fault : `${fault} ${times} times`));
  const limited = more.limits === undefined ? [] : ['little room'];
  const name = [queue + (late === '' ? '' : `, at any time ${late}`), ...what, ...limited].join('; ');
  return { name, queue: names(queue), late: names(late), faults, ...more };
}

const fails = 'a2';

/** A few seconds for all of them. */
export const scopes: readonly Scope[] = [
  scopeOf('a1 a2 a1 b1', '', { 'channel lost': 1 }),
  scopeOf('a1 a2 a3', '', { 'channel lost': 1, 'handler fails': 1 }, { fails }),
  scopeOf('a2', 'a1', { 'channel lost': 1 }),
  scopeOf('a2 a2 a3', 'a1', {}),
  scopeOf('a2 b1', 'a1', { 'late timer': 1 }),
  scopeOf('a2 b1', '', { 'request lost': 1 }),
  scopeOf('a2 b2 b3', 'a1 b1', {}, { limits: { prefetch: 3, maxHeld: 2 } }),
  scopeOf('a1 a2 b1', '', { 'reply lost': 1 }),
  scopeOf('a1 a2 b1', '', { 'request lost': 2 }),
  scopeOf('a1 a2', '', { 'request late': 1, 'channel lost': 1 }),
  scopeOf('a1 a2 b1', '', { 'keys unusable': 2 }),
  scopeOf('a1 a2 b1', '', { drain: 1 }),
  scopeOf('a1 a2 a3', '', { 'handler fails': 1, replay: 1, 'replay dies': 1 }, { fails }),
  scopeOf('a2 a3', 'a1', { replay: 1, 'replay dies': 1 }),
];

/** Minutes. */
export const largerScopes: readonly Scope[] = [
  scopeOf('a2 a3', 'a1', { 'channel lost': 1 }),
  scopeOf('a2', 'a1', { 'channel lost': 1, replay: 1 }),
  scopeOf('a1 a2', '', { 'channel lost': 2 }),
  scopeOf('a1 a2 a3', '', { 'channel lost': 1, 'handler fails': 1, replay: 1 }, { fails }),
  scopeOf('a1 a2 b1', '', { 'channel lost': 1, 'reply lost': 1 }),
  scopeOf('a1 a2 a3 b1 b2 b3', '', { 'handler fails': 1, 'reply lost': 1 }, { fails }),
];

/**
 * Visits every state that a small world can come into, once, the nearest first: so the first breach that is met has the shortest way
 * to it. Judged in each state is what led there (small-world.ts), and what is at rest; and that from each state all comes to rest, with
 * everything applied, where nothing goes wrong any more.
 */
import type { Core } from './opened-core.ts';
import { type Action, type Scope, SmallWorld } from './small-world.ts';

export interface Exploration {
  readonly states: number;
  readonly transitions: number;
  /** Of the state that is farthest from the beginning. */
  readonly depth: number;
  /** From the state that is farthest from rest, where nothing goes wrong any more. */
  readonly stepsToRest: number;
  readonly breach: { readonly symptom: string; readonly trace: readonly string[] } | null;
}

/** How a state was first reached. */
interface Arrival {
  readonly from: number;
  readonly action: Action;
  readonly depth: number;
}

class Explorer {
  readonly #begin: SmallWorld;
  readonly #mostStates: number;
  readonly #ids = new Map<string, number>();
  readonly #arrivals: (Arrival | null)[] = [null];
  /** Of each state the one that follows where nothing goes wrong; -1 at rest. */
  readonly #calmNext: number[] = [];
  #frontier: SmallWorld[];
  #transitions = 0;

  constructor(begin: SmallWorld, mostStates: number) {
    this.#begin = begin;
    this.#mostStates = mostStates;
    this.#frontier = [begin];
    this.#ids.set(begin.text(), 0);
  }

  run(): Exploration {
    for (let id = 0; this.#frontier.length > 0; ) {
      const level = this.#frontier;
      this.#frontier = [];
      if (id > this.#mostStates) return this.#ended(null, 0);
      for (const world of level) {
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
        const next = this.#visit(world.after(action), id, action);
        if (index === 0 && action.fault === undefined) this.#calmNext[id] = next;
      } catch (error) {
        return { symptom: (error as Error).message, trace: [...this.#traceTo(id), world.describe(action)] };
      }
    }
    return null;
  }

  #visit(world: SmallWorld, from: number, action: Action): number {
    const text = world.text();
    const known = this.#ids.get(text);
    if (known !== undefined) return known;
    const id = this.#ids.size;
    this.#ids.set(text, id);
    this.#arrivals.push({ from, action, depth: (this.#arrivals[from]?.depth ?? 0) + 1 });
    this.#frontier.push(world);
    return id;
  }

  /** Follows from each state the one way on which nothing goes wrong. */
  #comesToRest(): Exploration {
    const steps: (number | undefined)[] = [];
    let most = 0;
    for (let start = 0; start < this.#calmNext.length; start++) {
      const way: number[] = [];
      const onWay = new Set<number>();
      let at = start;
      while (steps[at] === undefined && this.#calmNext[at] !== -1) {
        if (onWay.has(at)) return this.#ended({ symptom: 'it never comes to rest', trace: this.#traceTo(start, way.length) }, 0);
        onWay.add(at);
        way.push(at);
        at = this.#calmNext[at]!;
      }
      let left = steps[at] ?? 0;
      steps[at] = left;
      for (const passed of way.reverse()) steps[passed] = ++left;
      most = Math.max(most, left);
    }
    return this.#ended(null, most);
  }

  /** With so many steps more in which nothing goes wrong. */
  #traceTo(id: number, calmSteps = 0): string[] {
    const actions: Action[] = [];
    for (let arrival = this.#arrivals[id]; arrival != null; arrival = this.#arrivals[arrival.from]) actions.unshift(arrival.action);
    let world = this.#begin;
    const trace: string[] = [];
    for (let step = 0; step < actions.length + calmSteps; step++) {
      const action = actions[step] ?? world.actions()[0]!;
      trace.push(world.describe(action));
      world = world.after(action);
    }
    return trace;
  }

  #ended(breach: Exploration['breach'], stepsToRest: number): Exploration {
    const depth = this.#arrivals.at(-1)?.depth ?? 0;
    return { states: this.#ids.size, transitions: this.#transitions, depth, stepsToRest, breach };
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

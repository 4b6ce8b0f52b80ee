/**
 * Faults in an order that a seed decides: each domain (workers, broker, store, clients) has a deck, which is shuffled, played card by
 * card, and shuffled again. Domains play beside each other, so that faults of different domains overlap as they will; within a domain
 * a fault has healed before the next one begins.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { waitUntil } from '../../../deploy/local/wait-until.ts';
import { Chance } from '../../simulation/virtual-time.ts';

export interface Fault {
  readonly name: string;
  /** Breaks something and resolves when it works again. How long, whom: by `chance`. */
  readonly act: (chance: Chance) => Promise<void>;
}

export interface Domain {
  readonly name: string;
  readonly deck: readonly Fault[];
  /** Between two faults, in milliseconds. */
  readonly pauseMs: readonly [least: number, most: number];
}

type Counts = Iterable<readonly [what: string, count: number]>;

/** What happened, for the report. */
export class Tally {
  readonly kills = new Map<string, number>();
  readonly seen = new Map<string, number>();
  readonly #say: (line: string) => void;

  constructor(say: (line: string) => void) {
    this.#say = say;
  }

  killed(what: string): void {
    this.kills.set(what, (this.kills.get(what) ?? 0) + 1);
  }

  count(what: string): void {
    this.seen.set(what, (this.seen.get(what) ?? 0) + 1);
  }

  of(what: string): number {
    return this.seen.get(what) ?? 0;
  }

  say(line: string): void {
    this.#say(line);
  }
}

export function shown(count: number): string {
  return count.toLocaleString('en');
}

/** What was killed and what else happened, in a line. */
export function faultLine(kills: Counts, seen: Counts): string {
  const kinds = (of: Counts) => [...of].map(([what, count]) => `${shown(count)} ${what}`).join(', ') || 'none';
  return `${shown([...kills].reduce((sum, [, count]) => sum + count, 0))} kills (${kinds(kills)}); other faults: ${kinds(seen)}`;
}

/** Plays the deck: once, or for as long as `goesOn`. */
export async function play(domain: Domain, seed: number, tally: Tally, goesOn: (() => boolean) | 'once'): Promise<void> {
  const { name, deck, pauseMs } = domain;
  const chance = new Chance(seed, name);
  do {
    for (const fault of shuffled(deck, chance)) {
      await sleep(chance.between(...pauseMs));
      if (goesOn !== 'once' && !goesOn()) return;
      tally.say(`${name}: ${fault.name}`);
      await fault.act(chance).catch((cause: unknown) => {
        throw new Error(`${name}, ${fault.name}: ${(cause as Error).message}`, { cause });
      });
    }
  } while (goesOn !== 'once' && deck.length > 0);
}

/** Longer than the slowest machine takes to heal. */
const healMs = 1_800_000;

/** Waits for what has to come true when a fault is over. */
export function until<T>(condition: () => Promise<T>, what: string, intervalMs = 250): Promise<Exclude<T, false | null | undefined>> {
  return waitUntil(condition, { what, intervalMs, timeoutMs: healMs });
}

/** Tries what a busy machine may fail to answer in time, until it is done. */
export function untilDone(act: () => Promise<unknown>, what: string): Promise<true> {
  const isDone = () =>
    act().then(
      () => true as const,
      () => false as const,
    );
  return until(isDone, what, 1_000);
}

function shuffled<T>(cards: readonly T[], chance: Chance): T[] {
  const left = [...cards];
  const drawn: T[] = [];
  while (left.length > 0) drawn.push(...left.splice(chance.between(0, left.length - 1), 1));
  return drawn;
}

/**
 * Random runs of a sequencer: what happens, in which order, until everything is at rest. The events, the steps
 * and the broker's part; what is asserted belongs to the tests.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Event } from '../../src/events/event.ts';
import { event, type SequencerHarness } from './sequencer-harness.ts';

/** One thing that happens. Numbers are taken modulo what there is to choose from. */
export type Step =
  | { readonly kind: 'deliver'; readonly count: number }
  | { readonly kind: 'answer'; readonly which: number }
  | { readonly kind: 'turn' }
  | { readonly kind: 'time'; readonly ms: number }
  | { readonly kind: 'storeUnavailable'; readonly count: number; readonly executed: boolean }
  | { readonly kind: 'entityUnavailable'; readonly which: number; readonly executed: boolean }
  | { readonly kind: 'channelLost' };

const number = fc.nat({ max: 1_000 });

export const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('deliver' as const), count: fc.integer({ min: 1, max: 6 }) }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('answer' as const), which: number }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('turn' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('time' as const), ms: fc.integer({ min: 1, max: 4_000 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('storeUnavailable' as const), count: fc.integer({ min: 1, max: 4 }), executed: fc.boolean() }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('entityUnavailable' as const), which: number, executed: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('channelLost' as const) }) },
);

export const entities = ['a', 'b', 'c'];

export interface Traffic {
  /** Events per entity, numbered from 1. */
  readonly lengths: readonly number[];
  /** What is delivered, in this order: every event at least once, some again. */
  readonly arrivals: readonly Event[];
}

/** Every event of a few entities, in any order, some of them several times. */
export const traffic: fc.Arbitrary<Traffic> = fc.tuple(...entities.map(() => fc.integer({ min: 0, max: 9 }))).chain((lengths) => {
  const all = lengths.flatMap((length, index) => Array.from({ length }, (_, at) => event(at + 1, { entityId: entities[index] as string })));
  const again = all.length === 0 ? fc.constant([]) : fc.array(fc.constantFrom(...all), { maxLength: 8 });
  return again
    .chain((copies) => fc.shuffledSubarray([...all, ...copies], { minLength: all.length + copies.length }))
    .map((arrivals) => ({ lengths, arrivals }));
});

/** The broker's part: it delivers as long as the window has room, and what is not settled comes back before anything new. */
export class Run {
  readonly queue: Event[];
  readonly #harness: SequencerHarness;

  constructor(harness: SequencerHarness, arrivals: readonly Event[]) {
    this.#harness = harness;
    harness.holdsTurns = true;
    this.queue = [...arrivals];
  }

  take(step: Step): void {
    const { asked } = this.#harness;
    switch (step.kind) {
      case 'deliver':
        this.deliver(step.count);
        break;
      case 'turn':
        this.#turn();
        break;
      case 'answer':
        if (asked.length > 0) this.#harness.answer(step.which % asked.length);
        break;
      case 'time':
        this.#harness.pass(step.ms);
        break;
      case 'storeUnavailable': {
        const ops = asked.slice(0, step.count).map(() => this.#harness.loseReply(0, step.executed));
        if (ops.length > 0) this.#harness.fact({ kind: 'storeUnavailable', ops, retryInMs: 100 });
        break;
      }
      case 'entityUnavailable': {
        const alone = asked.findIndex(
          ({ kind }, index) => index >= step.which % (asked.length + 1) && kind !== 'lookUp' && kind !== 'reject',
        );
        if (alone < 0) break;
        const op = this.#harness.loseReply(alone, step.executed);
        this.#harness.fact({ kind: 'entityUnavailable', op, retryInMs: 50 });
        break;
      }
      case 'channelLost':
        this.queue.unshift(...this.#harness.loseChannel().filter((one) => one !== null));
        break;
    }
  }

  /** As many as there is room for. False when none came. */
  deliver(count: number): boolean {
    const harness = this.#harness;
    const room = harness.limits.prefetch - harness.unsettledCount;
    const events = this.queue.splice(0, Math.max(0, Math.min(count, room)));
    if (events.length > 0) harness.arrive(...events);
    return events.length > 0;
  }

  /** Until everything that is left has come, was answered, and time went on. */
  finish(): void {
    for (let steps = 0; steps < 2_000; steps++) if (!this.goOn()) return;
    assert.fail(`no rest: ${JSON.stringify(this.#harness.sequencer.overview())}`);
  }

  /** The next thing that happens where there are no faults. False when all is at rest. */
  goOn(): boolean {
    const harness = this.#harness;
    if (this.deliver(7)) return true;
    if (harness.asked.length > 0) harness.answer();
    else if (harness.turn !== null) this.#turn();
    else if (harness.unsettledCount === 0) return false;
    else assert.ok(harness.toNextDeadline(), 'something is not settled and nothing is waited for');
    return true;
  }

  #turn(): void {
    if (this.#harness.turn === null) return;
    this.deliver(Number.POSITIVE_INFINITY);
    this.#harness.takeTurn();
  }
}

/** At rest nothing is left behind anywhere. */
export function assertAtRest({ sequencer, asked }: SequencerHarness): void {
  const { held, gaps, unsettled, operations, paused } = sequencer.overview();
  assert.deepEqual({ held, gaps, unsettled, operations, paused }, { held: 0, gaps: 0, unsettled: 0, operations: 0, paused: false });
  assert.equal(asked.length, 0);
}

/** Two shards come to rest only together: each waits for what the other applies. */
export function finishTogether(shards: readonly SequencerHarness[], runs: readonly Run[]): void {
  for (let steps = 0; steps < 4_000; steps++) {
    const busy = runs.find((run, index) => run.queue.length > 0 || (shards[index] as SequencerHarness).asked.length > 0);
    if (busy === undefined) {
      const waiting = shards.filter(({ unsettledCount }) => unsettledCount > 0);
      if (waiting.length === 0) return shards.forEach(assertAtRest);
      for (const one of waiting) assert.ok(one.toNextDeadline(), 'something is not settled and nothing is waited for');
    } else busy.goOn();
  }
  assert.fail('no rest');
}

/**
 * Whatever arrives, in whatever order, however often and with whatever mishaps: at rest every sequence was
 * applied once and in order, and everything that arrived was settled exactly once.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Event } from '../../src/events/event.ts';
import type { SequencerLimits } from '../../src/ordering/limits.ts';
import { event, ModelStore, SequencerHarness } from '../support/sequencer-harness.ts';

/** One thing that happens. Numbers are taken modulo what there is to choose from. */
type Step =
  | { readonly kind: 'deliver'; readonly count: number }
  | { readonly kind: 'answer'; readonly which: number }
  | { readonly kind: 'time'; readonly ms: number }
  | { readonly kind: 'storeUnavailable'; readonly count: number; readonly executed: boolean }
  | { readonly kind: 'entityUnavailable'; readonly which: number; readonly executed: boolean }
  | { readonly kind: 'channelLost' };

const number = fc.nat({ max: 1_000 });

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('deliver' as const), count: fc.integer({ min: 1, max: 6 }) }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('answer' as const), which: number }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('time' as const), ms: fc.integer({ min: 1, max: 4_000 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('storeUnavailable' as const), count: fc.integer({ min: 1, max: 4 }), executed: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('entityUnavailable' as const), which: number, executed: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('channelLost' as const) }) },
);

const entities = ['a', 'b', 'c'];

interface Traffic {
  /** Events per entity, numbered from 1. */
  readonly lengths: readonly number[];
  /** What is delivered, in this order: every event at least once, some again. */
  readonly arrivals: readonly Event[];
}

/** Every event of a few entities, in any order, some of them several times. */
const traffic: fc.Arbitrary<Traffic> = fc
  .tuple(...entities.map(() => fc.integer({ min: 0, max: 9 })))
  .chain((lengths) => {
    const all = lengths.flatMap((length, index) => Array.from({ length }, (_, at) => event(at + 1, { entityId: entities[index] as string })));
    const again = all.length === 0 ? fc.constant([]) : fc.array(fc.constantFrom(...all), { maxLength: 8 });
    return again
      .chain((copies) => fc.shuffledSubarray([...all, ...copies], { minLength: all.length + copies.length }))
      .map((arrivals) => ({ lengths, arrivals }));
  });

/** The broker's part: what is not settled comes back before anything new. */
class Run {
  readonly queue: Event[];
  readonly #harness: SequencerHarness;

  constructor(harness: SequencerHarness, arrivals: readonly Event[]) {
    this.#harness = harness;
    this.queue = [...arrivals];
  }

  take(step: Step): void {
    const { asked } = this.#harness;
    switch (step.kind) {
      case 'deliver':
        if (this.queue.length > 0) this.#harness.arrive(...this.queue.splice(0, step.count));
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
        const alone = asked.findIndex(({ kind }, index) => index >= step.which % (asked.length + 1) && kind !== 'recall' && kind !== 'reject');
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

  /** The faults are over: everything that is left comes, is answered, and time goes on. */
  finish(): void {
    const harness = this.#harness;
    for (let steps = 0; steps < 2_000; steps++) {
      if (this.queue.length > 0) harness.arrive(...this.queue.splice(0, 7));
      else if (harness.asked.length > 0) harness.answer();
      else if (harness.unsettledCount === 0) return;
      else assert.ok(harness.toNextDeadline(), 'something is not settled and nothing is waited for');
    }
    assert.fail(`no rest: ${JSON.stringify(harness.sequencer.overview())}`);
  }
}

/** At rest nothing is left behind anywhere. */
function assertAtRest({ sequencer, asked }: SequencerHarness): void {
  const { held, gaps, unsettled, operations, paused } = sequencer.overview();
  assert.deepEqual({ held, gaps, unsettled, operations, paused }, { held: 0, gaps: 0, unsettled: 0, operations: 0, paused: false });
  assert.equal(asked.length, 0);
}

const oneTo = (length: number) => Array.from({ length }, (_, index) => index + 1);

const generous: Partial<SequencerLimits> = { gapTimeoutMs: 10_000_000, gapRereadMs: 1_000, maxFold: 4, maxProbe: 2 };

describe('the sequencer', () => {
  it('applies every sequence once and in order, whatever the order, copies, answers, outages and lost channels', () => {
    fc.assert(
      fc.property(traffic, fc.array(step, { maxLength: 60, size: 'max' }), fc.constantFrom(1, 3, 100), ({ lengths, arrivals }, steps, maxDone) => {
        const harness = new SequencerHarness(generous, new ModelStore({ maxDone }));
        const run = new Run(harness, arrivals);
        for (const one of steps) run.take(one);
        run.finish();
        assertAtRest(harness);
        lengths.forEach((length, index) => assert.deepEqual(harness.store.applied(entities[index]), oneTo(length)));
        const outcomes = new Set(harness.settled.map(({ outcome }) => outcome));
        assert.ok(!outcomes.has('rejected') && !outcomes.has('skipped'), 'nothing is lost and nothing is rejected');
        assert.equal(harness.settled.length, arrivals.length);
      }),
      { numRuns: 400 },
    );
  });

  it('parks what waits for events that never come, and dead-letters nothing else', () => {
    const withLosses = fc.tuple(traffic, fc.array(fc.record({ entity: fc.nat({ max: 2 }), sequence: fc.integer({ min: 1, max: 9 }) }), { maxLength: 4 }));
    fc.assert(
      fc.property(withLosses, fc.array(step, { maxLength: 60, size: 'max' }), ([{ lengths, arrivals }, losses], steps) => {
        const lost = (one: Event) => losses.some(({ entity, sequence }) => entities[entity] === one.entityId && sequence === one.sequence);
        const published = arrivals.filter((one) => !lost(one));
        const harness = new SequencerHarness({ ...generous, gapTimeoutMs: 20_000 });
        const run = new Run(harness, published);
        for (const one of steps) run.take(one);
        run.finish();
        assertAtRest(harness);
        lengths.forEach((length, index) => {
          const applied = harness.store.applied(entities[index]);
          const missing = oneTo(length).find((sequence) => losses.some((loss) => loss.entity === index && loss.sequence === sequence));
          const reachable = missing === undefined ? length : missing - 1;
          assert.deepEqual(applied, oneTo(applied.length));
          assert.ok(applied.length <= reachable);
          // Less only where time passed while predecessors were still on their way.
          if (applied.length < reachable) assert.notEqual(harness.store.parkedFor(entities[index]), null);
        });
        assert.equal(harness.settled.length, published.length);
        for (const { reason } of harness.settled) assert.ok(reason === null || reason === 'gap_timeout' || reason === 'entity_parked', `rejected as ${reason}`);
      }),
      { numRuns: 400 },
    );
  });

  it('lets a processor fail without letting anything pass the event that failed', () => {
    const failing = fc.tuple(fc.constantFrom(...entities), fc.integer({ min: 1, max: 9 }));
    fc.assert(
      fc.property(traffic, failing, fc.array(step, { maxLength: 60, size: 'max' }), fc.constantFrom(1, 100), ({ lengths, arrivals }, [entityId, bad], steps, maxDone) => {
        const fails = (one: Event) => one.entityId === entityId && one.sequence === bad;
        const harness = new SequencerHarness(generous, new ModelStore({ fails, maxDone }));
        const run = new Run(harness, arrivals);
        for (const one of steps) run.take(one);
        run.finish();
        assertAtRest(harness);
        lengths.forEach((length, index) => {
          const stops = entities[index] === entityId && length >= bad;
          assert.deepEqual(harness.store.applied(entities[index]), oneTo(stops ? bad - 1 : length));
          assert.equal(harness.store.parkedFor(entities[index]), stops ? 'handler_failed' : null);
        });
        const own = harness.settled.filter((one) => one.event?.entityId === entityId && one.reason !== null);
        for (const { event: rejected, reason } of own) assert.equal(reason, rejected?.sequence === bad ? 'handler_failed' : 'entity_parked');
        assert.equal(harness.settled.length, arrivals.length);
      }),
      { numRuns: 400 },
    );
  });

  it('ends at rest with every event applied at most once under each strategy that passes over gaps', () => {
    const strategies = fc.constantFrom('skip' as const, 'log_and_process' as const, 'fail' as const, 'skip-ahead' as const);
    fc.assert(
      fc.property(traffic, strategies, fc.array(step, { maxLength: 60, size: 'max' }), ({ arrivals }, strategy, steps) => {
        const limits: Partial<SequencerLimits> =
          strategy === 'skip-ahead' ? { ...generous, gapTimeoutMs: 3_000, gapTimeoutAction: 'skip-ahead' } : { ...generous, strategy };
        const store = new ModelStore({ allowsLeaps: strategy !== 'fail' });
        const harness = new SequencerHarness(limits, store);
        const run = new Run(harness, arrivals);
        for (const one of steps) run.take(one);
        run.finish();
        assertAtRest(harness);
        assertEachSettledAs(strategy, harness, arrivals);
      }),
      { numRuns: 600 },
    );
  });

  it('gives two owners of one entity, of which the earlier does not know that it was replaced, one common order', () => {
    fc.assert(
      fc.property(traffic, fc.array(fc.tuple(fc.boolean(), step), { maxLength: 80, size: 'max' }), fc.nat({ max: 40 }), ({ lengths, arrivals }, steps, hasBefore) => {
        const store = new ModelStore();
        const earlier = new SequencerHarness({ ...generous, gapTimeoutMs: 5_000 }, store, { shard: 0, epoch: 1 });
        const later = new SequencerHarness(generous, store, { shard: 0, epoch: 2 });
        const first = new Run(earlier, arrivals.slice(0, hasBefore));
        for (const [, one] of steps.slice(0, hasBefore)) first.take(one);
        // The broker gives everything that the earlier one has not settled to the later one.
        const second = new Run(later, [...earlier.unsettled().filter((one) => one !== null), ...first.queue, ...arrivals.slice(hasBefore)]);
        first.queue.length = 0;
        for (const [toEarlier, one] of steps.slice(hasBefore)) {
          if (toEarlier && one.kind !== 'channelLost') first.take(one);
          else second.take(one);
        }
        second.finish();
        assertAtRest(later);
        lengths.forEach((_, index) => assert.deepEqual(store.applied(entities[index]), oneTo(store.applied(entities[index]).length)));
        const parkedByEarlier = entities.filter((id) => store.parkedFor(id) !== null);
        lengths.forEach((length, index) => {
          if (!parkedByEarlier.includes(entities[index] as string)) assert.deepEqual(store.applied(entities[index]), oneTo(length));
        });
      }),
      { numRuns: 600 },
    );
  });

  it('shares an entity between two shards after the ring of the exchange has changed', () => {
    fc.assert(
      fc.property(traffic, fc.array(fc.tuple(fc.boolean(), step), { maxLength: 80, size: 'max' }), fc.infiniteStream(fc.boolean()), ({ lengths, arrivals }, steps, routes) => {
        const store = new ModelStore();
        const limits = { ...generous, gapTimeoutMs: 10_000_000 };
        const shards = [new SequencerHarness(limits, store, { shard: 0, epoch: 1 }), new SequencerHarness(limits, store, { shard: 1, epoch: 2 })] as const;
        const toFirst = arrivals.map(() => routes.next().value === true);
        const runs = [
          new Run(shards[0], arrivals.filter((_, index) => toFirst[index])),
          new Run(shards[1], arrivals.filter((_, index) => !toFirst[index])),
        ] as const;
        for (const [which, one] of steps) runs[which ? 0 : 1].take(one);
        finishTogether(shards, runs);
        lengths.forEach((length, index) => assert.deepEqual(store.applied(entities[index]), oneTo(length)));
        assert.ok([...shards[0].settled, ...shards[1].settled].every(({ outcome }) => outcome !== 'rejected'));
        assert.equal(shards[0].settled.length + shards[1].settled.length, arrivals.length);
      }),
      { numRuns: 400 },
    );
  });
});

/** Two shards come to rest only together: each waits for what the other applies. */
function finishTogether(shards: readonly SequencerHarness[], runs: readonly Run[]): void {
  for (let steps = 0; steps < 4_000; steps++) {
    const busy = shards.findIndex((shard, index) => (runs[index] as Run).queue.length > 0 || shard.asked.length > 0);
    const shard = shards[busy];
    if (shard === undefined) {
      const waiting = shards.filter(({ unsettledCount }) => unsettledCount > 0);
      if (waiting.length === 0) return shards.forEach(assertAtRest);
      for (const one of waiting) assert.ok(one.toNextDeadline(), 'something is not settled and nothing is waited for');
    } else if (shard.asked.length > 0) shard.answer();
    else shard.arrive(...(runs[busy] as Run).queue.splice(0, 7));
  }
  assert.fail('no rest');
}

/** Each event that arrived was applied or has its one reason not to be; every copy of it was settled. */
function assertEachSettledAs(strategy: 'skip' | 'log_and_process' | 'fail' | 'skip-ahead', harness: SequencerHarness, arrivals: readonly Event[]): void {
  assert.equal(harness.settled.length, arrivals.length);
  const allowed: readonly string[] = { skip: ['skipped'], log_and_process: [], fail: ['out_of_order', 'entity_parked'], 'skip-ahead': ['late'] }[strategy];
  for (const one of new Set(arrivals.map(({ id }) => id))) {
    const outcomes = harness.settled.filter(({ event: settled }) => settled?.id === one).map(({ reason, outcome }) => reason ?? outcome);
    const applied = harness.store.applied(one.slice(0, 1)).filter((sequence) => one === `${one.slice(0, 1)}-${sequence}`).length;
    const others = outcomes.filter((outcome) => outcome !== 'applied' && outcome !== 'duplicate');
    assert.ok(applied === 1 || (applied === 0 && others.length > 0), `${one} is applied ${applied} times: ${outcomes.join(', ')}`);
    for (const outcome of others) assert.ok(allowed.includes(outcome), `${one} is ${outcome}`);
  }
}

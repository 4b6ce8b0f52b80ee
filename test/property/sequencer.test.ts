/**
 * Whatever arrives, in whatever order, however often and with whatever faults: at rest every sequence was
 * applied once and in order, and everything that arrived was settled exactly once.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Event } from '../../src/events/event.ts';
import { type FirstSequence, initialVersionOf, type SequencerLimits } from '../../src/ordering/facts.ts';
import { event, ModelStore, SequencerHarness } from '../support/sequencer-harness.ts';
import { assertAtRest, entities, finishTogether, Run, step, traffic } from '../support/sequencer-run.ts';

const oneTo = (length: number) => fromTo(1, length);
const fromTo = (first: number, length: number) => Array.from({ length }, (_, index) => index + first);
/** Streams count from 1, and some from 0. */
const firsts = fc.constantFrom<0 | 1>(1, 0);

/** The same events of a stream that counts from `first`. */
function countedFrom(first: number, arrivals: readonly Event[]): readonly Event[] {
  return first === 1 ? arrivals : arrivals.map(({ sequence, entityId }) => event((sequence ?? 0) + first - 1, { entityId }));
}

/** Takes the dead letters out of what is settled. */
function takeRejected(harness: SequencerHarness): readonly Event[] {
  const letters = harness.settled.filter(({ outcome }) => outcome === 'rejected');
  harness.settled.splice(0, Number.POSITIVE_INFINITY, ...harness.settled.filter(({ outcome }) => outcome !== 'rejected'));
  return letters.flatMap(({ event: rejected }) => rejected ?? []);
}

function bySequence(events: readonly Event[]): readonly Event[] {
  return [...events].sort((a, b) => (a.sequence ?? 0) - (b.sequence ?? 0));
}

function shuffled(events: readonly Event[], order: Iterator<number>): readonly Event[] {
  const keyed = events.map((one) => ({ one, key: Number(order.next().value) }));
  return keyed.sort((a, b) => a.key - b.key).map(({ one }) => one);
}

const generous: Partial<SequencerLimits> = { gapTimeoutMs: 10_000_000, gapRereadMs: 1_000, maxFold: 4, maxProbe: 2 };

describe('the sequencer', () => {
  it('applies every sequence once and in order, whatever the order, copies, answers, outages and lost channels', () => {
    fc.assert(
      fc.property(
        traffic,
        fc.array(step, { maxLength: 60, size: 'max' }),
        fc.constantFrom(1, 3, 100),
        firsts,
        ({ lengths, arrivals }, steps, maxDone, firstSequence) => {
          const harness = new SequencerHarness(
            { ...generous, firstSequence },
            new ModelStore({ maxDone, initialVersion: firstSequence - 1 }),
          );
          const run = new Run(harness, countedFrom(firstSequence, arrivals));
          for (const one of steps) run.take(one);
          run.finish();
          assertAtRest(harness);
          lengths.forEach((length, index) => assert.deepEqual(harness.store.applied(entities[index]), fromTo(firstSequence, length)));
          const outcomes = new Set(harness.settled.map(({ outcome }) => outcome));
          assert.ok(!outcomes.has('rejected') && !outcomes.has('skipped'), 'nothing is lost and nothing is rejected');
          assert.equal(harness.settled.length, arrivals.length);
        },
      ),
      { numRuns: 400 },
    );
  });

  it('parks what waits for events that never come, and dead-letters nothing else', () => {
    const withLosses = fc.tuple(
      traffic,
      fc.array(fc.record({ entity: fc.nat({ max: 2 }), sequence: fc.integer({ min: 1, max: 9 }) }), { maxLength: 4 }),
    );
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
        for (const { reason } of harness.settled)
          assert.ok(reason === null || reason === 'gap_timeout' || reason === 'entity_parked', `rejected as ${reason}`);
      }),
      { numRuns: 400 },
    );
  });

  it('ends no gap whose missing event is on its way, whatever keeps it: an unavailable store, a full window, a blocked process', () => {
    // Each event overtakes a few others at most: then the window is never full of what waits.
    const disorder = fc.tuple(traffic, fc.infiniteStream(fc.nat({ max: 3 }))).map(([{ lengths, arrivals }, late]) => {
      const keyed = bySequence(arrivals).map((one, index) => ({ one, key: index + Number(late.next().value) }));
      return { lengths, arrivals: keyed.sort((a, b) => a.key - b.key).map(({ one }) => one) };
    });
    const blocked = fc.record({ kind: fc.constant('blocked' as const), ms: fc.integer({ min: 1, max: 100_000 }) });
    const steps = fc.array(fc.oneof({ weight: 19, arbitrary: step }, { weight: 1, arbitrary: blocked }), { maxLength: 60, size: 'max' });
    const actions = fc.constantFrom('dead-letter', 'skip-ahead' as const);
    fc.assert(
      fc.property(
        disorder,
        steps,
        actions,
        fc.integer({ min: 5, max: 8 }),
        fc.constantFrom(1, 100),
        ({ lengths, arrivals }, all, gapTimeoutAction, prefetch, maxDone) => {
          const limits = { ...generous, gapTimeoutMs: 50, gapRereadMs: 20, gapTimeoutAction, prefetch, maxHeld: prefetch - 1 };
          const harness = new SequencerHarness(limits, new ModelStore({ maxDone }));
          const run = new Run(harness, arrivals);
          for (const one of all) {
            if (one.kind === 'blocked') {
              harness.nowMs += one.ms;
              harness.fact({ kind: 'timePassed' });
              // What the store had answered meanwhile may be read before what the broker had sent.
              harness.answerAll();
            } else run.take(one);
            // Nobody but the window keeps the broker from delivering.
            run.deliver(prefetch);
          }
          run.finish();
          assertAtRest(harness);
          lengths.forEach((length, index) => assert.deepEqual(harness.store.applied(entities[index]), oneTo(length)));
          assert.deepEqual(
            harness.settled.filter(({ outcome }) => outcome === 'rejected'),
            [],
          );
        },
      ),
      { numRuns: 600 },
    );
  });

  it('applies what is live behind the dead letters that are replayed, in order under every strategy', () => {
    const next = fc.record({ isLetter: fc.boolean(), answers: fc.nat({ max: 3 }) });
    fc.assert(
      fc.property(
        fc.constantFrom('buffer' as const, 'fail' as const, 'skip' as const, 'log_and_process' as const),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 4 }),
        fc.array(next, { minLength: 1, maxLength: 14 }),
        (strategy, letters, maxDone, maxFold, steps) => {
          let isBroken = true;
          const store = new ModelStore({ maxDone, fails: ({ sequence }) => isBroken && sequence === 2 });
          const harness = new SequencerHarness({ strategy, maxFold }, store);
          harness.process(event(1), event(2));
          harness.process(...Array.from({ length: letters - 1 }, (_, index) => event(3 + index)));
          isBroken = false;
          store.beginReplay();
          let [letter, live] = [2, letters + 2];
          for (const { isLetter, answers } of steps) {
            if (isLetter && letter < letters + 2) harness.arrive(event(letter++));
            else harness.arrive(event(live++));
            for (let answer = 0; answer < answers && harness.asked.length > 0; answer++) harness.answer();
          }
          while (letter < letters + 2) harness.arrive(event(letter++));
          harness.answerAll();
          assert.deepEqual(store.applied(), oneTo(live - 1));
          assertAtRest(harness);
        },
      ),
      { numRuns: 600 },
    );
  });

  it('recovers every entity, and parks it no longer, when what was lost and what was dead-lettered comes again', () => {
    const replay = fc.record({ order: fc.infiniteStream(fc.nat()), steps: fc.array(step, { maxLength: 30, size: 'max' }) });
    const lossesOf = fc.array(fc.record({ entity: fc.nat({ max: 2 }), sequence: fc.integer({ min: 1, max: 9 }) }), { maxLength: 4 });
    fc.assert(
      fc.property(
        traffic,
        lossesOf,
        fc.array(step, { maxLength: 40, size: 'max' }),
        fc.array(replay, { maxLength: 3 }),
        firsts,
        ({ lengths, ...all }, losses, steps, replays, firstSequence) => {
          const arrivals = countedFrom(firstSequence, all.arrivals);
          const lost = arrivals.filter((one) =>
            losses.some(({ entity, sequence }) => entities[entity] === one.entityId && sequence - 1 + firstSequence === one.sequence),
          );
          const harness = new SequencerHarness({ ...generous, gapTimeoutMs: 20_000, firstSequence });
          const first = new Run(
            harness,
            arrivals.filter((one) => !lost.includes(one)),
          );
          for (const one of steps) first.take(one);
          first.finish();
          let missing: readonly Event[] = lost;
          // Each in any order and with any fault, which may park again; the last in order and without.
          for (const round of [...replays, null]) {
            const again = [...missing, ...takeRejected(harness)];
            missing = [];
            for (const entityId of entities) harness.store.beginReplay(entityId);
            const run = new Run(harness, round === null ? bySequence(again) : shuffled(again, round.order));
            for (const one of round?.steps ?? []) run.take(one);
            run.finish();
          }
          assertAtRest(harness);
          assert.deepEqual(takeRejected(harness), []);
          lengths.forEach((length, index) => {
            assert.deepEqual(harness.store.applied(entities[index]), fromTo(firstSequence, length));
            assert.equal(harness.store.parkedFor(entities[index]), null);
          });
        },
      ),
      { numRuns: 600 },
    );
  });

  it('lets a processor fail without letting anything pass the event that failed', () => {
    const failing = fc.tuple(fc.constantFrom(...entities), fc.integer({ min: 1, max: 9 }));
    fc.assert(
      fc.property(
        traffic,
        failing,
        fc.array(step, { maxLength: 60, size: 'max' }),
        fc.constantFrom(1, 100),
        ({ lengths, arrivals }, [entityId, bad], steps, maxDone) => {
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
          for (const { event: rejected, reason } of own)
            assert.equal(reason, rejected?.sequence === bad ? 'handler_failed' : 'entity_parked');
          assert.equal(harness.settled.length, arrivals.length);
        },
      ),
      { numRuns: 400 },
    );
  });

  it('ends at rest with every event applied at most once under each strategy that passes over gaps', () => {
    const strategies = fc.constantFrom('skip' as const, 'log_and_process' as const, 'fail' as const, 'skip-ahead' as const);
    fc.assert(
      fc.property(
        traffic,
        strategies,
        fc.array(step, { maxLength: 60, size: 'max' }),
        firsts,
        ({ arrivals: all }, strategy, steps, firstSequence) => {
          const arrivals = countedFrom(firstSequence, all);
          const limits: Partial<SequencerLimits> =
            strategy === 'skip-ahead'
              ? { ...generous, firstSequence, gapTimeoutMs: 3_000, gapTimeoutAction: 'skip-ahead' }
              : { ...generous, firstSequence, strategy };
          const store = new ModelStore({ allowsLeaps: strategy !== 'fail', initialVersion: firstSequence - 1 });
          const harness = new SequencerHarness(limits, store);
          const run = new Run(harness, arrivals);
          for (const one of steps) run.take(one);
          run.finish();
          assertAtRest(harness);
          assertEachSettledAs(strategy, harness, arrivals);
        },
      ),
      { numRuns: 600 },
    );
  });

  it('gives two owners of one entity, of which the earlier does not know that it was replaced, one common order', () => {
    fc.assert(
      fc.property(
        traffic,
        fc.array(fc.tuple(fc.boolean(), step), { maxLength: 80, size: 'max' }),
        fc.nat({ max: 40 }),
        ({ lengths, arrivals }, steps, hasBefore) => {
          const store = new ModelStore();
          const earlier = new SequencerHarness({ ...generous, gapTimeoutMs: 5_000 }, store, { shard: 0, epoch: 1 });
          const later = new SequencerHarness(generous, store, { shard: 0, epoch: 2 });
          const first = new Run(earlier, arrivals.slice(0, hasBefore));
          for (const [, one] of steps.slice(0, hasBefore)) first.take(one);
          // The broker gives everything that the earlier one has not settled to the later one.
          const second = new Run(later, [
            ...earlier.unsettled().filter((one) => one !== null),
            ...first.queue,
            ...arrivals.slice(hasBefore),
          ]);
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
        },
      ),
      { numRuns: 600 },
    );
  });

  it('shares an entity between two shards after the ring of the exchange has changed', () => {
    fc.assert(
      fc.property(
        traffic,
        fc.array(fc.tuple(fc.boolean(), step), { maxLength: 80, size: 'max' }),
        fc.infiniteStream(fc.boolean()),
        ({ lengths, arrivals }, steps, routes) => {
          const store = new ModelStore();
          const limits = { ...generous, gapTimeoutMs: 10_000_000 };
          const shards = [
            new SequencerHarness(limits, store, { shard: 0, epoch: 1 }),
            new SequencerHarness(limits, store, { shard: 1, epoch: 2 }),
          ] as const;
          const toFirst = arrivals.map(() => routes.next().value === true);
          const runs = [
            new Run(
              shards[0],
              arrivals.filter((_, index) => toFirst[index]),
            ),
            new Run(
              shards[1],
              arrivals.filter((_, index) => !toFirst[index]),
            ),
          ] as const;
          for (const [which, one] of steps) runs[which ? 0 : 1].take(one);
          finishTogether(shards, runs);
          lengths.forEach((length, index) => assert.deepEqual(store.applied(entities[index]), oneTo(length)));
          assert.ok([...shards[0].settled, ...shards[1].settled].every(({ outcome }) => outcome !== 'rejected'));
          assert.equal(shards[0].settled.length + shards[1].settled.length, arrivals.length);
        },
      ),
      { numRuns: 400 },
    );
  });

  it('hands over at any point: what it drained is done, what it left is done by the next, and nothing twice', () => {
    fc.assert(
      fc.property(
        traffic,
        fc.array(step, { maxLength: 60, size: 'max' }),
        fc.array(step, { maxLength: 20 }),
        ({ lengths, arrivals }, before, during) => {
          const store = new ModelStore();
          const leaving = new SequencerHarness(generous, store, { shard: 0, epoch: 1 });
          const run = new Run(leaving, arrivals);
          for (const one of before) run.take(one);
          leaving.fact({ kind: 'drainRequested' });
          for (const one of during) if (one.kind !== 'deliver') run.take(one);
          for (let steps = 0; leaving.sequencer.overview().state === 'draining'; steps++) {
            assert.ok(steps < 500, 'draining does not end');
            if (leaving.asked.length > 0) leaving.answer();
            else assert.ok(leaving.toNextDeadline(), 'draining waits for nothing');
          }
          assert.equal(leaving.effects('drained').length, 1);
          const rest = [...leaving.loseChannel().filter((one) => one !== null), ...run.queue];
          const next = new SequencerHarness(generous, store, { shard: 0, epoch: 2 });
          new Run(next, rest).finish();
          assertAtRest(next);
          lengths.forEach((length, index) => assert.deepEqual(store.applied(entities[index]), oneTo(length)));
          assert.equal(next.settled.length, rest.length);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('comes to rest with everything settled once whatever the events say of themselves and however small the limits', () => {
    const strange = fc.record({
      entityId: fc.constantFrom('a', 'b'),
      sequence: fc.option(fc.integer({ min: 0, max: 8 }), { freq: 6 }),
      id: fc.constantFrom('id-1', 'id-2', 'id-3', 'id-4', 'id-5', 'id-6'),
      payloadHash: fc.constantFrom('x', 'x', 'x', 'y'),
      type: fc.constantFrom('Fine', 'Fine', 'Fine', 'Failing'),
    });
    const limits = fc.record({
      strategy: fc.constantFrom('buffer', 'buffer', 'skip', 'fail', 'log_and_process' as const),
      gapTimeoutAction: fc.constantFrom('dead-letter', 'skip-ahead' as const),
      firstSequence: fc.constantFrom<FirstSequence>(0, 1, 'any'),
      unsequenced: fc.constantFrom('reject', 'process' as const),
      maxHeldPerEntity: fc.integer({ min: 1, max: 5 }),
      maxHeld: fc.integer({ min: 1, max: 6 }),
      maxRememberedBytes: fc.integer({ min: 0, max: 300 }),
      maxFold: fc.integer({ min: 1, max: 5 }),
      maxProbe: fc.integer({ min: 1, max: 3 }),
    });
    fc.assert(
      fc.property(
        fc.array(strange, { maxLength: 30, size: 'max' }),
        limits,
        fc.array(step, { maxLength: 60, size: 'max' }),
        (events, chosen, steps) => {
          const store = new ModelStore({
            allowsLeaps: true,
            allowsAdoption: true,
            initialVersion: initialVersionOf(chosen.firstSequence),
            fails: ({ type }) => type === 'Failing',
          });
          const harness = new SequencerHarness({ gapTimeoutMs: 5_000, gapRereadMs: 1_000, ...chosen }, store);
          const run = new Run(
            harness,
            events.map(({ sequence, ...fields }) => event(sequence === 0 && chosen.firstSequence !== 0 ? 1 : sequence, fields)),
          );
          for (const one of steps) run.take(one);
          run.finish();
          assertAtRest(harness);
          assert.equal(harness.settled.length, events.length);
          for (const entityId of ['a', 'b']) {
            const ids = store.entity({ entityType: 'order', entityId }).applied.map(({ id }) => id);
            assert.equal(new Set(ids).size, ids.length, `an id is applied twice: ${ids.join(', ')}`);
          }
        },
      ),
      { numRuns: 1_000 },
    );
  });
});

/** Each event that arrived was applied or has its one reason not to be; every copy of it was settled. */
function assertEachSettledAs(
  strategy: 'skip' | 'log_and_process' | 'fail' | 'skip-ahead',
  harness: SequencerHarness,
  arrivals: readonly Event[],
): void {
  assert.equal(harness.settled.length, arrivals.length);
  const allowed: readonly string[] = {
    skip: ['skipped'],
    log_and_process: [],
    fail: ['out_of_order', 'entity_parked'],
    'skip-ahead': ['late'],
  }[strategy];
  for (const one of new Set(arrivals.map(({ id }) => id))) {
    const outcomes = harness.settled.filter(({ event: settled }) => settled?.id === one).map(({ reason, outcome }) => reason ?? outcome);
    const applied = harness.store.applied(one.slice(0, 1)).filter((sequence) => one === `${one.slice(0, 1)}-${sequence}`).length;
    const others = outcomes.filter((outcome) => outcome !== 'applied' && outcome !== 'duplicate');
    assert.ok(applied === 1 || (applied === 0 && others.length > 0), `${one} is applied ${applied} times: ${outcomes.join(', ')}`);
    for (const outcome of others) assert.ok(allowed.includes(outcome), `${one} is ${outcome}`);
  }
}

/**
 * The four strategies for an event that comes before its predecessor, on the real broker and the real store, over
 * gaps of every size that the histogram tells apart. Each test ends with the ledger: what was published is what was
 * applied, found to be a duplicate, dead-lettered and skipped.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { maxIntervals } from '../../src/ordering/holes.ts';
import { moduleUrl } from '../support/checkout.ts';
import { useServices, waitFor } from '../support/services.ts';
import { assertAtRest, assertLedger, deadLettersOf, storedOf } from '../support/stream-account.ts';
import { StreamRun } from '../support/stream-run.ts';
import { shuffled, type TraceEvent } from '../support/trace.ts';
import type { WorkerProcess } from '../support/worker-process.ts';

/** Events that leave a gap before them, of sizes on the bounds of the histogram's buckets and beside them. */
const leaps = [
  { sequence: 4, gap: 1 },
  { sequence: 11, gap: 5 },
  { sequence: 19, gap: 6 },
  { sequence: 121, gap: 100 },
  { sequence: 823, gap: 700 },
  { sequence: 1_826, gap: 1_001 },
] as const;
const gapSizes = leaps.map(({ gap }) => gap);
const leapTypes = leaps.map(({ sequence }) => `e${sequence}`);
/** Two events in order; then each that leaves a gap, and the one that follows it. */
const early: readonly number[] = [1, 2, ...leaps.flatMap(({ sequence }) => [sequence, sequence + 1])];
const last = 1_827;
/** The same with a copy of each that leaves a gap, right behind it. */
const earlyWithCopies: readonly number[] = [1, 2, ...leaps.flatMap(({ sequence }) => [sequence, sequence, sequence + 1])];
const entities = ['a', 'b', 'c', 'd'] as const;

/** The same for each of the entities, which take turns. */
function forEach(sequences: readonly number[]): TraceEvent[] {
  return sequences.flatMap((sequence) => entities.map((entityId) => ({ entityId, sequence })));
}

function of(entityId: string, ...sequences: readonly number[]): TraceEvent[] {
  return sequences.map((sequence) => ({ entityId, sequence }));
}

async function setUp(t: TestContext, strategy: string) {
  // Keeps every type: `history` forgets all but the last thousand.
  const processor = fileURLToPath(moduleUrl('test/support/mendable-processor.ts'));
  const run = new StreamRun(t, 'strategy', {
    ...(await useServices(t)),
    variables: { PROCESSOR: processor, ORDERING_VIOLATION_STRATEGY: strategy },
  });
  return { run, worker: await run.worker() };
}

/** The exact metrics and statistics of the detector: one violation of each type in `types` per entity, with the gaps at the same index. */
async function assertViolations(
  worker: WorkerProcess,
  perEntity: number,
  types: readonly string[],
  sizes: readonly number[],
): Promise<void> {
  const total = types.length * perEntity;
  assert.equal(await worker.metric('message_ordering_violations_total'), total);
  for (const type of types) assert.equal(await worker.metric('message_ordering_violations_total', { event_type: type }), perEntity, type);
  const gaps = { entity_type: 'trace' };
  const sum = perEntity * sizes.reduce((missing, size) => missing + size, 0);
  assert.equal(await worker.metric('message_sequence_gap_count', gaps), total);
  assert.equal(await worker.metric('message_sequence_gap_sum', gaps), sum);
  for (const bound of [1, 5, 10, 50, 100, 500, 1000]) {
    const within = perEntity * sizes.filter((size) => size <= bound).length;
    assert.equal(await worker.metric('message_sequence_gap_bucket', { ...gaps, le: String(bound) }), within, `gaps up to ${bound}`);
  }
  const { violations } = await worker.status();
  const { max_gap, average_gap, recent } = violations;
  assert.deepEqual([violations.total, max_gap, average_gap, recent.length], [total, Math.max(...sizes), sum / total, Math.min(total, 10)]);
}

test('buffer holds what comes early until every gap is closed, and applies each event once and in order', async (t) => {
  const { run, worker } = await setUp(t, 'buffer');
  const first = forEach(earlyWithCopies);
  await run.publish(first);
  const held = first.length - 2 * entities.length;
  await waitFor(async () => (await worker.metric('message_buffer_size', { entity_type: 'trace' })) === held, {
    what: `${held} events held`,
    timeoutMs: 30_000,
  });
  assert.equal(await run.applied(), 2 * entities.length, 'nothing runs ahead');
  await assertViolations(worker, entities.length, leapTypes, gapSizes);

  const missing = Array.from({ length: last }, (_, index) => index + 1).filter((sequence) => !early.includes(sequence));
  const late = shuffled(forEach(missing), 200);
  await run.publish(late);
  await assertLedger(worker, first.length + late.length, { applied: entities.length * last, duplicate: entities.length * leaps.length });
  await assertViolations(worker, entities.length, leapTypes, gapSizes);
  await run.assertBalanced(entities.length, last);
});

test('log_and_process applies what comes early as it comes; the gaps stay open for what comes late', async (t) => {
  const { run, worker } = await setUp(t, 'log_and_process');
  // Late: all of the first gap, the middle and the end of the second. Again: one that was late, one that was early, one in order.
  const late = [3, 8, 10];
  const again = [8, 4, 2];
  const events = forEach([...earlyWithCopies, ...late, ...again]);
  await run.publish(events);
  const applied = entities.length * (early.length + late.length);
  await assertLedger(worker, events.length, { applied, duplicate: entities.length * (leaps.length + again.length) });
  await assertViolations(worker, entities.length, leapTypes, gapSizes);
  for (const entityId of entities) {
    const { version, types, holes, parked } = await storedOf(run, entityId);
    assert.deepEqual(
      { version, types, parked },
      { version: last, types: [...early, ...late].map((sequence) => `e${sequence}`), parked: null },
    );
    assert.equal(holes, '6-7,9,13-18,21-120,123-822,825-1825');
  }
  await assertAtRest(run, worker, 0);
});

test('skip applies only what follows in order: what comes early moves the version, and it and its gap are holes for good', async (t) => {
  const { run, worker } = await setUp(t, 'skip');
  // Into a gap, at its end, and one that was skipped; then one that was applied.
  const intoHoles = [3, 10, 11];
  const events = forEach([...earlyWithCopies, ...intoHoles, 5]);
  await run.publish(events);
  const applied = [1, 2, 5, 12, 20, 122, 824, 1_827];
  const skipped = entities.length * (2 * leaps.length + intoHoles.length);
  await assertLedger(worker, events.length, { applied: entities.length * applied.length, skipped, duplicate: entities.length });
  await assertViolations(worker, entities.length, leapTypes, gapSizes);
  for (const entityId of entities) {
    const { version, types, holes, parked } = await storedOf(run, entityId);
    assert.deepEqual({ version, types, parked }, { version: last, types: applied.map((sequence) => `e${sequence}`), parked: null });
    assert.equal(holes, '3-4,6-11,13-19,21-121,123-823,825-1826');
  }
  await assertAtRest(run, worker, 0);
});

test('fail dead-letters what comes early at once and parks its entity, of which nothing is a violation any more; others go on', async (t) => {
  const { run, worker } = await setUp(t, 'fail');
  // One entity for each size, for each is stopped by its first violation.
  const leapOf = (gap: number) => 3 + gap;
  const stopped = gapSizes.flatMap((gap) => of(`gap-${gap}`, 1, 2, leapOf(gap), leapOf(gap) + 1, leapOf(gap) + 3));
  const beside = of('in-order', ...Array.from({ length: 200 }, (_, index) => index + 1));
  const events = [...beside.slice(0, 100), ...stopped, ...beside.slice(100)];
  await run.publish(events);
  const count = gapSizes.length;
  const applied = beside.length + 2 * count;
  await assertLedger(worker, events.length, { applied, deadLettered: { out_of_order: count, entity_parked: 2 * count } });
  const types = gapSizes.map((gap) => `e${leapOf(gap)}`);
  await assertViolations(worker, 1, types, gapSizes);
  assert.equal((await worker.status()).violations.affected_entities, count);
  const letters = await deadLettersOf(run, 3 * count);
  const follows = ['entity_parked', 'the entity is parked at version 2'];
  for (const gap of gapSizes) {
    const leap = leapOf(gap);
    const ofOne = letters
      .filter(({ entityId }) => entityId === `gap-${gap}`)
      .map(({ sequence, reason, detail }) => [sequence, reason, detail]);
    assert.deepEqual(ofOne, [
      [leap, 'out_of_order', `expected 3, received ${leap}`],
      [leap + 1, ...follows],
      [leap + 3, ...follows],
    ]);
    const { version, holes, parked } = await storedOf(run, `gap-${gap}`);
    assert.deepEqual([version, holes, parked?.reason, parked?.sequence], [2, '', 'out_of_order', leap]);
  }

  // The missing event has its place, and behind it so has the one that was too early, once it is published again.
  const after = [...of('gap-1', 3, 2, 4), ...of('gap-5', 4)];
  await run.publish(after);
  const deadLettered = { out_of_order: count, entity_parked: 2 * count + 1 };
  await assertLedger(worker, events.length + after.length, { applied: applied + 2, duplicate: 1, deadLettered });
  await assertViolations(worker, 1, types, gapSizes);
  const { version, parked } = await storedOf(run, 'gap-1');
  assert.deepEqual([version, parked?.reason], [4, 'out_of_order'], 'parked it stays');
  await run.assertNothingLeft({ deadLetters: 3 * count + 1 });
});

test('of more holes than are kept the lowest are forgotten: what comes into them is dead-lettered as late, and a duplicate beside them is one', async (t) => {
  const { run, worker } = await setUp(t, 'log_and_process');
  const even = Array.from({ length: maxIntervals + 2 }, (_, index) => 2 * (index + 1));
  await run.publish(of('riddled', ...even));
  await assertLedger(worker, even.length, { applied: even.length });
  await assertViolations(
    worker,
    1,
    even.map((sequence) => `e${sequence}`),
    even.map(() => 1),
  );
  const late = of('riddled', 1, 3, 2, 5, 5);
  await run.publish(late);
  await assertLedger(worker, even.length + late.length, { applied: even.length + 1, duplicate: 2, deadLettered: { late: 2 } });
  const forgotten = (sequence: number) => ({
    entityId: 'riddled',
    sequence,
    reason: 'late',
    detail: `sequence ${sequence} lies before what is remembered of this entity`,
  });
  assert.deepEqual(await deadLettersOf(run, 2), [forgotten(1), forgotten(3)]);
  const { version, holes, types } = await storedOf(run, 'riddled');
  assert.deepEqual([version, types.length, types.at(-1)], [even.at(-1), even.length + 1, 'e5']);
  assert.match(holes, /^f3;7,9,11,/);
  await assertAtRest(run, worker, 2);
});

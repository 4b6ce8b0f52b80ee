/**
 * Gaps on the real broker and the real store: how one opens, closes, ends, and is handed over. Between "held" and
 * "the missing event comes" a test waits for what the worker says; a deadline passes by itself.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { useServices, waitFor } from '../support/services.ts';
import { assertAtRest, assertLedger, deadLettersOf, storedOf } from '../support/stream-account.ts';
import { StreamRun } from '../support/stream-run.ts';
import { bodyOf, interleaved, readTraces, type TraceEvent, untilApplied } from '../support/trace.ts';
import type { WorkerProcess } from '../support/worker-process.ts';

/** Short enough to be waited for, long enough for a busy machine to do something before. */
const shortMs = 4_000;
const short = { GAP_TIMEOUT_MS: String(shortMs) };

async function useRun(t: TestContext, variables: Readonly<Record<string, string>> = {}): Promise<StreamRun> {
  return new StreamRun(t, 'gaps', { ...(await useServices(t)), variables });
}

function of(entityId: string, ...sequences: readonly number[]): TraceEvent[] {
  return sequences.map((sequence) => ({ entityId, sequence }));
}

async function untilHeld(worker: WorkerProcess, count: number): Promise<void> {
  await waitFor(async () => (await worker.metric('inorder_held')) === count, { what: `${count} events held`, timeoutMs: 30_000 });
}

async function untilParked(run: StreamRun, entityId: string): Promise<void> {
  await waitFor(async () => (await storedOf(run, entityId)).parked !== null, { what: `${entityId} parked`, timeoutMs: 30_000 });
}

interface OpenGap {
  readonly shard: string;
  readonly entity_id: string;
  readonly missing_from: number;
  readonly held: number;
  readonly waiting_ms: number;
}

async function openGaps(worker: WorkerProcess): Promise<OpenGap[]> {
  const { shards } = await worker.status();
  return shards.flatMap(({ shard, open_gaps }: { shard: number; open_gaps: object[] }) =>
    open_gaps.map((gap) => ({ ...gap, shard: String(shard) })),
  );
}

/** Two workers, each with one shard, and a way to publish to the wrong shard of an entity, as after a change of the ring. */
async function useTwoOwners(t: TestContext, entityId: string) {
  const run = await useRun(t);
  const owners = await Promise.all(['0', '1'].map((shards) => run.worker({ WORKER_SHARDS: shards })));
  await run.publish(of(entityId, 1));
  await run.untilApplied(1);
  const arrived = await Promise.all(owners.map((owner) => owner.metric('inorder_deliveries_total')));
  const [home, elsewhere] = arrived[0] === 1 ? [0, 1] : [1, 0];
  const channel = await run.channel();
  const { exchange } = await channel.assertExchange(`${run.stream}.elsewhere`, 'direct', { autoDelete: true });
  await channel.bindQueue(run.queue(elsewhere), exchange, entityId);
  const publishElsewhere = async (...sequences: readonly number[]) => {
    for (const event of of(entityId, ...sequences))
      channel.publish(exchange, entityId, bodyOf(event), { persistent: true, contentType: 'application/json' });
    await channel.waitForConfirms();
  };
  return { run, home: owners[home] as WorkerProcess, elsewhere: owners[elsewhere] as WorkerProcess, publishElsewhere };
}

test('a gap that opens reads the store again, so what another owner has applied meanwhile closes it at once', async (t) => {
  const { run, home, elsewhere, publishElsewhere } = await useTwoOwners(t, 'moved');
  await publishElsewhere(2, 3);
  await run.untilApplied(3);
  await run.publish(of('moved', 4, 5));
  // The next reading of an open gap would come five seconds later.
  await run.untilApplied(5, 4_000);
  await assertLedger(home, 3, { applied: 3 });
  await assertLedger(elsewhere, 2, { applied: 2 });
  await run.assertBalanced(1, 5);
});

test('while a gap is open the store is read now and then, so what another owner applies later closes it long before its deadline', async (t) => {
  const { run, home, elsewhere, publishElsewhere } = await useTwoOwners(t, 'moving');
  await run.publish(of('moving', 5, 4));
  await untilHeld(home, 2);
  await publishElsewhere(2, 3);
  await run.untilApplied(5);
  await assertLedger(home, 3, { applied: 3 });
  await assertLedger(elsewhere, 2, { applied: 2 });
  await run.assertBalanced(1, 5);
});

test('what is held behind a gap is applied in order as soon as the gap closes, piece by piece', async (t) => {
  const run = await useRun(t);
  const worker = await run.worker();
  const entities = Array.from({ length: 20 }, (_, index) => `entity-${index}`);
  const forAll = (...sequences: readonly number[]) =>
    sequences.flatMap((sequence) => entities.flatMap((entityId) => of(entityId, sequence)));
  await run.publish(forAll(1, 9, 8, 4, 12, 6));
  await untilHeld(worker, 100);
  assert.equal(await worker.metric('message_buffer_size', { entity_type: 'trace' }), 100);
  assert.equal(await worker.metric('inorder_gaps_open'), 20);
  assert.equal(await run.applied(), 20, 'nothing runs ahead');
  await run.publish(forAll(7, 3, 2));
  await untilApplied(run.redisUrl, run.stream, entities.length, 4);
  await untilHeld(worker, 100);
  assert.deepEqual(new Set((await openGaps(worker)).map(({ missing_from }) => missing_from)), new Set([5]));
  await run.publish(forAll(5, 11, 10));
  await assertLedger(worker, 240, { applied: 240 });
  assert.equal(await worker.metric('message_buffer_size'), 0);
  assert.equal(await worker.metric('inorder_gaps_open'), 0);
  await run.assertBalanced(entities.length, 12);
});

test('at the deadline all that is held is dead-lettered in sequence order and the entity parked, while others of its shard flow', async (t) => {
  const run = await useRun(t, short);
  const worker = await run.worker();
  await run.publish(of('stuck', 1, 6, 5, 4));
  await untilHeld(worker, 3);
  const { shard } = (await openGaps(worker))[0] as OpenGap;
  const others = interleaved(20, 10, 'other');
  await run.publish(others);
  const applied = () => worker.metric('inorder_events_total', { outcome: 'applied' });
  await waitFor(async () => (await applied()) === 1 + others.length, { what: 'the others applied' });
  assert.ok(
    (await worker.metric('inorder_events_total', { outcome: 'applied', shard })) > 10,
    'some of them in the shard of the stuck one',
  );
  assert.equal(await worker.metric('inorder_held'), 3, 'it is still stuck');

  await untilParked(run, 'stuck');
  await run.publish(of('stuck', 8, 7));
  await assertLedger(worker, 206, { applied: 201, deadLettered: { gap_timeout: 3, entity_parked: 2 } });
  const { version, types, parked } = await storedOf(run, 'stuck');
  assert.deepEqual({ version, types }, { version: 1, types: ['e1'] });
  assert.deepEqual({ ...parked, at: null, detail: null }, { reason: 'gap_timeout', sequence: 4, detail: null, at: null, replaying: false });
  const letters = await deadLettersOf(run, 5);
  assert.deepEqual(
    letters.map(({ sequence, reason }) => [sequence, reason]),
    [
      [4, 'gap_timeout'],
      [5, 'gap_timeout'],
      [6, 'gap_timeout'],
      [8, 'entity_parked'],
      [7, 'entity_parked'],
    ],
  );
  assert.equal(parked?.detail, letters[0]?.detail);
  const [, waitedMs] = /^waited (\d+) ms for sequences 2 to 3$/.exec(letters[0]?.detail ?? '') ?? [];
  assert.ok(Number(waitedMs) >= shortMs, letters[0]?.detail);
  assert.equal(letters[4]?.detail, 'the entity is parked at version 1');
  await run.assertNothingLeft({ deadLetters: 5 });
});

test('the missing event of a parked entity is applied however late it comes; the entity stays parked and holds nothing any more', async (t) => {
  const run = await useRun(t, { GAP_TIMEOUT_MS: '500' });
  const worker = await run.worker();
  await run.publish(of('late', 1, 4));
  await untilParked(run, 'late');
  // The second of two missing ones comes first: it has no place yet, and follows the others.
  await run.publish(of('late', 3));
  await assertLedger(worker, 3, { applied: 1, deadLettered: { gap_timeout: 1, entity_parked: 1 } });
  await run.publish(of('late', 2));
  await assertLedger(worker, 4, { applied: 2, deadLettered: { gap_timeout: 1, entity_parked: 1 } });
  const ready = await storedOf(run, 'late');
  assert.deepEqual([ready.version, ready.parked?.reason, ready.parked?.sequence], [2, 'gap_timeout', 4]);
  // Another that comes too early, the next in line again, and copies of what was applied.
  await run.publish(of('late', 9, 3, 2, 1));
  await assertLedger(worker, 8, { applied: 3, duplicate: 2, deadLettered: { gap_timeout: 1, entity_parked: 2 } });
  const { version, types, parked } = await storedOf(run, 'late');
  assert.deepEqual([version, types, parked?.reason], [3, ['e1', 'e2', 'e3'], 'gap_timeout']);
  assert.equal(await worker.metric('message_ordering_violations_total'), 1, 'what follows a parked entity is no violation of its own');
  await run.assertNothingLeft({ deadLetters: 3 });
});

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  test(`a gap handed over by ${signal} keeps its events and their order; its deadline counts from when the successor holds them`, async (t) => {
    const run = await useRun(t, short);
    const first = await run.worker();
    const second = await run.worker();
    const closing = Array.from({ length: 11 }, (_, index) => `closes-${index}`);
    const entities = ['stays-open', ...closing];
    const held = 4 * entities.length;
    await run.publish(entities.flatMap((entityId) => of(entityId, 1, 4, 3, 5, 4)));
    await untilHeld(first, held);
    await waitFor(async () => (await openGaps(first)).every(({ waiting_ms }) => waiting_ms >= 500), {
      what: 'a part of the deadline to pass',
    });
    assert.equal(await first.metric('inorder_events_total', { outcome: 'applied' }), entities.length);
    const handedOverAtMs = performance.now();
    if (signal === 'SIGTERM') await run.end(first);
    else await run.kill(first);
    await untilHeld(second, held);
    await run.publish(closing.flatMap((entityId) => of(entityId, 2)));
    await untilParked(run, 'stays-open');
    const afterMs = performance.now() - handedOverAtMs;
    assert.ok(afterMs >= shortMs, `the deadline passed ${Math.round(afterMs)} ms after the hand-over`);

    const letters = await deadLettersOf(run, 4);
    assert.deepEqual(
      letters.map(({ entityId, sequence, reason }) => [entityId, sequence, reason]),
      [3, 4, 4, 5].map((sequence) => ['stays-open', sequence, 'gap_timeout']),
    );
    // The broker may lose the last acknowledgements of the first: then what it had applied comes again, as duplicates.
    const arrived = await second.metric('inorder_deliveries_total');
    const again = arrived - held - closing.length;
    await assertLedger(second, arrived, {
      applied: 4 * closing.length,
      duplicate: closing.length + again,
      deadLettered: { gap_timeout: 4 },
    });
    const versions = [...(await readTraces(run.redisUrl, run.stream))].map(([entityId, { version }]) => [entityId, version]);
    assert.deepEqual(Object.fromEntries(versions), { 'stays-open': 1, ...Object.fromEntries(closing.map((entityId) => [entityId, 5])) });
    await run.assertNothingLeft({ deadLetters: 4 });
  });
}

test('copies of held events are held with them: one is applied, the others are duplicates, and one that says something else is a conflict', async (t) => {
  const run = await useRun(t);
  const worker = await run.worker();
  await run.publish(of('copied', 1, 4, 3, 4, 3, 3));
  const channel = await run.channel();
  const other = bodyOf({ entityId: 'copied', sequence: 3 }, { other: true });
  channel.publish(run.stream, 'copied', other, { persistent: true, contentType: 'application/json' });
  await channel.waitForConfirms();
  await untilHeld(worker, 6);
  await run.publish(of('copied', 1, 2, 2, 4));
  await assertLedger(worker, 11, { applied: 4, duplicate: 6, deadLettered: { sequence_conflict: 1 } });
  const conflict = { entityId: 'copied', sequence: 3, reason: 'sequence_conflict', detail: 'another payload was applied under sequence 3' };
  assert.deepEqual(await deadLettersOf(run, 1), [conflict]);
  assert.equal((await storedOf(run, 'copied')).parked, null);
  assert.equal(await worker.metric('message_ordering_violations_total'), 1, 'a copy is no violation of its own');
  await run.assertNothingLeft({ deadLetters: 1 });
});

test('an entity of which too much is held ends its gap at once: all of it is dead-lettered as buffer_overflow', async (t) => {
  const run = await useRun(t, { MAX_BUFFERED_PER_ENTITY: '5' });
  const worker = await run.worker();
  await run.publish([...of('full', 1, 3, 4, 5, 6), ...of('beside', 1, 3, 4, 5, 6)]);
  await untilHeld(worker, 8);
  await run.publish(of('full', 7));
  await untilParked(run, 'full');
  await run.publish(of('full', 8));
  const letters = await deadLettersOf(run, 6);
  const overflow = [3, 4, 5, 6, 7].map((sequence) => [sequence, 'buffer_overflow']);
  assert.deepEqual(
    letters.map(({ sequence, reason }) => [sequence, reason]),
    [...overflow, [8, 'entity_parked']],
  );
  assert.equal(letters[0]?.detail, 'waited for sequence 2 until 5 events of the entity were held, which is the limit');
  assert.equal((await storedOf(run, 'full')).parked?.reason, 'buffer_overflow');
  await run.publish(of('beside', 2));
  await assertLedger(worker, 13, { applied: 7, deadLettered: { buffer_overflow: 5, entity_parked: 1 } });
  await run.assertNothingLeft({ deadLetters: 6 });
});

test('a shard that holds four fifths of its prefetch ends the gap nearest to its end, so the events that others wait for still arrive', async (t) => {
  const run = await useRun(t, { PREFETCH: '20' });
  const worker = await run.worker();
  // Of three entities two share one of two shards, at least.
  for (const [index, entityId] of ['a', 'b', 'c'].entries()) {
    await run.publish(of(entityId, 1, 3));
    await untilHeld(worker, index + 1);
  }
  const gaps = await openGaps(worker);
  const crowded = ['0', '1'].find((shard) => gaps.filter((gap) => gap.shard === shard).length >= 2);
  const together = gaps.filter(({ shard }) => shard === crowded).sort((a, b) => b.waiting_ms - a.waiting_ms);
  const [oldest, young] = together.map(({ entity_id }) => entity_id) as [string, string];
  const filling = Array.from({ length: 16 - together.length }, (_, index) => 4 + index);
  await run.publish(of(young, ...filling));
  await untilParked(run, oldest);
  const [letter] = await deadLettersOf(run, 1);
  assert.deepEqual([letter?.entityId, letter?.sequence, letter?.reason], [oldest, 3, 'buffer_overflow']);
  const waiting = ['a', 'b', 'c'].filter((entityId) => entityId !== oldest);
  await run.publish(waiting.flatMap((entityId) => of(entityId, 2)));
  await assertLedger(worker, 8 + filling.length, { applied: 7 + filling.length, deadLettered: { buffer_overflow: 1 } });
  await run.assertNothingLeft({ deadLetters: 1 });
});

test('by default an entity begins with sequence 1: what comes first with a higher one waits for all before it', async (t) => {
  const run = await useRun(t, { GAP_TIMEOUT_MS: '500' });
  const worker = await run.worker();
  await run.publish(of('running', 7, 8));
  await untilParked(run, 'running');
  await assertLedger(worker, 2, { deadLettered: { gap_timeout: 2 } });
  const { version, types, parked } = await storedOf(run, 'running');
  assert.deepEqual([version, types, parked?.sequence], [0, [], 7]);
  assert.match(parked?.detail ?? '', /^waited \d+ ms for sequences 1 to 6$/);
  assert.equal(await worker.metric('message_sequence_gap_sum'), 6);
  await run.assertNothingLeft({ deadLetters: 2 });
});

test('with FIRST_SEQUENCE=any the first event seen is the base line: what lies before it is late, and gaps above it are gaps', async (t) => {
  const run = await useRun(t, { FIRST_SEQUENCE: 'any' });
  const worker = await run.worker();
  await run.publish([...of('running', 7, 8, 6, 7), ...of('new', 1, 2)]);
  await assertLedger(worker, 6, { applied: 4, duplicate: 1, deadLettered: { late: 1 } });
  assert.equal(await worker.metric('message_ordering_violations_total'), 0, 'a base line is no violation');
  await run.publish(of('running', 11, 10));
  await untilHeld(worker, 2);
  await run.publish(of('running', 9, 1));
  await assertLedger(worker, 10, { applied: 7, duplicate: 1, deadLettered: { late: 2 } });
  const { version, types, parked } = await storedOf(run, 'running');
  assert.deepEqual([version, types, parked], [11, ['e7', 'e8', 'e9', 'e10', 'e11'], null]);
  const late = (sequence: number) => ({
    entityId: 'running',
    sequence,
    reason: 'late',
    detail: `sequence ${sequence} lies before what is remembered of this entity`,
  });
  assert.deepEqual(await deadLettersOf(run, 2), [late(6), late(1)]);
  await assertAtRest(run, worker, 2);
});

test('with GAP_TIMEOUT_ACTION=skip-ahead the gap is passed over at its deadline, and what comes after all is dead-lettered as late', async (t) => {
  const run = await useRun(t, { GAP_TIMEOUT_MS: '1500', GAP_TIMEOUT_ACTION: 'skip-ahead' });
  const worker = await run.worker();
  await run.publish(of('ahead', 1, 5, 4, 4));
  await assertLedger(worker, 4, { applied: 3, duplicate: 1 });
  await run.publish(of('ahead', 6, 3, 4));
  await assertLedger(worker, 7, { applied: 4, duplicate: 2, deadLettered: { late: 1 } });
  const { version, holes, types, parked } = await storedOf(run, 'ahead');
  assert.deepEqual({ version, holes, types, parked }, { version: 6, holes: '2-3', types: ['e1', 'e4', 'e5', 'e6'], parked: null });
  const [letter] = await deadLettersOf(run, 1);
  assert.deepEqual([letter?.entityId, letter?.sequence, letter?.reason], ['ahead', 3, 'late']);
  // It may be decided before 6 is committed or after.
  assert.match(letter?.detail ?? '', /^version [56] has passed over sequence 3$/);
  await assertAtRest(run, worker, 1);
});

/**
 * The four strategies for an event that comes before its predecessor, on a real broker and a real Redis: what is
 * applied, what becomes of the rest, and that every message is accounted for.
 */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { useServices, waitFor } from '../support/services.ts';
import { assertAccount, violationsOf } from '../support/stream-account.ts';
import { StreamRun } from '../support/stream-run.ts';
import { readTraces, type TraceEvent } from '../support/trace.ts';

async function useStrategy(t: TestContext, strategy: string, more: Readonly<Record<string, string>> = {}) {
  const services = await useServices(t);
  const run = new StreamRun(t, `strategy-${strategy.replaceAll('_', '-')}`, { ...services, variables: { ORDERING_VIOLATION_STRATEGY: strategy, ...more } });
  const trace = async (entityId: string) => (await readTraces(run.redisUrl, run.stream)).get(entityId);
  return { run, worker: await run.worker(), trace };
}

const at = (entityId: string, ...sequences: number[]): TraceEvent[] => sequences.map((sequence) => ({ entityId, sequence }));
const types = (...sequences: number[]) => sequences.map((sequence) => `e${sequence}`);

test('buffer: what comes too early waits, and everything is applied once and in order', async (t) => {
  const { run, worker, trace } = await useStrategy(t, 'buffer');
  await run.publish([...at('a', 1, 4, 2, 3, 3), ...at('b', 2, 12, 1), ...at('b', 3, 4, 5, 6, 7, 8, 9, 10, 11), ...at('a', 1)]);
  await assertAccount(run, worker, { applied: 16, duplicate: 2 });
  assert.deepEqual(await trace('a'), { version: 4, types: types(1, 2, 3, 4), parked: false });
  assert.deepEqual((await trace('b'))?.types, types(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12));
  // 4 behind 1, and 2 behind nothing; 12 behind 2, which is held.
  assert.deepEqual(await violationsOf(worker), { total: 3, gaps: 3, missing: 2 + 1 + 9 });
});

test('fail: what comes too early parks its entity, and its predecessor is still applied', async (t) => {
  const { run, worker, trace } = await useStrategy(t, 'fail');
  await run.publish([...at('a', 1, 3, 2, 4), ...at('b', 1, 2, 3)]);
  await assertAccount(run, worker, { applied: 5, 'dead-lettered': 2 });
  assert.deepEqual(await trace('a'), { version: 2, types: types(1, 2), parked: true });
  assert.deepEqual(await trace('b'), { version: 3, types: types(1, 2, 3), parked: false });
  assert.deepEqual(await violationsOf(worker), { total: 1, gaps: 1, missing: 1 });
});

test('skip: what comes too early is skipped with the gap before it, also when the gap fills later', async (t) => {
  const { run, worker, trace } = await useStrategy(t, 'skip');
  await run.publish(at('a', 1, 5));
  await waitFor(async () => (await trace('a'))?.version === 5, { what: 'the version to move' });
  await run.publish(at('a', 3, 6, 5, 2, 4, 7));
  await assertAccount(run, worker, { applied: 3, skipped: 5 });
  assert.deepEqual(await trace('a'), { version: 7, types: types(1, 6, 7), parked: false });
  assert.deepEqual(await violationsOf(worker), { total: 1, gaps: 1, missing: 3 });
});

test('log_and_process: everything is applied once as it comes, and what fills a gap later, too', async (t) => {
  const { run, worker, trace } = await useStrategy(t, 'log_and_process');
  await run.publish(at('a', 2, 1, 9, 5, 5, 10));
  await assertAccount(run, worker, { applied: 5, duplicate: 1 });
  await run.publish(at('a', 9, 4));
  await assertAccount(run, worker, { applied: 6, duplicate: 2 });
  assert.deepEqual(await trace('a'), { version: 10, types: types(2, 1, 9, 5, 10, 4), parked: false });
  assert.deepEqual(await violationsOf(worker), { total: 2, gaps: 2, missing: 1 + 6 });
});

test('the detector tells of the last violations, of how many entities and of which gaps', async (t) => {
  const { run, worker } = await useStrategy(t, 'log_and_process');
  await run.publish([...at('a', 1, 4), ...at('b', 7)]);
  await assertAccount(run, worker, { applied: 3 });
  const { violations } = await worker.status();
  assert.deepEqual(
    { total: violations.total, entities: violations.affected_entities, average: violations.average_gap, largest: violations.max_gap },
    { total: 2, entities: 2, average: 4, largest: 6 },
  );
  assert.deepEqual(violations.recent.map((one: any) => [one.entity_id, one.expected, one.received]).sort(), [['a', 2, 4], ['b', 1, 7]]);
});

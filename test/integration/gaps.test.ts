/**
 * The life of a gap on a real broker and a real Redis: it opens, closes in time, or ends with its entity parked;
 * meanwhile copies arrive, the shard changes hands, and other entities go on.
 */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { commands } from '../../src/cli/commands.ts';
import { runCli } from '../../src/cli/run.ts';
import { keptIo } from '../support/command-io.ts';
import { useServices, waitFor } from '../support/services.ts';
import { assertAccount } from '../support/stream-account.ts';
import { StreamRun } from '../support/stream-run.ts';
import { readTraces, type TraceEvent } from '../support/trace.ts';
import type { WorkerProcess } from '../support/worker-process.ts';

async function useStream(t: TestContext, name: string, variables: Readonly<Record<string, string>> = {}) {
  const services = await useServices(t);
  const run = new StreamRun(t, name, { ...services, variables });
  const trace = async (entityId: string) => (await readTraces(run.redisUrl, run.stream)).get(entityId);
  const letters = async () => {
    const { io, out } = keptIo({ env: { AMQP_URL: run.amqpUrl, REDIS_URL: run.redisUrl, STREAM: run.stream } });
    assert.equal(await runCli({ commands, version: '0' }, ['dead-letters', 'list', '--json'], io), 0, out.stderr);
    return out.stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line));
  };
  const untilDeadLettered = (count: number) =>
    waitFor(async () => (await run.ready(run.deadLetters)) === count, { what: `${count} dead letters`, timeoutMs: 30_000 });
  return { run, trace, letters, untilDeadLettered };
}

const at = (entityId: string, ...sequences: number[]): TraceEvent[] => sequences.map((sequence) => ({ entityId, sequence }));
const types = (last: number, first = 1) => Array.from({ length: last - first + 1 }, (_, index) => `e${first + index}`);

function untilHeld(worker: WorkerProcess, count: number) {
  return waitFor(async () => (await worker.metric('inorder_held')) === count, { what: `${count} held events`, timeoutMs: 30_000 });
}

/** Only one of the two has the shard of the entity. */
function untilOneHolds(workers: readonly WorkerProcess[], count: number): Promise<WorkerProcess> {
  return waitFor(
    async () => {
      for (const worker of workers) if ((await worker.metric('inorder_held')) === count) return worker;
      return null;
    },
    { what: `${count} held events at one worker`, timeoutMs: 30_000 },
  );
}

test('a gap that closes in time leaves no trace, however often its events came', async (t) => {
  const { run, trace } = await useStream(t, 'gap-closes');
  const worker = await run.worker();
  await run.publish(at('a', 1, 3, 5, 3, 5, 5));
  await untilHeld(worker, 5);
  const { shards } = await worker.status();
  const gaps = shards.flatMap((shard: any) => shard.open_gaps);
  assert.deepEqual(gaps.map((gap: any) => [gap.entity_id, gap.version, gap.missing_from, gap.held]), [['a', 1, 2, 5]]);
  await run.publish(at('a', 4, 2));
  await assertAccount(run, worker, { applied: 5, duplicate: 3 });
  assert.deepEqual(await trace('a'), { version: 5, types: types(5), parked: false });
  await run.assertNothingLeft();
});

test('when its time is over, the entity is parked and all that was held is dead-lettered in order; others go on', async (t) => {
  const { run, trace, letters, untilDeadLettered } = await useStream(t, 'gap-ends', { GAP_TIMEOUT_MS: '1500' });
  const worker = await run.worker();
  await run.publish([...at('a', 1, 4, 3, 6, 4), ...at('b', 1)]);
  await untilHeld(worker, 4);
  await run.publish(at('b', 2, 3));
  await waitFor(async () => (await trace('b'))?.version === 3, { what: 'the other entity' });
  assert.equal(await run.ready(run.deadLetters), 0);
  await untilDeadLettered(4);
  const dead = await letters();
  assert.deepEqual(dead.map(({ sequence }) => sequence), [3, 4, 4, 6]);
  for (const { reason, detail, entity_id } of dead) {
    assert.deepEqual([entity_id, reason], ['a', 'gap_timeout']);
    assert.match(detail, /^waited \d+ ms for sequence 2$/);
  }
  assert.equal((await trace('a'))?.parked, true);
  await run.publish(at('a', 7, 5));
  await untilDeadLettered(6);
  assert.deepEqual((await letters()).slice(4).map(({ sequence, reason, detail }) => [sequence, reason, detail]), [
    [7, 'entity_parked', 'the entity is parked at version 1'],
    [5, 'entity_parked', 'the entity is parked at version 1'],
  ]);
  // The missing event is applied when it comes after all; what it was missing to has to be replayed.
  await run.publish(at('a', 2, 1));
  await assertAccount(run, worker, { applied: 5, duplicate: 1, 'dead-lettered': 6 });
  assert.deepEqual(await trace('a'), { version: 2, types: types(2), parked: true });
  assert.deepEqual((await trace('b'))?.types, types(3));
});

test('skip-ahead goes on after the gap, and what was passed over is late', async (t) => {
  const { run, trace, letters } = await useStream(t, 'gap-skipped', { GAP_TIMEOUT_MS: '400', GAP_TIMEOUT_ACTION: 'skip-ahead' });
  const worker = await run.worker();
  await run.publish(at('a', 1, 4, 5));
  await waitFor(async () => (await trace('a'))?.version === 5, { what: 'the gap to be passed', timeoutMs: 30_000 });
  await run.publish(at('a', 3, 6, 5));
  await assertAccount(run, worker, { applied: 4, duplicate: 1, 'dead-lettered': 1 });
  assert.deepEqual(await trace('a'), { version: 6, types: ['e1', 'e4', 'e5', 'e6'], parked: false });
  assert.deepEqual((await letters()).map(({ sequence, reason }) => [sequence, reason]), [[3, 'late']]);
});

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  test(`a gap survives its owner, ended by ${signal}: the next one holds what it held, and goes on in order`, { timeout: 120_000 }, async (t) => {
    const { run, trace } = await useStream(t, `gap-${signal.toLowerCase()}`);
    const workers = [await run.worker(), await run.worker()];
    await run.publish(at('a', 1, 4, 3, 6));
    const owner = await untilOneHolds(workers, 3);
    const successor = workers.find((worker) => worker !== owner)!;
    if (signal === 'SIGTERM') await run.end(owner);
    else await owner.kill();
    await untilHeld(successor, 3);
    await run.publish(at('a', 5, 2));
    await waitFor(async () => (await trace('a'))?.version === 6, { what: 'the whole entity', timeoutMs: 30_000 });
    assert.deepEqual(await trace('a'), { version: 6, types: types(6), parked: false });
    assert.equal(await run.ready(run.deadLetters), 0);
  });
}

test('a full buffer of an entity ends its gap early, and nothing is dropped', async (t) => {
  const { run, letters, untilDeadLettered } = await useStream(t, 'gap-overflow', { MAX_BUFFERED_PER_ENTITY: '5' });
  const worker = await run.worker();
  await run.publish([...at('a', 1, 3, 4, 5, 6), ...at('b', 2)]);
  await untilHeld(worker, 5);
  assert.equal(await run.ready(run.deadLetters), 0);
  await run.publish(at('a', 7));
  await untilDeadLettered(5);
  const dead = await letters();
  assert.deepEqual(dead.map(({ sequence, reason }) => [sequence, reason]), [3, 4, 5, 6, 7].map((sequence) => [sequence, 'buffer_overflow']));
  assert.match(dead[0].detail, /waited for sequence 2 until 5 events of the entity were held/);
  await untilHeld(worker, 1);
});

test('a full shard ends its oldest gap early, so that a missing event can still be delivered', async (t) => {
  const { run, letters, trace, untilDeadLettered } = await useStream(t, 'gap-window', { PREFETCH: '10', SHARDS: '1' });
  const worker = await run.worker();
  // Of the window of 10 at most 8 may be held.
  const entities = Array.from({ length: 9 }, (_, index) => `g${index}`);
  for (const [index, entityId] of entities.entries()) {
    await run.publish(at(entityId, 2));
    if (index < 7) await untilHeld(worker, index + 1);
  }
  await untilDeadLettered(2);
  assert.deepEqual((await letters()).map(({ entity_id, reason }) => [entity_id, reason]), entities.slice(0, 2).map((entityId) => [entityId, 'buffer_overflow']));
  await run.publish(entities.slice(2).flatMap((entityId) => at(entityId, 1)));
  await untilHeld(worker, 0);
  for (const entityId of entities.slice(2)) assert.deepEqual((await trace(entityId))?.types, types(2));
});

test('FIRST_SEQUENCE=any takes the first event of an entity for its base line, and what lies before it is late', async (t) => {
  const { run, trace, letters } = await useStream(t, 'adopt', { FIRST_SEQUENCE: 'any' });
  const worker = await run.worker();
  await run.publish(at('a', 41));
  await waitFor(async () => (await trace('a'))?.version === 41, { what: 'the base line' });
  await run.publish(at('a', 43, 42, 41, 7));
  await assertAccount(run, worker, { applied: 3, duplicate: 1, 'dead-lettered': 1 });
  assert.deepEqual(await trace('a'), { version: 43, types: types(43, 41), parked: false });
  assert.deepEqual((await letters()).map(({ sequence, reason }) => [sequence, reason]), [[7, 'late']]);
});

test('FIRST_SEQUENCE=1 holds an entity that does not begin at 1, and parks it in the end', async (t) => {
  const { run, letters, trace, untilDeadLettered } = await useStream(t, 'begin-at-1', { GAP_TIMEOUT_MS: '400' });
  await run.worker();
  await run.publish(at('a', 2));
  await untilDeadLettered(1);
  assert.match((await letters())[0].detail, /for sequence 1$/);
  assert.deepEqual(await trace('a'), { version: 0, types: [], parked: true });
});

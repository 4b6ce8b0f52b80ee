/** AUTO_REPLAY: workers replay what waited for a missing event by themselves, and nothing else. */
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import test, { type TestContext } from 'node:test';
import amqp from 'amqplib';
import { withOperatorLock } from '../../src/dead-letters/letter-broker.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import { systemTime } from '../../src/time.ts';
import { moduleUrl } from '../support/checkout.ts';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { readTraces, type TraceEvent } from '../support/trace.ts';
import type { WorkerProcess } from '../support/worker-process.ts';

const automatic = { AUTO_REPLAY: 'true' };

async function useStream(t: TestContext, name: string, more: Readonly<Record<string, string>> = {}) {
  const services = await useServices(t);
  const run = new StreamRun(t, name, { ...services, variables: { GAP_TIMEOUT_MS: '300', ...more } });
  const store = createRedisStore({ url: run.redisUrl, stream: run.stream, idempotencyTtlSeconds: 60 });
  t.after(() => store.close());
  const untilDeadLettered = (count: number) =>
    waitFor(async () => (await run.ready(run.deadLetters)) === count, { what: `${count} dead letters`, timeoutMs: 30_000 });
  const trace = async (entityId: string) => (await readTraces(run.redisUrl, run.stream)).get(entityId);
  const untilRecovered = (entityId: string, version: number) =>
    waitFor(async () => ((found) => found?.version === version && !found.parked)(await trace(entityId)), {
      what: `${entityId} recovered at ${version}`,
      timeoutMs: 30_000,
    });
  const audited = async () => {
    const records: string[] = [];
    for await (const { who, action, entityId, what, reason } of store.operator.readAudit())
      records.push(`${who} ${action} ${entityId}: ${what}: ${reason}`);
    return records;
  };
  return { run, untilDeadLettered, untilRecovered, trace, audited };
}

const at = (entityId: string, ...sequences: number[]): TraceEvent[] => sequences.map((sequence) => ({ entityId, sequence }));
const replayed = (worker: WorkerProcess) => worker.metric('inorder_auto_replayed_letters_total');

test('when the missing event arrives, the dead letters that waited for it go by themselves, and others stay', async (t) => {
  const { run, untilDeadLettered, untilRecovered, audited } = await useStream(t, 'auto');
  const worker = await run.worker(automatic);
  await run.publish([...at('a', 1, 2, 5, 4, 7, 6), ...at('b', 1, 3)]);
  await untilDeadLettered(5);
  await run.publish(at('a', 3));
  await untilRecovered('a', 7);
  // Told and counted when it is done, which is after the last letter was applied.
  await waitFor(async () => (await worker.metric('inorder_auto_replays_total', { outcome: 'replayed' })) > 0, {
    what: 'the end of the replay',
  });
  assert.equal(await replayed(worker), 4);
  assert.deepEqual(await audited(), ['worker replay a: replays 4 dead letters: what was missing has arrived']);
  assert.equal(worker.output.split('dead letters were replayed: what was missing has arrived').length, 2);
  assert.equal(await worker.metric('inorder_auto_replays_total', { outcome: 'replayed' }), 1);
  await run.assertNothingLeft({ deadLetters: 1 });
});

test('unless it is asked for, nothing goes by itself; a worker that is asked finds what was ready before it started', async (t) => {
  const { run, untilDeadLettered, untilRecovered, trace } = await useStream(t, 'auto-later');
  const first = await run.worker();
  await run.publish([...at('a', 2, 3), ...at('b', 2, 3)]);
  await untilDeadLettered(4);
  await run.publish(at('a', 1));
  await waitFor(async () => (await trace('a'))?.version === 1, { what: 'the missing event' });
  await run.end(first);
  assert.equal(await run.ready(run.deadLetters), 4);
  await run.worker(automatic);
  await untilRecovered('a', 3);
  await run.assertNothingLeft({ deadLetters: 2 });
});

test('a worker that takes a shard over looks for what its owner could not replay any more', async (t) => {
  const { run, untilDeadLettered, untilRecovered, trace } = await useStream(t, 'auto-takeover');
  const owner = await run.worker();
  // The standby has looked at its start, when nothing was there.
  const standby = await run.worker(automatic);
  await waitFor(async () => (await standby.metric('inorder_auto_replays_total')) > 0, { what: 'the search at the start' });
  await run.publish(at('a', 2, 3));
  await untilDeadLettered(2);
  await run.publish(at('a', 1));
  await waitFor(async () => (await trace('a'))?.version === 1, { what: 'the missing event' });
  await run.end(owner);
  await run.publish(at('a', 4));
  await untilRecovered('a', 4);
});

test('what fails again goes no second time, neither at once nor after a restart', async (t) => {
  const processor = fileURLToPath(moduleUrl('test/support/ledger-processor.ts'));
  const { run, untilDeadLettered, trace } = await useStream(t, 'auto-fails', { PROCESSOR: processor, ENTITY_TYPE: 'growing' });
  const worker = await run.worker(automatic);
  const channel = await run.channel();
  const publish = async (sequence: number, type: string, entityId = 'a') => {
    const body = JSON.stringify({ id: `${entityId}${sequence}`, entity_id: entityId, sequence, type, data: { text: String(sequence) } });
    channel.publish(run.stream, entityId, Buffer.from(body), { persistent: true, contentType: 'application/json' });
    await channel.waitForConfirms();
  };
  for (const [sequence, type] of [
    [2, 'Grown'],
    [3, 'Broken'],
    [4, 'Grown'],
  ] as const)
    await publish(sequence, type);
  await untilDeadLettered(3);
  await publish(1, 'Grown');
  await waitFor(async () => (await replayed(worker)) === 3, { what: 'the replay' });
  await waitFor(async () => (await worker.metric('inorder_dead_letters_total', { reason: 'handler_failed' })) === 1, {
    what: 'the failure',
  });
  await untilDeadLettered(2);
  // Another entity goes its way behind it: whatever was to come for the first has come by then.
  await publish(2, 'Grown', 'b');
  await untilDeadLettered(3);
  await publish(1, 'Grown', 'b');
  await waitFor(async () => (await trace('b'))?.parked === false, { what: 'the other entity' });
  assert.equal(await replayed(worker), 4);
  await run.end(worker);
  const next = await run.worker(automatic);
  await waitFor(async () => (await next.metric('inorder_auto_replays_total', { outcome: 'nothing' })) > 0, {
    what: 'the search at the start',
  });
  assert.equal(await replayed(next), 0);
  assert.deepEqual([(await trace('a'))?.version, await run.ready(run.deadLetters)], [2, 2]);
  // Corrected, it is applied, and what waited for it follows.
  await publish(3, 'Grown');
  await waitFor(async () => ((found) => found?.version === 4 && !found.parked)(await trace('a')), {
    what: 'the entity recovered',
    timeoutMs: 30_000,
  });
});

test('while somebody else changes dead letters it waits, and goes when they are done', async (t) => {
  const { run, untilDeadLettered, untilRecovered, trace } = await useStream(t, 'auto-lock');
  const worker = await run.worker(automatic);
  await run.publish(at('a', 2, 3));
  await untilDeadLettered(2);
  const connection = await amqp.connect(run.amqpUrl);
  t.after(() => connection.close());
  await withOperatorLock(connection, run.stream, { patienceMs: 0, time: systemTime }, async () => {
    await run.publish(at('a', 1));
    await waitFor(async () => (await worker.metric('inorder_auto_replays_total', { outcome: 'put_off' })) > 0, {
      what: 'a replay put off',
      timeoutMs: 30_000,
    });
    assert.deepEqual([await run.ready(run.deadLetters), (await trace('a'))?.parked], [2, true]);
  });
  assert.match(worker.output, /somebody else is changing the dead letters/);
  await untilRecovered('a', 3);
  await run.assertNothingLeft();
});

test('entities that are published to without a pause recover, each event applied once and in order', async (t) => {
  const { run, untilDeadLettered } = await useStream(t, 'auto-live');
  await run.worker(automatic);
  const names = Array.from({ length: 30 }, (_, index) => `e-${index}`);
  await run.publish(names.flatMap((name) => at(name, 2, 4, 3)));
  await untilDeadLettered(90);
  const live = (async () => {
    for (let sequence = 5; sequence <= 60; sequence++) await run.publish(names.flatMap((name) => at(name, sequence)));
  })();
  await run.publish(names.flatMap((name) => at(name, 1)));
  await live;
  await run.assertBalanced(names.length, 60);
  const traces = await readTraces(run.redisUrl, run.stream);
  assert.deepEqual(
    [...traces].filter(([, { parked }]) => parked),
    [],
  );
});

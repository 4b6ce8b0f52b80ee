/** GAP_REPAIR with real workers: what never comes is fetched from a source, and the books stay right. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { moduleUrl } from '../support/checkout.ts';
import { keptIo, runHere } from '../support/command-io.ts';
import { useServices, waitFor } from '../support/services.ts';
import { assertAtRest, assertLedger, deadLettersOf, storedOf } from '../support/stream-account.ts';
import { StreamRun } from '../support/stream-run.ts';
import { interleaved, readTraces, shuffled, type TraceEvent, untilApplied, wrongTraces } from '../support/trace.ts';

const source = moduleUrl('test/support/trace-source.ts').href;

async function useRun(t: TestContext, variables: Readonly<Record<string, string>> = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'gap-repair-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const log = join(directory, 'asked');
  const repair = { GAP_REPAIR: source, GAP_REPAIR_AFTER_MS: '200', SOURCE_LOG: log, SOURCE_AWAY: join(directory, 'away') };
  const run = new StreamRun(t, 'gap-repair', { ...(await useServices(t)), variables: { ...repair, ...variables } });
  const asked = () => (existsSync(log) ? readFileSync(log, 'utf8').trimEnd().split('\n') : []);
  return { run, asked, away: repair.SOURCE_AWAY };
}

function of(entityId: string, ...sequences: readonly number[]): TraceEvent[] {
  return sequences.map((sequence) => ({ entityId, sequence }));
}

test('missing events are fetched and applied; what was fetched is counted for itself, and a late delivery is a duplicate', async (t) => {
  const { run, asked } = await useRun(t);
  const worker = await run.worker();
  await run.publish(of('a', 1, 4, 5, 8));
  await run.untilApplied(8);
  assert.deepEqual((await storedOf(run, 'a')).types, ['e1', 'e2', 'e3', 'e4', 'e5', 'e6', 'e7', 'e8']);
  assert.deepEqual(asked(), ['a 2-3', 'a 6-7']);
  assert.equal(await worker.metric('inorder_repaired_events_total'), 4);
  assert.equal(await worker.metric('inorder_gap_repairs_total', { outcome: 'repaired' }), 2);
  await assertLedger(worker, 4, { applied: 4 });
  await run.publish(of('a', 3, 7));
  await assertLedger(worker, 6, { applied: 4, duplicate: 2 });
  await assertAtRest(run, worker, 0);
  await run.assertNothingLeft();
});

test('events that come by themselves in time are not asked for', async (t) => {
  const { run, asked } = await useRun(t, { GAP_REPAIR_AFTER_MS: '60000' });
  const worker = await run.worker();
  await run.publish(of('a', 2, 3, 1));
  await assertLedger(worker, 3, { applied: 3 });
  assert.deepEqual(asked(), []);
});

test('what the source lacks too is waited for, and dead-letters its successors as ever', async (t) => {
  const { run } = await useRun(t, { SOURCE_LACKS: 'a/3', GAP_TIMEOUT_MS: '2000' });
  const worker = await run.worker();
  await run.publish([...of('a', 1, 5), ...of('b', 1, 5)]);
  await assertLedger(worker, 4, { applied: 3, deadLettered: { gap_timeout: 1 } });
  const letters = await deadLettersOf(run, 1);
  assert.deepEqual(
    letters.map(({ entityId, sequence }) => [entityId, sequence]),
    [['a', 5]],
  );
  assert.deepEqual([(await storedOf(run, 'a')).version, (await storedOf(run, 'b')).version], [2, 5]);
  assert.ok((await worker.metric('inorder_gap_repairs_total', { outcome: 'missing' })) >= 1);
  await run.assertNothingLeft({ deadLetters: 1 });
});

test('a source that is away delays nobody else, and is asked again', async (t) => {
  const { run, away } = await useRun(t);
  writeFileSync(away, '');
  const worker = await run.worker();
  await run.publish([...of('a', 1, 3), ...of('b', 1, 2, 3)]);
  await waitFor(async () => (await worker.metric('inorder_gap_repairs_total', { outcome: 'failed' })) >= 2, { what: 'two failures' });
  assert.equal((await storedOf(run, 'b')).version, 3);
  rmSync(away);
  await run.untilApplied(6);
  await run.assertNothingLeft();
});

test('of many entities with holes everywhere each event is applied once and in order, also when the worker is killed', async (t) => {
  const { run } = await useRun(t);
  const entities = 40;
  const length = 30;
  const events = shuffled(interleaved(entities, length), 60).filter(({ sequence }, index) => index % 7 !== 0 || sequence === length);
  const first = await run.worker();
  await run.worker();
  await run.publish(events);
  await run.untilApplied((entities * length) / 4);
  await run.kill(first);
  await untilApplied(run.redisUrl, run.stream, entities, length, 60_000);
  assert.deepEqual(wrongTraces(await readTraces(run.redisUrl, run.stream)), []);
  await run.assertNothingLeft();
});

/** In this process, where the module has everything. */
async function replayWithRepair({ amqpUrl, redisUrl, stream }: StreamRun, ...words: string[]) {
  const env = { AMQP_URL: amqpUrl, REDIS_URL: redisUrl, STREAM: stream, GAP_REPAIR: source };
  const { io, out } = keptIo({ env });
  return { code: await runHere(['dead-letters', 'replay', '--yes', ...words], io), ...out };
}

test('a fetched event that cannot be processed parks its entity, and is fetched again by the replay once that is mended', async (t) => {
  const { run } = await useRun(t, { PROCESSOR: moduleUrl('test/support/mendable-processor.ts').href });
  const broken = await run.worker({ FAILS: 'a/2' });
  await run.publish(of('a', 1, 3));
  await assertLedger(broken, 2, { applied: 1, deadLettered: { entity_parked: 1 } });
  const { version, parked } = await storedOf(run, 'a');
  assert.deepEqual([version, parked?.reason, parked?.sequence], [1, 'handler_failed', 2]);
  assert.match(broken.output, /an event that was fetched from the source was refused/);
  await run.end(broken);
  await run.worker({ GAP_REPAIR: 'off' });
  const { code, stdout } = await replayWithRepair(run, '--entity=a', '--repair');
  assert.deepEqual(
    [code, stdout],
    [0, '  trace a at version 1: 3 replayable, with 2 from the source\n1 replayable\n1 replayed; 1 of 1 entities recovered\n'],
  );
  assert.equal((await storedOf(run, 'a')).types.join(' '), 'e1 e2 e3');
  await run.assertNothingLeft();
});

test('a replay fetches what parked entities wait for, publishes it in its place, and they recover', async (t) => {
  const { run, asked } = await useRun(t, { GAP_REPAIR: 'off', GAP_TIMEOUT_MS: '300' });
  await run.worker();
  await run.publish([...of('a', 1, 4, 5, 8), ...of('c', 1, 3)]);
  await deadLettersOf(run, 4);
  const replayed = await replayWithRepair(run, '--entity=a', '--repair');
  assert.deepEqual(
    [replayed.code, replayed.stdout],
    [0, '  trace a at version 1: 4-5, 8 replayable, with 2-3, 6-7 from the source\n3 replayable\n3 replayed; 1 of 1 entities recovered\n'],
  );
  assert.deepEqual(await storedOf(run, 'a').then(({ version, types, parked }) => [version, types.join(' '), parked]), [
    8,
    'e1 e2 e3 e4 e5 e6 e7 e8',
    null,
  ]);
  assert.deepEqual(asked(), []);
  const without = await replayWithRepair(run, '--entity=c');
  assert.deepEqual(
    [without.code, without.stdout.split('\n')[0]],
    [1, '  trace c at version 1: nothing replayable; 3 waits for 2: 2 has not arrived'],
  );
  await run.assertNothingLeft({ deadLetters: 1 });
});

/**
 * A gap's time on the real broker and the real store: it does not run while the missing event could not come, so that an event
 * whose predecessor lies in the queue is applied, whatever kept that there. The pauses are longer than the gap's timeout:
 * during them a clock that ran would end it.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { moduleUrl } from '../support/checkout.ts';
import { useRedisNode, useServices, waitFor } from '../support/services.ts';
import { assertLedger, storedOf } from '../support/stream-account.ts';
import { StreamRun } from '../support/stream-run.ts';
import { useTcpProxy } from '../support/tcp-proxy.ts';
import { bodyOf, type TraceEvent } from '../support/trace.ts';
import type { WorkerProcess } from '../support/worker-process.ts';

const gapTimeoutMs = 3_000;
const variables = { PREFETCH: '10', GAP_TIMEOUT_MS: String(gapTimeoutMs) };
const actions = ['dead-letter', 'skip-ahead'] as const;
const pauseMs = 3 * gapTimeoutMs;

const others: readonly TraceEvent[] = Array.from({ length: 15 }, (_, index) => ({ entityId: `other-${index}`, sequence: 1 }));
const b = (sequence: number): TraceEvent => ({ entityId: 'b', sequence });

interface Shard {
  readonly shard: number;
  readonly unsettled: number;
  readonly open_gaps: readonly unknown[];
}

function shardsOf(worker: WorkerProcess): Promise<readonly Shard[]> {
  return worker.status().then(({ shards }) => shards);
}

/** `b` waits for 1, and what is published from now on goes to its shard. */
async function holdSecond(run: StreamRun, worker: WorkerProcess) {
  const channel = await run.channel();
  const { exchange } = await channel.assertExchange(`${run.stream}.b`, 'fanout', { autoDelete: true });
  await run.publish([b(2)]);
  const gap = await waitFor(async () => (await shardsOf(worker)).find(({ open_gaps }) => open_gaps.length > 0), { what: 'b2 held' });
  await channel.bindQueue(run.queue(gap.shard), exchange, '');
  return {
    shard: gap.shard,
    publish: async (events: readonly TraceEvent[]) => {
      for (const event of events)
        channel.publish(exchange, event.entityId, bodyOf(event), { persistent: true, contentType: 'application/json' });
      await channel.waitForConfirms();
    },
  };
}

async function assertAllApplied(run: StreamRun, worker: WorkerProcess, count: number): Promise<void> {
  await run.untilApplied(count, 120_000);
  const { version, types, parked } = await storedOf(run, 'b');
  assert.deepEqual({ version, types, parked }, { version: 2, types: ['e1', 'e2'], parked: null });
  assert.equal(await worker.metric('inorder_events_total', { outcome: 'dead-lettered' }), 0);
  await run.assertNothingLeft();
}

for (const action of actions) {
  test(`an event that is held while the store is frozen is applied with its predecessor behind a full window (${action})`, async (t) => {
    const [{ amqpUrl }, redis] = [await useServices(t), await useRedisNode(t)];
    const run = new StreamRun(t, 'gap-store', {
      amqpUrl,
      redisUrl: redis.redisUrl,
      variables: { ...variables, GAP_TIMEOUT_ACTION: action },
    });
    const worker = await run.worker();
    const { publish } = await holdSecond(run, worker);
    await redis.suspend();
    t.after(() => redis.resume());
    await publish([...others, b(1)]);
    await sleep(pauseMs);
    redis.resume();
    await assertAllApplied(run, worker, others.length + 2);
  });

  for (const whileShut of ['busy', 'unavailable']) {
    test(`an event that is held while handlers of others are ${whileShut} and fill the window is applied with its predecessor behind them (${action})`, async (t) => {
      const directory = await mkdtemp(join(tmpdir(), 'inorder-gate-'));
      t.after(() => rm(directory, { recursive: true }));
      const gate = join(directory, 'open');
      const processor = {
        PROCESSOR: fileURLToPath(moduleUrl('test/support/gated-processor.ts')),
        HANDLER_TIMEOUT_MS: '120000',
        GATE: gate,
        WHILE_SHUT: whileShut,
      };
      const run = new StreamRun(t, 'gap-window', {
        ...(await useServices(t)),
        variables: { ...variables, ...processor, GAP_TIMEOUT_ACTION: action },
      });
      const worker = await run.worker();
      const { publish, shard } = await holdSecond(run, worker);
      await publish([...others, b(1)]);
      const isFull = async () => (await shardsOf(worker)).some((one) => one.shard === shard && one.unsettled === 10);
      await waitFor(isFull, { what: 'a full window' });
      await sleep(pauseMs);
      await writeFile(gate, '');
      await assertAllApplied(run, worker, others.length + 2);
    });
  }
}

for (const action of actions) {
  test(`what the broker had sent before its answer to the turn is taken in before the gap ends (${action})`, async (t) => {
    const { amqpUrl, redisUrl } = await useServices(t);
    const proxy = await useTcpProxy(t, amqpUrl);
    const run = new StreamRun(t, 'gap-turn', {
      amqpUrl,
      redisUrl,
      variables: { ...variables, AMQP_URL: proxy.through(amqpUrl), GAP_TIMEOUT_ACTION: action },
    });
    const worker = await run.worker();
    const { publish } = await holdSecond(run, worker);
    proxy.hold('toClient', true);
    await publish([b(1)]);
    await sleep(pauseMs);
    assert.equal(await worker.metric('inorder_events_total'), 0, 'without an answer no gap ends');
    proxy.hold('toClient', false);
    await assertLedger(worker, 2, { applied: 2 });
    await assertAllApplied(run, worker, 2);
  });
}

test('a turn over a channel that was lost ends nothing: what was held comes again, and its predecessor with it', async (t) => {
  const { amqpUrl, redisUrl } = await useServices(t);
  const proxy = await useTcpProxy(t, amqpUrl);
  const run = new StreamRun(t, 'gap-lost', { amqpUrl, redisUrl, variables: { ...variables, AMQP_URL: proxy.through(amqpUrl) } });
  const worker = await run.worker();
  const { publish } = await holdSecond(run, worker);
  proxy.hold('toClient', true);
  await publish([b(1)]);
  await sleep(pauseMs);
  proxy.cut();
  await proxy.heal();
  await assertAllApplied(run, worker, 2);
});

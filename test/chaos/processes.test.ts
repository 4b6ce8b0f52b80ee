/**
 * Workers that die, freeze and hand over: whatever happens to a process, every event of every entity is
 * applied once and in order, and what it held goes to its successor.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';
import { interleaved, publishTrace, readTraces, readyCount, shuffled, untilApplied } from '../support/trace.ts';
import { WorkerProcess } from '../support/worker-process.ts';

const entities = 200;
const length = 25;
const shards = 2;

async function setUp(t: TestContext, name: string, extra: Record<string, string> = {}) {
  const { amqpUrl, redisUrl } = await useServices(t);
  const stream = uniqueStream(name);
  const variables = {
    AMQP_URL: amqpUrl,
    REDIS_URL: redisUrl,
    STREAM: stream,
    SHARDS: String(shards),
    PROCESSOR: 'history',
    GAP_TIMEOUT_MS: '120000',
    ...extra,
  };
  return { amqpUrl, redisUrl, stream, variables };
}

/** Resolves when some events, and not all, have been applied. */
async function untilHalfWay(redisUrl: string, stream: string): Promise<void> {
  await waitFor(async () => [...(await readTraces(redisUrl, stream)).values()].reduce((sum, { version }) => sum + version, 0) > 0, {
    what: 'the first events applied',
    timeoutMs: 30_000,
  });
}

async function assertQueuesEmpty(amqpUrl: string, stream: string): Promise<void> {
  const queues = [...Array(shards).keys()].map((shard) => `${stream}.shard.${String(shard).padStart(3, '0')}`);
  for (const queue of [...queues, `${stream}.dead-letters`, `${stream}.unrouted`]) {
    await waitFor(async () => (await readyCount(amqpUrl, queue)) === 0, { what: `${queue} empty` });
  }
}

test('a worker killed with SIGKILL in mid-stream loses nothing: the standby goes on in order', async (t) => {
  const { amqpUrl, redisUrl, stream, variables } = await setUp(t, 'sigkill');
  const active = await WorkerProcess.ready(t, variables);
  const standby = await WorkerProcess.ready(t, variables);
  const publishing = publishTrace(amqpUrl, stream, shuffled(interleaved(entities, length), 300));
  await untilHalfWay(redisUrl, stream);
  await active.kill();
  await publishing;
  await untilApplied(redisUrl, stream, entities, length);
  standby.signal('SIGTERM');
  assert.deepEqual(await standby.exited, { code: 0, signal: null });
  await assertQueuesEmpty(amqpUrl, stream);
});

test('workers killed one after the other, again and again, lose and reorder nothing', async (t) => {
  const { amqpUrl, redisUrl, stream, variables } = await setUp(t, 'rolling-kill');
  let workers = [await WorkerProcess.ready(t, variables), await WorkerProcess.ready(t, variables)];
  const publishing = publishTrace(amqpUrl, stream, shuffled(interleaved(entities, length), 300));
  for (let round = 0; round < 4; round++) {
    await untilHalfWay(redisUrl, stream);
    const [oldest, ...others] = workers;
    await oldest?.kill();
    workers = [...others, await WorkerProcess.ready(t, variables)];
  }
  await publishing;
  await untilApplied(redisUrl, stream, entities, length);
});

test('a standby takes nothing while the active worker lives', async (t) => {
  const { amqpUrl, redisUrl, stream, variables } = await setUp(t, 'standby');
  const active = await WorkerProcess.ready(t, variables);
  const standby = await WorkerProcess.ready(t, variables);
  await publishTrace(amqpUrl, stream, interleaved(20, 5));
  await untilApplied(redisUrl, stream, 20, 5);
  assert.equal(await active.metric('inorder_deliveries_total'), 100);
  assert.equal(await standby.metric('inorder_deliveries_total'), 0);
  assert.equal((await standby.get('/readyz')).status, 200, 'a standby is ready');
});

test('SIGTERM in mid-batch ends with 0 and hands the rest over in order', async (t) => {
  const { amqpUrl, redisUrl, stream, variables } = await setUp(t, 'sigterm');
  const active = await WorkerProcess.ready(t, variables);
  await WorkerProcess.ready(t, variables);
  const publishing = publishTrace(amqpUrl, stream, shuffled(interleaved(entities, length), 300));
  await untilHalfWay(redisUrl, stream);
  active.signal('SIGTERM');
  assert.deepEqual(await active.exited, { code: 0, signal: null });
  await publishing;
  await untilApplied(redisUrl, stream, entities, length);
  // It had finished what was in flight. (The broker may still lose its last acknowledgements: those are duplicates.)
  assert.doesNotMatch(active.output, /stopped before everything in flight was done/);
});

test('an owner frozen beyond its heartbeats is replaced, and wakes up without doing harm', async (t) => {
  const { amqpUrl, redisUrl, stream, variables } = await setUp(t, 'frozen', { GAP_TIMEOUT_MS: '2000' });
  const first = await WorkerProcess.ready(t, variables);
  const second = await WorkerProcess.ready(t, variables);
  // e1 is missing: the first worker holds e2 and has a deadline to come.
  const early = { entityId: 'late', sequence: 2 };
  await publishTrace(amqpUrl, stream, [early]);
  await waitFor(async () => (await first.metric('inorder_held')) === 1, { what: 'the early event held' });
  first.signal('SIGSTOP');
  await waitFor(async () => (await second.metric('inorder_deliveries_total')) > 0, { what: 'the standby taking over', timeoutMs: 120_000 });
  await publishTrace(amqpUrl, stream, [{ entityId: 'late', sequence: 1 }, ...interleaved(20, 5)]);
  await waitFor(
    async () => {
      const traces = await readTraces(redisUrl, stream);
      return traces.get('late') !== undefined && traces.size === 21 && [...traces.values()].every(({ version }) => version > 0);
    },
    { what: 'the successor applying', timeoutMs: 30_000 },
  );
  const before = await readTraces(redisUrl, stream);
  first.signal('SIGCONT');
  await waitFor(async () => first.output.includes('the channel is lost'), { what: 'the frozen worker noticing', timeoutMs: 60_000 });
  await first.untilReady();
  // Whatever its overdue timer wanted, what the successor decided stands.
  assert.deepEqual(await readTraces(redisUrl, stream), before);
});

test('a worker stopped for less than its heartbeats goes on as if nothing had been', async (t) => {
  const { amqpUrl, redisUrl, stream, variables } = await setUp(t, 'short-stop');
  const active = await WorkerProcess.ready(t, variables);
  const standby = await WorkerProcess.ready(t, variables);
  const publishing = publishTrace(amqpUrl, stream, shuffled(interleaved(entities, length), 300));
  await untilHalfWay(redisUrl, stream);
  active.signal('SIGSTOP');
  await publishing;
  active.signal('SIGCONT');
  await untilApplied(redisUrl, stream, entities, length);
  assert.equal(await standby.metric('inorder_deliveries_total'), 0);
  assert.equal(await active.metric('inorder_events_total', { outcome: 'applied' }), entities * length);
});

test('the same events again are duplicates and change nothing', async (t) => {
  const { amqpUrl, redisUrl, stream, variables } = await setUp(t, 'again');
  const worker = await WorkerProcess.ready(t, variables);
  const events = shuffled(interleaved(50, 10), 50);
  await publishTrace(amqpUrl, stream, events);
  const once = await untilApplied(redisUrl, stream, 50, 10);
  await publishTrace(amqpUrl, stream, events);
  await waitFor(async () => (await worker.metric('inorder_events_total', { outcome: 'duplicate' })) === 500, { what: '500 duplicates' });
  assert.deepEqual(await readTraces(redisUrl, stream), once);
});

/**
 * The network between a worker and the broker fails in every way that a wire can: after it, everything drains in
 * order and once. Every test ends with the account of `StreamRun`.
 */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test, type TestContext } from 'node:test';
import { loopback } from '../../deploy/local/free-port.ts';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { reset, type TcpProxy, useTcpProxy } from '../support/tcp-proxy.ts';
import { interleaved, shuffled } from '../support/trace.ts';

const entities = 50;
const length = 20;
const total = entities * length;
const events = (prefix?: string) => shuffled(interleaved(entities, length, prefix), 100);

async function setUp(t: TestContext, name: string, query = '') {
  const { amqpUrl, redisUrl } = await useServices(t);
  const proxy = await useTcpProxy(t, amqpUrl);
  const run = new StreamRun(t, name, { amqpUrl, redisUrl, variables: { AMQP_URL: proxy.through(amqpUrl) + query } });
  return { proxy, run, direct: { AMQP_URL: amqpUrl } };
}

/** Lets so many more bytes of `traffic` pass, sees that the wire is cut there, and waits until the worker has tried again. */
async function cutAfter(proxy: TcpProxy, direction: 'toServer' | 'toClient', bytes: number, traffic = async () => {}): Promise<void> {
  const limit = proxy.forwardedBytes(direction) + bytes;
  const before = proxy.acceptedConnections;
  proxy.cutAfterBytes(direction, bytes);
  await traffic();
  await waitFor(() => proxy.forwardedBytes(direction) >= limit && proxy.acceptedConnections > before, {
    what: `a cut after ${bytes} bytes ${direction} and a new connection`,
    timeoutMs: 30_000,
  });
}

test('a wire cut after any number of bytes, in deliveries and in acknowledgements, loses nothing', async (t) => {
  const { proxy, run } = await setUp(t, 'cut-deliveries');
  const worker = await run.worker();
  const cuts = [
    ['toClient', 7],
    ['toClient', 30_001],
    ['toServer', 20],
    ['toServer', 101],
  ] as const;
  for (const [direction, bytes] of cuts) {
    await cutAfter(proxy, direction, bytes, () => run.publish(events(`${direction}-${bytes}`)));
    await worker.untilReady();
  }
  await run.assertBalanced(cuts.length * entities, length);
});

test('a wire cut in the middle of a handshake is tried again until there is a connection', async (t) => {
  const { proxy, run } = await setUp(t, 'cut-handshake');
  await run.worker();
  await run.publish(events());
  proxy.cut();
  for (const bytes of [1, 8, 300]) await cutAfter(proxy, 'toServer', bytes);
  for (const bytes of [5, 600]) await cutAfter(proxy, 'toClient', bytes);
  await run.assertBalanced(entities, length);
});

test('connections reset again and again in mid-stream cost no event and no order', async (t) => {
  const { proxy, run } = await setUp(t, 'reset');
  const worker = await run.worker();
  for (const round of ['a', 'b', 'c']) {
    const before = await run.applied();
    await run.publish(events(round));
    await run.untilApplied(before + 1);
    proxy.cut();
    await worker.untilReady();
  }
  await run.assertBalanced(3 * entities, length);
  assert.ok(proxy.acceptedConnections >= 4, `${proxy.acceptedConnections} connections`);
});

test('when the acknowledgements are lost, each event comes again as a duplicate and has been applied once', async (t) => {
  const { proxy, run } = await setUp(t, 'lost-acks');
  const worker = await run.worker();
  // Each shard asks the broker once before it begins, so that is done before nothing more gets there.
  await run.publish(shuffled(interleaved(entities, 1, 'first'), 10));
  await waitFor(async () => (await worker.metric('inorder_events_total', { outcome: 'applied' })) === entities, {
    what: 'the first events applied',
  });
  proxy.drop('toServer', true);
  await run.publish(events());
  await waitFor(async () => (await worker.metric('inorder_events_total', { outcome: 'applied' })) === entities + total, {
    what: 'every event applied',
  });
  proxy.cut();
  await proxy.heal();
  await waitFor(async () => (await worker.metric('inorder_events_total', { outcome: 'duplicate' })) >= total, {
    what: 'every event once more as a duplicate',
  });
  const duplicates = await worker.metric('inorder_events_total', { outcome: 'duplicate' });
  assert.ok((duplicates ?? 0) <= entities + total, `${duplicates} duplicates: none comes more than once again`);
  assert.equal(await worker.metric('inorder_events_total', { outcome: 'applied' }), entities + total);
  assert.equal(await worker.metric('inorder_events_total', { outcome: 'dead-lettered' }), 0);
  await run.assertNothingLeft();
});

test('bytes that arrive one by one make the same frames', async (t) => {
  const { proxy, run } = await setUp(t, 'bytes');
  proxy.slice(1);
  const worker = await run.worker();
  await run.publish(shuffled(interleaved(10, 10), 20));
  await waitFor(async () => (await worker.metric('inorder_events_total', { outcome: 'applied' })) === 100, {
    what: '100 events applied',
    timeoutMs: 40_000,
  });
  assert.equal(await worker.metric('inorder_reconnects_total'), 0);
  await run.assertBalanced(10, 10);
});

test('half a second of latency with jitter changes nothing but the time', async (t) => {
  const { proxy, run } = await setUp(t, 'latency');
  const worker = await run.worker();
  proxy.delay(500, 300);
  await run.publish(events());
  await waitFor(async () => (await worker.metric('inorder_events_total', { outcome: 'applied' })) === total, {
    what: 'every event applied',
    timeoutMs: 30_000,
  });
  assert.equal(await worker.metric('inorder_reconnects_total'), 0);
  await run.assertBalanced(entities, length);
});

test('while connections are refused the worker tries again at growing, jittered and capped intervals, and each connection logs it once', async (t) => {
  const { proxy, run } = await setUp(t, 'refused');
  const worker = await run.worker();
  await proxy.refuse(true);
  const attempts: number[] = [];
  const bouncer = createServer((socket) => {
    attempts.push(performance.now());
    reset(socket);
  });
  await new Promise<void>((resolve) => bouncer.listen(proxy.port, loopback, resolve));
  proxy.cut();
  await run.publish(events());
  await waitFor(() => attempts.length >= 10, { what: 'ten attempts', timeoutMs: 60_000 });
  bouncer.close();
  const readiness = await worker.get('/readyz');
  assert.equal(readiness.status, 503);
  assert.match(readiness.body, /broker/);

  // Two connections try, one that consumes and one that publishes: of three attempts in a row two are the same one's. Its n-th
  // pause is drawn between half and all of a ceiling that doubles from 0.4 s up to 5 s, and neither is two attempts ahead.
  const spans = attempts.slice(2).map((atMs, index) => atMs - (attempts[index] ?? 0));
  const told = spans.map(Math.round).join(' ');
  const floors = spans.map((_, index) => 0.49 * Math.min(5_000, 400 * 2 ** Math.max(0, (index >> 1) - 1)));
  assert.ok(
    spans.every((spanMs, index) => spanMs > (floors[index] ?? 0)),
    `pauses too short: ${told}`,
  );
  assert.ok(Math.max(...spans) < 6_400, `a pause beyond the cap: ${told}`);
  const apart = attempts.filter((_, index) => index % 2 === 1).map((atMs, index) => atMs - (attempts[2 * index] ?? 0));
  assert.ok(Math.max(...apart) > 20, `pauses without jitter: both try at once, ${apart.map(Math.round).join(' ')} ms apart`);
  assert.equal(worker.output.split('no connection to the broker; trying again').length - 1, 2);

  await proxy.refuse(false);
  await run.assertBalanced(entities, length);
});

test('a wire that swallows everything is noticed by the heartbeats on both ends: the standby goes on, the old owner comes back', async (t) => {
  // Two seconds instead of fifteen, as a user may ask for in the URL.
  const { proxy, run, direct } = await setUp(t, 'black-hole', '?heartbeat=2');
  const owner = await run.worker();
  const standby = await run.worker(direct);
  await run.publish([{ entityId: 'late', sequence: 2 }, ...events('a')]);
  await run.untilApplied(total);
  proxy.blackHole(true);
  await run.publish(events('b'));
  // The broker gives the queues to the standby, which the wire does not concern.
  await run.untilApplied(2 * total, 30_000);
  await waitFor(() => owner.output.includes('the connection to the broker is lost'), { what: 'the owner noticing', timeoutMs: 30_000 });
  assert.match(owner.output, /heartbeat/i);
  await proxy.heal();
  await owner.untilReady();
  await run.publish([{ entityId: 'late', sequence: 1 }]);
  await run.untilApplied(2 * total + 2);
  assert.equal(await owner.metric('inorder_events_total', { outcome: 'dead-lettered' }), 0);
  assert.ok((await standby.metric('inorder_events_total', { outcome: 'applied' })) >= total + 2);
  await run.assertNothingLeft();
});

/**
 * The network between a worker and its store fails, Redis or PostgreSQL: what is unknown is asked again and counted once, the shards pause
 * rather than reject, and everything drains when the wire is back. Every test ends with the account of `StreamRun`.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { needsPostgres, usePostgres } from '../support/postgres.ts';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun, untilConsuming, untilPaused } from '../support/stream-run.ts';
import { useTcpProxy } from '../support/tcp-proxy.ts';
import { interleaved, shuffled } from '../support/trace.ts';
import type { WorkerProcess } from '../support/worker-process.ts';

const entities = 50;
const length = 20;
const total = entities * length;
const events = (prefix?: string) => shuffled(interleaved(entities, length, prefix), 100);

type Kind = 'redis' | 'postgres';

async function setUp(t: TestContext, kind: Kind, name: string) {
  const { amqpUrl, redisUrl } = await useServices(t);
  const storeUrl = kind === 'postgres' ? await usePostgres() : redisUrl;
  const proxy = await useTcpProxy(t, storeUrl);
  const through = proxy.through(storeUrl);
  const variables: Record<string, string> =
    kind === 'postgres' ? { STATE_STORE: 'postgres', DATABASE_URL: through } : { REDIS_URL: through };
  const run = new StreamRun(t, name, { amqpUrl, redisUrl, storeUrl, variables });
  return { proxy, run };
}

/** The broker was well all the time: each event arrived once, and the worker's counters say what became of it. */
async function assertCountedOnce(worker: WorkerProcess, published: number): Promise<void> {
  const ended = (outcome: string) => worker.metric('inorder_events_total', { outcome });
  await waitFor(async () => (await ended('applied')) === published, { what: `${published} events counted as applied`, timeoutMs: 30_000 });
  assert.deepEqual([await ended('duplicate'), await ended('dead-lettered')], [0, 0]);
  assert.equal(await worker.metric('inorder_deliveries_total'), published);
}

for (const kind of ['redis', 'postgres'] as const) {
  const needs = kind === 'postgres' ? needsPostgres : {};

  // A transaction of PostgreSQL has several replies: for the one that counts see postgres.test.ts.
  if (kind === 'redis')
    test(`${kind}: commits whose replies are lost are asked again: each event is applied and counted once`, needs, async (t) => {
      const { proxy, run } = await setUp(t, kind, 'lost-replies');
      const worker = await run.worker();
      // The shards have their epochs and know the entities, so what is lost are replies to commits.
      const all = interleaved(entities, 2 * length);
      await run.publish(shuffled(all.slice(0, total), 100));
      await assertCountedOnce(worker, total);
      proxy.drop('toClient', true);
      await run.publish(shuffled(all.slice(total), 100));
      await run.untilApplied(total + 1);
      assert.equal(
        await worker.metric('inorder_events_total', { outcome: 'applied' }),
        total,
        'nothing is taken for done without an answer',
      );
      proxy.cut();
      await proxy.heal();
      await assertCountedOnce(worker, 2 * total);
      await run.assertBalanced(entities, 2 * length);
    });

  test(`${kind}: connections reset, also in the middle of a command or a reply, cost and repeat nothing`, needs, async (t) => {
    const { proxy, run } = await setUp(t, kind, 'store-reset');
    const worker = await run.worker();
    const cuts = [
      ['toServer', 3],
      ['toServer', 5_000],
      ['toServer', 40_001],
      ['toClient', 2],
      ['toClient', 700],
    ] as const;
    for (const [round, [direction, bytes]] of cuts.entries()) {
      const before = proxy.acceptedConnections;
      proxy.cutAfterBytes(direction, bytes);
      await run.publish(events(`${direction}-${bytes}`));
      await waitFor(() => proxy.acceptedConnections > before, { what: `a cut after ${bytes} bytes ${direction}`, timeoutMs: 20_000 });
      await assertCountedOnce(worker, (round + 1) * total);
    }
    await run.assertBalanced(cuts.length * entities, length);
  });

  test(`${kind}: replies that arrive byte by byte are the same replies`, needs, async (t) => {
    const { proxy, run } = await setUp(t, kind, 'store-bytes');
    proxy.slice(1);
    const worker = await run.worker();
    await run.publish(shuffled(interleaved(10, 10), 20));
    await assertCountedOnce(worker, 100);
    assert.equal(await worker.metric('inorder_store_unavailable_total'), 0);
    await run.assertBalanced(10, 10);
  });

  test(`${kind}: while connections are refused the shards pause and the worker stays; then everything drains`, needs, async (t) => {
    const { proxy, run } = await setUp(t, kind, 'store-refused');
    const worker = await run.worker();
    await run.publish(events('before'));
    await assertCountedOnce(worker, total);
    await proxy.refuse(true);
    proxy.cut();
    await run.publish(events('during'));
    await untilPaused(worker);
    assert.equal(await run.applied(), total);
    assert.equal((await worker.get('/healthz')).status, 200);
    await proxy.refuse(false);
    await untilConsuming(worker);
    await assertCountedOnce(worker, 2 * total);
    await run.assertBalanced(2 * entities, length);
  });

  test(
    `${kind}: a wire that swallows everything is found out by the command time-out: the shards pause, then everything drains`,
    needs,
    async (t) => {
      const { proxy, run } = await setUp(t, kind, 'store-black-hole');
      const worker = await run.worker();
      await run.publish(events('before'));
      await assertCountedOnce(worker, total);
      proxy.blackHole(true);
      await run.publish(events('during'));
      await untilPaused(worker);
      assert.match(worker.output, /did not answer in time/);
      // What waited on the wire arrives late at Redis, and after it the same commits once more.
      await proxy.heal();
      await assertCountedOnce(worker, 2 * total);
      await run.assertBalanced(2 * entities, length);
    },
  );
}

/** Repeated manual fail-overs between healthy nodes under traffic: with DURABILITY=replicas:1 nothing acknowledged is lost. */
import { test } from 'node:test';
import { needsRedis, useSentinelPair } from '../support/sentinels.ts';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { interleaved, shuffled } from '../support/trace.ts';

const entities = 100;
const length = 40;
const failovers = 2;

test('a manual SENTINEL FAILOVER between healthy nodes under traffic loses nothing', needsRedis, async (t) => {
  const { amqpUrl } = await useServices(t);
  const { clients, sentinel, url } = await useSentinelPair(t);
  const run = new StreamRun(t, 'failover', { amqpUrl, redisUrl: url, variables: { DURABILITY: 'replicas:1', PREFETCH: '50' } });
  await run.worker();
  await run.worker();
  for (let round = 0; round < failovers; round++) {
    await run.publish(shuffled(interleaved(entities, length, `r${round}`), 20));
    const [former, successor] = [clients[round % 2]!, clients[(round + 1) % 2]!];
    await waitFor(
      () =>
        sentinel.call('SENTINEL', 'FAILOVER', 'main').then(
          () => true,
          () => false,
        ),
      { what: 'the sentinel to take the order', timeoutMs: 60_000 },
    );
    await waitFor(async () => (await successor.role())[0] === 'master', { what: 'the fail-over', timeoutMs: 60_000 });
    const follows = async () => (await former.role())[0] === 'slave' && /master_link_status:up/.test(await former.info('replication'));
    await waitFor(() => follows().catch(() => false), { what: 'the former master to follow', timeoutMs: 60_000 });
  }
  // The test's own reading is not what is tried here.
  await waitFor(async () => (await run.applied().catch(() => 0)) === failovers * entities * length, {
    what: 'everything to be applied',
    timeoutMs: 120_000,
  });
  await run.assertBalanced(failovers * entities, length);
});

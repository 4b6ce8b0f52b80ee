/**
 * What DURABILITY costs: commits of eight shards at a private master with a replica and an append-only file, with `none`,
 * `replicas:1` and `aof` in turn, so that a slow minute of the machine meets all of them. Prints rate and CPU of this process.
 *
 *   npx tsx test/bench/durability.ts
 *
 * `aof` is left out where Redis has no WAITAOF (before 7.2).
 */
import { Redis } from 'ioredis';
import { RedisNode } from '../../deploy/local/redis-node.ts';
import type { Durability } from '../../src/config/config.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import { commitTo } from '../conformance/builders.ts';

const rounds = 3;
const roundMs = 4_000;
const shards = 8;
const commitsPerBatch = 100;

async function measure(url: string, stream: string, durability: Durability): Promise<string> {
  const store = createRedisStore({ url, stream, idempotencyTtlSeconds: 60, durability });
  await store.ping();
  const [startedMs, startedCpu] = [performance.now(), process.cpuUsage()];
  let done = 0;
  const commitOn = async (shard: number) => {
    for (let version = 0; performance.now() - startedMs < roundMs; version++) {
      await store.commit(
        Array.from({ length: commitsPerBatch }, (_, entity) =>
          commitTo({ entityType: 'order', entityId: `${shard}-${entity}` }, version, version + 1),
        ),
      );
      done += commitsPerBatch;
    }
  };
  try {
    await Promise.all(Array.from({ length: shards }, (_, shard) => commitOn(shard)));
  } finally {
    await store.close();
  }
  const { user, system } = process.cpuUsage(startedCpu);
  const perSecond = Math.round((done * 1_000) / (performance.now() - startedMs));
  return `${perSecond.toLocaleString('en-US').padStart(8)} commits/s  ${((user + system) / done).toFixed(0).padStart(5)} µs of CPU each`;
}

const [master, replica] = await Promise.all([RedisNode.start({ appendonly: true }), RedisNode.start({ appendonly: true })]);
const [client, follower] = [new Redis(master.redisUrl), new Redis(replica.redisUrl)];
try {
  await follower.replicaof('127.0.0.1', master.port);
  do await client.set('probe', '1');
  while ((await client.wait(1, 500)) < 1);
  const hasWaitAof = ((await client.call('COMMAND', 'INFO', 'WAITAOF')) as unknown[])[0] !== null;
  const contenders: Durability[] = [{ kind: 'none' }, { kind: 'replicas', count: 1 }, ...(hasWaitAof ? [{ kind: 'aof' } as const] : [])];
  for (let round = 1; round <= rounds; round++) {
    for (const durability of contenders)
      process.stdout.write(`${durability.kind.padEnd(9)} ${await measure(master.redisUrl, `${durability.kind}-${round}`, durability)}\n`);
  }
} finally {
  client.disconnect();
  follower.disconnect();
  await Promise.all([master.stop(), replica.stop()]);
}

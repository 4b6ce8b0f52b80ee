import { after } from 'node:test';
import { Cluster } from 'ioredis';
import { findExecutable } from '../../deploy/local/rabbit-binaries.ts';
import { startRedisCluster, type RedisCluster } from '../../deploy/local/redis-cluster.ts';
import { redisHarness } from './redis-harness.ts';
import { describeStore } from './store-conformance.ts';

interface Access {
  readonly cluster: RedisCluster;
  readonly client: Cluster;
  readonly url: string;
}

let access: Promise<Access> | null = null;

async function start(): Promise<Access> {
  const cluster = await startRedisCluster(3);
  const hosts = cluster.redisUrls.map((url) => new URL(url).host);
  return { cluster, client: new Cluster([...cluster.redisUrls]), url: `redis+cluster://${hosts.join(',')}` };
}

after(async () => {
  const { client, cluster } = (await access) ?? {};
  client?.disconnect();
  await cluster?.stop();
});

if (findExecutable('redis-server') === null) {
  console.log('# the conformance of a Redis cluster is not tested: redis-server is not installed here');
} else {
  describeStore('the Redis store on a cluster of three nodes', async (t) => {
    const { client, url } = await (access ??= start());
    return redisHarness(t, { url, command: (name = '', ...rest) => client.call(name, rest) });
  });
}

/** A master, its replica and a sentinel that watches them: private servers for one test. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { Redis } from 'ioredis';
import { freePort } from '../../deploy/local/free-port.ts';
import { GuardedProcess } from '../../deploy/local/guarded-process.ts';
import { createPrivateDirectory, removePrivateDirectory } from '../../deploy/local/private-directory.ts';
import { findExecutable } from '../../deploy/local/rabbit-binaries.ts';
import { type RedisNode, type RedisNodeOptions, tlsLines } from '../../deploy/local/redis-node.ts';
import { useRedisNode, waitFor } from './services.ts';

const redisServer = findExecutable('redis-server');
export const needsRedis = { skip: redisServer === null ? 'redis-server is not installed here' : false };

export interface SentinelPair {
  /** As it is at the beginning. */
  readonly master: RedisNode;
  readonly replica: RedisNode;
  /** Of the two, in this order. */
  readonly clients: readonly [Redis, Redis];
  readonly sentinel: Redis;
  /** What REDIS_URL is. */
  readonly url: string;
}

export async function useSentinelPair(t: TestContext): Promise<SentinelPair> {
  const [master, replica] = await Promise.all([useRedisNode(t), useRedisNode(t)]);
  const clients = [clientOf(t, master.port), clientOf(t, replica.port)] as const;
  await clients[1].replicaof('127.0.0.1', master.port);
  const port = await startSentinel(t, master.port);
  const sentinel = clientOf(t, port);
  const known = async () => ((await sentinel.call('SENTINEL', 'REPLICAS', 'main')) as unknown[]).length === 1;
  await waitFor(known, { what: 'the sentinel to know the replica', timeoutMs: 60_000 });
  return { master, replica, clients, sentinel, url: `redis+sentinel://127.0.0.1:${port}/main` };
}

function clientOf(t: TestContext, port: number): Redis {
  const client = new Redis(port);
  client.on('error', () => undefined);
  t.after(() => client.disconnect());
  return client;
}

/** With `tls` it speaks nothing else, to the master either. Returns its port. */
export async function startSentinel(t: TestContext, masterPort: number, tls: RedisNodeOptions['tls'] = undefined): Promise<number> {
  const [port, directory] = [await freePort(), await createPrivateDirectory('sentinel')];
  await mkdir(directory, { recursive: true });
  const config = join(directory, 'sentinel.conf');
  await writeFile(
    config,
    [
      'bind 127.0.0.1',
      ...(tls === undefined ? [`port ${port}`] : ['port 0', `tls-port ${port}`, ...tlsLines(tls)]),
      `dir ${directory}`,
      `sentinel monitor main 127.0.0.1 ${masterPort} 1`,
      'sentinel down-after-milliseconds main 1000',
      'sentinel failover-timeout main 5000',
      '',
    ].join('\n'),
  );
  const process = await GuardedProcess.spawn({
    command: redisServer ?? '',
    args: [config, '--sentinel'],
    env: { PATH: '/usr/local/bin:/usr/bin:/bin' },
    directory,
    logFile: join(directory, 'sentinel.log'),
  });
  t.after(async () => {
    await process.kill();
    await removePrivateDirectory(directory);
  });
  return port;
}

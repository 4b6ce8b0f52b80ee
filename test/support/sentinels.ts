/** A master, its replica and a sentinel that watches them: private servers for one test. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { Redis } from 'ioredis';
import { accepts } from '../../deploy/local/epmd.ts';
import { freePort } from '../../deploy/local/free-port.ts';
import { GuardedProcess } from '../../deploy/local/guarded-process.ts';
import { createPrivateDirectory } from '../../deploy/local/private-directory.ts';
import { PrivateNode, startNode } from '../../deploy/local/private-node.ts';
import { findExecutable } from '../../deploy/local/rabbit-binaries.ts';
import { type RedisNode, type RedisNodeOptions, tlsLines } from '../../deploy/local/redis-node.ts';
import { type Owner, useRedisNode, waitFor } from './services.ts';

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
  const { port } = await useSentinel(t, master.port);
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

export interface SentinelOptions {
  /** It then speaks nothing else, to the master either. Default: no TLS. */
  readonly tls?: RedisNodeOptions['tls'];
  /** How many sentinels have to find the master down. Default 1. */
  readonly quorum?: number;
  /** For how long it does not answer before it is. Default 1,000. */
  readonly downAfterMs?: number;
}

/** A sentinel that watches `main`; it is stopped and removed after the test. */
export async function useSentinel(t: Owner, masterPort: number, options: SentinelOptions = {}): Promise<SentinelNode> {
  const node = await startNode({
    draw: async () => new SentinelNode(await createPrivateDirectory('sentinel'), await freePort()),
    start: (sentinel) => sentinel.begin(masterPort, options),
    portTaken: 'Address already in use',
  });
  t.after(() => node.stop());
  return node;
}

export class SentinelNode extends PrivateNode {
  readonly port: number;
  readonly #directory: string;

  constructor(directory: string, port: number) {
    super({ directory, shutdownGraceMs: 10_000 });
    this.#directory = directory;
    this.port = port;
  }

  async begin(masterPort: number, { tls, quorum = 1, downAfterMs = 1_000 }: SentinelOptions): Promise<void> {
    const lines = [
      'bind 127.0.0.1',
      ...(tls === undefined ? [`port ${this.port}`] : ['port 0', `tls-port ${this.port}`, ...tlsLines(tls)]),
      `dir ${this.#directory}`,
      `sentinel monitor main 127.0.0.1 ${masterPort} ${quorum}`,
      `sentinel down-after-milliseconds main ${downAfterMs}`,
      'sentinel failover-timeout main 5000',
      '',
    ];
    await writeFile(join(this.#directory, 'sentinel.conf'), lines.join('\n'));
    await this.launch();
  }

  protected spawn(): Promise<GuardedProcess> {
    return GuardedProcess.spawn({
      command: redisServer ?? '',
      args: [join(this.#directory, 'sentinel.conf'), '--sentinel'],
      env: { PATH: '/usr/local/bin:/usr/bin:/bin' },
      directory: this.#directory,
      logFile: join(this.#directory, 'sentinel.log'),
    });
  }

  protected async waitReady(): Promise<void> {
    const answers = async () => {
      if (!this.running) throw new Error(await readFile(join(this.#directory, 'sentinel.log'), 'utf8'));
      return accepts(this.port);
    };
    await waitFor(answers, { what: 'the sentinel to listen' });
  }
}

/**
 * A Redis Cluster of private nodes, all masters, the 16,384 slots spread evenly over them. For tests: it shows that
 * every script touches keys of one slot only; it has no replicas and survives no loss of a node.
 */
import { loopback } from './free-port.ts';
import { redisCommand, RedisNode, type RedisNodeOptions } from './redis-node.ts';
import { waitUntil } from './wait-until.ts';

const slotCount = 16_384;
const formationTimeoutMs = 30_000;

export interface RedisCluster {
  readonly nodes: readonly RedisNode[];
  /** The nodes' URLs; a client finds the others from any one of them. */
  readonly redisUrls: readonly string[];
  stop(): Promise<void>;
}

/** Starts `size` nodes and resolves when each of them says that the cluster is complete. */
export async function startRedisCluster(size: number, options: Omit<RedisNodeOptions, 'cluster'> = {}): Promise<RedisCluster> {
  const nodes: RedisNode[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(nodes.map((node) => node.stop()));
  };
  try {
    for (let index = 0; index < size; index += 1) nodes.push(await RedisNode.start({ ...options, cluster: true }));
    await assignSlots(nodes);
    await introduce(nodes);
    await waitUntil(() => allAgree(nodes), { timeoutMs: formationTimeoutMs, what: 'the Redis cluster to form' });
  } catch (error) {
    await stop();
    throw error;
  }
  return { nodes, redisUrls: nodes.map((node) => node.redisUrl), stop };
}

async function assignSlots(nodes: readonly RedisNode[]): Promise<void> {
  for (const [index, node] of nodes.entries()) {
    const first = Math.floor((index * slotCount) / nodes.length);
    const last = Math.floor(((index + 1) * slotCount) / nodes.length) - 1;
    await redisCommand(node.port, `CLUSTER ADDSLOTSRANGE ${first} ${last}`);
    // Without distinct epochs the nodes would dispute who is the newest and resolve it only by and by.
    await redisCommand(node.port, `CLUSTER SET-CONFIG-EPOCH ${index + 1}`);
  }
}

async function introduce(nodes: readonly RedisNode[]): Promise<void> {
  const [first, ...others] = nodes;
  if (first === undefined) return;
  const config = await redisCommand(first.port, 'CLUSTER MYID');
  const self = (await redisCommand(first.port, 'CLUSTER NODES')).split('\n').find((line) => line.startsWith(config));
  const busPort = /@(\d+)/.exec(self ?? '')?.[1] ?? String(first.port + 10_000);
  for (const node of others) await redisCommand(node.port, `CLUSTER MEET ${loopback} ${first.port} ${busPort}`);
}

async function allAgree(nodes: readonly RedisNode[]): Promise<boolean> {
  for (const node of nodes) {
    const info = await redisCommand(node.port, 'CLUSTER INFO');
    if (!info.includes('cluster_state:ok') || !info.includes(`cluster_known_nodes:${nodes.length}`)) return false;
  }
  return true;
}

/**
 * A Redis Cluster of private nodes, the 16,384 slots spread evenly over its masters. For tests: it shows that every script
 * touches keys of one slot only. With a replica for each master it survives the loss of one.
 */
import { loopback } from './free-port.ts';
import { redisCommand, RedisNode, type RedisNodeOptions } from './redis-node.ts';
import { waitUntil } from './wait-until.ts';

const slotCount = 16_384;
const formationTimeoutMs = 300_000;

export interface RedisCluster {
  /** The masters at first. */
  readonly nodes: readonly RedisNode[];
  /** As many, in their order, or none. */
  readonly replicas: readonly RedisNode[];
  /** The nodes' URLs; a client finds the others from any one of them. */
  readonly redisUrls: readonly string[];
  stop(): Promise<void>;
}

export interface RedisClusterOptions extends Omit<RedisNodeOptions, 'cluster'> {
  /** Whether each master has a replica. Default false. */
  readonly replicas?: boolean;
}

/** Starts `size` masters and resolves when every node says that the cluster is complete. */
export async function startRedisCluster(size: number, { replicas = false, ...options }: RedisClusterOptions = {}): Promise<RedisCluster> {
  const all: RedisNode[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(all.map((node) => node.stop()));
  };
  try {
    while (all.length < (replicas ? 2 * size : size)) all.push(await RedisNode.start({ ...options, cluster: true }));
    const nodes = all.slice(0, size);
    await assignSlots(nodes);
    await introduce(all);
    await waitUntil(() => allAgree(all), { timeoutMs: formationTimeoutMs, what: 'the Redis cluster to form' });
    for (const [index, replica] of all.slice(size).entries()) {
      await redisCommand(replica.port, `CLUSTER REPLICATE ${await redisCommand(nodes[index]!.port, 'CLUSTER MYID')}`);
    }
    return { nodes, replicas: all.slice(size), redisUrls: nodes.map((node) => node.redisUrl), stop };
  } catch (error) {
    await stop();
    throw error;
  }
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

/** The slots count as well: without full coverage a node is ok before it has heard of the others' slots. */
async function allAgree(nodes: readonly RedisNode[]): Promise<boolean> {
  const signs = ['cluster_state:ok', `cluster_known_nodes:${nodes.length}`, `cluster_slots_ok:${slotCount}`];
  for (const node of nodes) {
    const info = await redisCommand(node.port, 'CLUSTER INFO');
    if (!signs.every((sign) => info.split(/\r?\n/).includes(sign))) return false;
  }
  return true;
}

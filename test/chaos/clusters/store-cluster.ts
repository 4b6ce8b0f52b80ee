/**
 * Redis in the two forms that survive the loss of a master, and what goes wrong with them. Clients, sentinels and replicas reach each
 * node through a proxy, so that a node can be cut off while it lives.
 *
 * - `sentinels`: a master with a replica, and three sentinels. Where nothing may be lost, the master takes writes only while its replica
 *   follows, and a former master comes back when the fail-over is done, as an operator's scripts see to.
 * - `cluster`: three masters with a replica each. A fail-over loses what the replica had not received.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { redisCommand, RedisNode, type RedisNodeOptions } from '../../../deploy/local/redis-node.ts';
import { startRedisCluster } from '../../../deploy/local/redis-cluster.ts';
import { waitUntil } from '../../../deploy/local/wait-until.ts';
import type { Chance } from '../../simulation/virtual-time.ts';
import { type SentinelNode, useSentinel } from '../../support/sentinels.ts';
import type { Owner } from '../../support/services.ts';
import { TcpProxy } from '../../support/tcp-proxy.ts';
import { type Fault, type Tally, until, untilDone } from './schedule.ts';

export type StoreForm = 'sentinels' | 'cluster';

export interface StoreCluster {
  /** What REDIS_URL is. */
  readonly url: string;
  faults(): Fault[];
}

/** A node, and the way to it that can be closed. */
interface Member {
  readonly node: RedisNode;
  readonly proxy: TcpProxy;
}

/** A master and its replica; who is which changes. */
interface Pair {
  readonly members: readonly [Member, Member];
  /** Whom clients take for the master; null while nobody is. */
  readonly master: () => Promise<Member | null>;
  /** Makes a former master follow its successor, if it does not so by itself. */
  readonly follow: (former: Member, successor: Member) => Promise<void>;
  /** Orders a fail-over between healthy nodes. */
  readonly handOver: (replica: Member) => Promise<unknown>;
  /** Whether a master that clients do not reach is replaced: the nodes of a cluster have other ways to each other. */
  readonly replacesUnreachable: boolean;
}

export function startStore(form: StoreForm, mayLose: boolean, owner: Owner, tally: Tally): Promise<StoreCluster> {
  return form === 'sentinels' ? startSentinels(mayLose, owner, tally) : startCluster(owner, tally);
}

/** Longer than a busy machine keeps a healthy node from answering. */
const downAfterMs = 5_000;

async function useMember(owner: Owner, node: RedisNode): Promise<Member> {
  const proxy = await TcpProxy.start(node.redisUrl);
  owner.after(() => proxy.stop());
  return { node, proxy };
}

/** Others come through the proxy. It is also written down, for the port is known only now. */
async function announce({ node, proxy }: Member, setting: string): Promise<void> {
  await redisCommand(node.port, `CONFIG SET ${setting} ${proxy.port}`);
  await redisCommand(node.port, 'CONFIG REWRITE');
}

async function startSentinels(mayLose: boolean, owner: Owner, tally: Tally): Promise<StoreCluster> {
  const refusing = mayLose ? [] : ['min-replicas-to-write 1', 'min-replicas-max-lag 3'];
  const options: RedisNodeOptions = { appendonly: true, configLines: ['repl-diskless-sync-delay 0', ...refusing] };
  const begin = async () => {
    const node = await RedisNode.start(options);
    owner.after(() => node.stop());
    const member = await useMember(owner, node);
    await redisCommand(node.port, 'CONFIG SET replica-announce-ip 127.0.0.1');
    await announce(member, 'replica-announce-port');
    return member;
  };
  const members = [await begin(), await begin()] as const;
  await redisCommand(members[1].node.port, `REPLICAOF 127.0.0.1 ${members[0].proxy.port}`);
  await until(() => isFollowing(members[1]), 'the replica to follow its master');
  const watch = () => useSentinel(owner, members[0].proxy.port, { quorum: 2, downAfterMs });
  const sentinels = [await watch(), await watch(), await watch()];
  const info = (sentinel: SentinelNode) => redisCommand(sentinel.port, 'INFO sentinel').catch(() => '');
  const isKnown = async () => (await Promise.all(sentinels.map(info))).every((text) => /slaves=1,sentinels=3/.test(text));
  await until(isKnown, 'the sentinels to know each other');
  const pair: Pair = {
    members,
    master: async () => {
      const named = (await Promise.all(sentinels.map(info))).map((text) => /address=127\.0\.0\.1:(\d+)/.exec(text)?.[1]);
      const [first, ...others] = named.filter((port) => port !== undefined);
      const member = members.find(({ proxy }) => String(proxy.port) === first);
      return member !== undefined && others.every((port) => port === first) && (await isMaster(member)) ? member : null;
    },
    follow: async (former, successor) => {
      const give = async () => {
        if (await isMaster(former)) await redisCommand(former.node.port, `REPLICAOF 127.0.0.1 ${successor.proxy.port}`);
      };
      await untilDone(give, 'the former master to be given its successor');
    },
    handOver: () => Promise.any(sentinels.map(({ port }) => redisCommand(port, 'SENTINEL FAILOVER main'))),
    replacesUnreachable: true,
  };
  const killSentinel = async (chance: Chance) => {
    const sentinel = chance.pick(sentinels);
    await sentinel.kill();
    tally.killed('sentinel');
    await sleep(chance.between(0, 3_000));
    await sentinel.restart();
  };
  return {
    url: `redis+sentinel://${sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',')}/main`,
    faults: () => [...pairFaults([pair], mayLose, tally), { name: 'a sentinel is killed', act: killSentinel }],
  };
}

async function startCluster(owner: Owner, tally: Tally): Promise<StoreCluster> {
  const configLines = ['cluster-require-full-coverage no', `cluster-node-timeout ${downAfterMs}`];
  const cluster = await startRedisCluster(3, { replicas: true, appendonly: true, configLines });
  owner.after(() => cluster.stop());
  const pairs: Pair[] = [];
  for (const [index, node] of cluster.nodes.entries()) {
    const members = [await useMember(owner, node), await useMember(owner, cluster.replicas[index]!)] as const;
    for (const member of members) await announce(member, 'cluster-announce-port');
    const pair: Pair = {
      members,
      master: async () => {
        const masters = await Promise.all(members.map(isMaster));
        return masters[0] === masters[1] ? null : members[masters[0] ? 0 : 1];
      },
      follow: async () => undefined,
      handOver: (replica) => redisCommand(replica.node.port, 'CLUSTER FAILOVER'),
      replacesUnreachable: false,
    };
    await untilWhole(pair);
    pairs.push(pair);
  }
  const hosts = pairs.flatMap(({ members }) => members.map(({ proxy }) => `127.0.0.1:${proxy.port}`));
  return { url: `redis+cluster://${hosts.join(',')}`, faults: () => pairFaults(pairs, true, tally) };
}

/** The node has the role of a master, alive or not. */
async function isMaster({ node }: Member): Promise<boolean> {
  return /role:master/.test(await redisCommand(node.port, 'INFO replication').catch(() => ''));
}

async function isFollowing({ node }: Member): Promise<boolean> {
  return /master_link_status:up/.test(await redisCommand(node.port, 'INFO replication').catch(() => ''));
}

/** One is the master for everybody, and the other follows it. */
async function untilWhole({ members: [one, other], master }: Pick<Pair, 'members' | 'master'>): Promise<void> {
  const isWhole = async () => {
    const now = await master();
    return now !== null && (await isFollowing(now === one ? other : one));
  };
  await until(isWhole, 'a master of the store and its replica');
}

function pairFaults(pairs: readonly Pair[], mayLose: boolean, tally: Tally): Fault[] {
  const on = (name: string, act: (actors: Actors, chance: Chance) => Promise<void>): Fault => ({
    name,
    act: async (chance) => {
      const pair = chance.pick(pairs);
      await act(await actorsOf(pair, tally), chance);
    },
  });
  return [
    on('the master is killed', (actors) => actors.killMaster()),
    ...(mayLose ? [on('the master is killed before its replica has everything', (actors) => actors.killMaster(true))] : []),
    on('the master freezes', (actors) => actors.freezeMaster()),
    on('the master is cut off', (actors, chance) => actors.cutOff(chance.between(1_000, 10_000))),
    on('a fail-over is ordered', (actors) => actors.handOver()),
    on('the replica is killed', (actors, chance) => actors.killReplica(chance.between(0, 3_000))),
    on('the master pauses', (actors, chance) => actors.pause(chance.between(500, downAfterMs / 2))),
    on('the connections of the master are cut', (actors) => actors.cut()),
  ];
}

type Actors = Awaited<ReturnType<typeof actorsOf>>;

async function actorsOf(pair: Pair, tally: Tally) {
  const { members, master, follow, handOver, replacesUnreachable } = pair;
  const now = await until(master, 'a master of the store');
  const other = members.find((member) => member !== now)!;
  const untilReplaced = async () => {
    await until(async () => (await master()) === other, 'the fail-over of the store');
    tally.count('fail-overs');
  };
  const untilHealed = async () => {
    await follow(now, other);
    await untilWhole(pair);
  };
  return {
    async killMaster(losing = false) {
      if (losing) await stopReplication(now, other);
      await now.node.kill();
      tally.killed('Redis node');
      const mend = () => redisCommand(other.node.port, 'CONFIG SET masterauth ""');
      if (losing) await untilDone(mend, 'the replica to have its password again');
      await untilReplaced();
      await now.node.restart();
      await untilHealed();
    },
    async freezeMaster() {
      await now.node.suspend();
      tally.count('freezes');
      await untilReplaced();
      now.node.resume();
      await untilHealed();
    },
    async cutOff(ms: number) {
      now.proxy.blackHole(true);
      tally.count('partitions');
      if (replacesUnreachable) await untilReplaced();
      else await sleep(ms);
      await now.proxy.heal();
      if (replacesUnreachable) await untilHealed();
    },
    async handOver() {
      // It may be refused now, and even be given up once it was taken.
      const isReplaced = async () => {
        const named = await master();
        if (named === now) await handOver(other).catch(() => undefined);
        return named === other;
      };
      await until(isReplaced, 'an ordered fail-over of the store', 2_000);
      tally.count('fail-overs');
      await untilHealed();
    },
    async killReplica(pauseMs: number) {
      await other.node.kill();
      tally.killed('Redis node');
      await sleep(pauseMs);
      await other.node.restart();
      await untilWhole(pair);
    },
    async pause(ms: number) {
      await untilDone(() => redisCommand(now.node.port, `CLIENT PAUSE ${ms} ALL`), 'the master to pause');
      tally.count('freezes');
      await sleep(ms);
    },
    async cut() {
      now.proxy.cut();
      tally.count('cuts');
    },
  };
}

/** The replica loses its master and cannot come back to it, while the master takes writes that only it will have had. */
async function stopReplication(master: Member, replica: Member): Promise<void> {
  const offset = async () =>
    Number(/master_repl_offset:(\d+)/.exec(await redisCommand(master.node.port, 'INFO replication').catch(() => ''))?.[1] ?? 0);
  await untilDone(() => redisCommand(replica.node.port, 'CONFIG SET masterauth refused'), 'the replica to have another password');
  await untilDone(() => redisCommand(master.node.port, 'CLIENT KILL TYPE replica'), 'the replica to lose its master');
  const before = await offset();
  const writes = { what: 'writes that the replica has not got', timeoutMs: 30_000 };
  // Without traffic there is nothing to lose.
  await waitUntil(async () => (await offset()) > before + 20_000, writes).catch(() => undefined);
}

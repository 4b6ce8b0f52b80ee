/** Three RabbitMQ nodes, whose quorum queues have a member on each and their leaders spread; and what goes wrong with them. */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import amqp from 'amqplib';
import { RabbitNode } from '../../../deploy/local/rabbit-node.ts';
import { systemTime, within } from '../../../src/time.ts';
import type { Chance } from '../../simulation/virtual-time.ts';
import type { Owner } from '../../support/services.ts';
import type { TcpProxy } from '../../support/tcp-proxy.ts';
import { NodeLinks } from './node-links.ts';
import { type Fault, type Tally, until, untilDone } from './schedule.ts';

const configLines = [
  'queue_leader_locator = balanced',
  'cluster_partition_handling = pause_minority',
  // Nobody looks at rates here, and three nodes share the machine with everything else.
  'collect_statistics_interval = 60000',
];
const askingMs = 1_000;
const answerMs = 20_000;
/** So long a node may take to find the others again. */
const apartMs = 120_000;
/** The machine has a lot to do beside. */
const startTimeoutMs = 900_000;
const hangUpMs = 2_000;

export class BrokerCluster {
  readonly nodes: readonly RabbitNode[];
  readonly #links: ReadonlyMap<RabbitNode, NodeLinks>;
  readonly #tally: Tally;
  /** From one question to the next. */
  #kept: amqp.ChannelModel | null = null;

  private constructor(links: ReadonlyMap<RabbitNode, NodeLinks>, tally: Tally) {
    this.nodes = [...links.keys()];
    this.#links = links;
    this.#tally = tally;
  }

  static async start(owner: Owner, tally: Tally): Promise<BrokerCluster> {
    const links = new Map<RabbitNode, NodeLinks>();
    const begin = async (joins?: RabbitNode) => {
      const its = await NodeLinks.start(owner);
      const node = await RabbitNode.start({ configLines, joins, epmdPort: its.mapperPort, startTimeoutMs });
      owner.after(() => node.stop());
      links.set(node, its);
      return node;
    };
    const first = await begin();
    await Promise.all([begin(first), begin(first)]);
    const cluster = new BrokerCluster(links, tally);
    owner.after(() => hangUp(cluster.#kept));
    await cluster.#untilWhole();
    return cluster;
  }

  get urls(): readonly string[] {
    return this.nodes.map(({ amqpUrl }) => amqpUrl);
  }

  /** On any node that answers; null if none does or it fails there. */
  async attempt<T>(use: (channel: amqp.ConfirmChannel) => Promise<T>): Promise<T | null> {
    for (const url of [null, ...this.urls]) {
      const connection = url === null ? this.#kept : await connect(url);
      if (connection === null) continue;
      try {
        const answer = await withChannel(connection, use);
        if (this.#kept !== connection) await hangUp(this.#kept);
        this.#kept = connection;
        return answer;
      } catch {
        // The next node may do it.
        if (this.#kept === connection) this.#kept = null;
        await hangUp(connection);
      }
    }
    return null;
  }

  /** Messages ready in each of the queues; null while nobody says it. */
  ready(queues: readonly string[]): Promise<number[] | null> {
    return this.attempt(async (channel) => {
      const counts: number[] = [];
      for (const queue of queues) counts.push((await channel.checkQueue(queue)).messageCount);
      return counts;
    });
  }

  /** The bodies of all messages in a queue, which stay there; null if nobody says it. */
  bodies(queue: string): Promise<string[] | null> {
    return this.attempt(async (channel) => {
      const { messageCount } = await channel.checkQueue(queue);
      const bodies: string[] = [];
      if (messageCount === 0) return bodies;
      await new Promise<void>((resolve, reject) => {
        const take = (message: amqp.ConsumeMessage | null) => {
          if (message === null || bodies.push(message.content.toString()) === messageCount) resolve();
        };
        channel.consume(queue, take).catch(reject);
      });
      return bodies;
    });
  }

  faults(): Fault[] {
    const one = (chance: Chance) => chance.pick(this.nodes);
    return [
      { name: 'a node is killed', act: (chance) => this.#kill(one(chance), chance.between(500, 5_000)) },
      { name: 'a node restarts', act: (chance) => this.#restart(one(chance)) },
      { name: 'a node freezes', act: (chance) => this.#freeze(one(chance), chance.between(1_000, 12_000)) },
      { name: 'a memory alarm', act: (chance) => this.#alarm(one(chance), chance.between(500, 5_000)) },
      { name: 'a node is cut off from the others', act: (chance) => this.#cutOff(one(chance), chance.between(2_000, 40_000)) },
      { name: 'all connections of a node are closed', act: (chance) => this.#close(one(chance)) },
    ];
  }

  async #kill(node: RabbitNode, pauseMs: number): Promise<void> {
    await node.kill();
    this.#tally.killed('RabbitMQ node');
    await sleep(pauseMs);
    await node.restart();
    await this.#untilWhole();
  }

  async #restart(node: RabbitNode): Promise<void> {
    await node.restart();
    this.#tally.count('restarts');
    await this.#untilWhole();
  }

  async #freeze(node: RabbitNode, ms: number): Promise<void> {
    await node.suspend();
    await sleep(ms);
    node.resume();
    this.#tally.count('freezes');
    await this.#untilWhole();
  }

  /** Clients still reach it. Once it finds itself alone it stops serving, until it sees the others again. */
  async #cutOff(node: RabbitNode, ms: number): Promise<void> {
    const ways = await this.#waysOf(node);
    for (const way of ways) way.blackHole(true);
    this.#tally.count('partitions');
    await sleep(ms);
    for (const way of ways) way.blackHole(false);
    await this.#untilWhole();
  }

  /** Between a node and the others, in both directions. */
  #waysOf(node: RabbitNode): Promise<TcpProxy[]> {
    const others = this.nodes.filter((other) => other !== node);
    const ways = others.flatMap((other) => [
      this.#links.get(node)!.to(other.distributionPort),
      this.#links.get(other)!.to(node.distributionPort),
    ]);
    return Promise.all(ways);
  }

  async #alarm(node: RabbitNode, ms: number): Promise<void> {
    const set = (share: string) => untilDone(() => node.ctl('set_vm_memory_high_watermark', share), 'the limit of memory to be set');
    await set('0.00001');
    this.#tally.count('alarms');
    await sleep(ms);
    await set('0.4');
  }

  async #close(node: RabbitNode): Promise<void> {
    const close = async () => {
      const all = (await (await ask(node, 'connections?columns=name,node')).json()) as { readonly name: string; readonly node: string }[];
      const its = all.filter((connection) => connection.node === node.nodeName);
      await Promise.all(its.map(({ name }) => ask(node, `connections/${encodeURIComponent(name)}`, 'DELETE')));
    };
    await untilDone(close, 'connections to be closed');
    this.#tally.count('cuts');
  }

  /**
   * Every queue has all its members, so that the next node may go; leaders are spread again. A node that hears of the others again in the
   * moment in which it takes them for gone does not pause, and stays apart for good: it is restarted, which is what RabbitMQ's guide says.
   */
  async #untilWhole(): Promise<void> {
    let patientUntilMs = performance.now() + apartMs;
    const isWhole = async () => {
      if ((await Promise.all(this.nodes.map((node) => this.#answers(node)))).every(Boolean)) return true;
      if (performance.now() < patientUntilMs) return false;
      for (const node of this.nodes) {
        if (!(await this.#isApart(node))) continue;
        await node.restart();
        this.#tally.count('partitions that an operator ended');
        break;
      }
      patientUntilMs = performance.now() + apartMs;
      return false;
    };
    await until(isWhole, 'the cluster of brokers to be whole', askingMs);
    await ask(this.nodes[0]!, 'rebalance/queues', 'POST').catch(() => undefined);
  }

  /** It sees all nodes run, and could itself be spared. */
  async #answers(node: RabbitNode): Promise<boolean> {
    try {
      return (await runningFor(node)) === this.nodes.length && (await ask(node, 'health/checks/node-is-quorum-critical')).ok;
    } catch {
      return false;
    }
  }

  /** It runs, and sees no other run. */
  async #isApart(node: RabbitNode): Promise<boolean> {
    return (await runningFor(node).catch(() => 0)) === 1;
  }
}

/** How many nodes of the cluster run, as this one sees it. */
async function runningFor(node: RabbitNode): Promise<number> {
  const members = (await (await ask(node, 'nodes?columns=running')).json()) as { readonly running: boolean }[];
  return members.filter(({ running }) => running).length;
}

async function connect(url: string): Promise<amqp.ChannelModel | null> {
  const connection = await amqp.connect(url, { timeout: answerMs }).catch(() => null);
  connection?.on('error', () => undefined);
  return connection;
}

/** A connection that was lost may answer nothing at all. */
async function withChannel<T>(connection: amqp.ChannelModel, use: (channel: amqp.ConfirmChannel) => Promise<T>): Promise<T> {
  const ask = async () => {
    const channel = await connection.createConfirmChannel();
    channel.on('error', () => undefined);
    const lost = once(channel, 'close').then(() => Promise.reject(new Error('the channel was closed')));
    lost.catch(() => undefined);
    const answer = await Promise.race([use(channel), lost]);
    await channel.close();
    return { answer };
  };
  const given = await within(systemTime, ask(), answerMs);
  if (given === null) throw new Error('no answer');
  return given.answer;
}

async function hangUp(connection: amqp.ChannelModel | null): Promise<void> {
  if (connection !== null) await within(systemTime, connection.close(), hangUpMs).catch(() => undefined);
}

function ask(node: RabbitNode, path: string, method = 'GET'): Promise<Response> {
  const { origin, username, password } = new URL(node.managementUrl);
  const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  return fetch(`${origin}/api/${path}`, { method, headers: { authorization }, signal: AbortSignal.timeout(10_000) });
}

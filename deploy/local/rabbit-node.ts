/**
 * A private RabbitMQ node made from the installed binaries: its own name, data, ports, port mapper and
 * configuration, on the loopback address only, with the consistent-hash exchange and the management plugin.
 * Any number of them run side by side and beside a system service. How it lives and ends is private-node.ts's; its
 * name too stays over a restart.
 */
import { type ChildProcess, execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { accepts, epmdPort } from './epmd.ts';
import { freePort, loopback } from './free-port.ts';
import { GuardedProcess } from './guarded-process.ts';
import { createPrivateDirectory } from './private-directory.ts';
import { PrivateNode, startNode } from './private-node.ts';
import { findRabbitBinaries, type RabbitBinaries } from './rabbit-binaries.ts';
import { rabbitNodeEnvironment, writeRabbitNodeFiles, type RabbitNodeIdentity } from './rabbit-node-files.ts';
import { waitUntil } from './wait-until.ts';

const run = promisify(execFile);

const shutdownGraceMs = 30_000;
const ctlTimeoutMs = 900_000;
const logLinesInErrors = 15;
const amqpProtocolHeader = Buffer.from('AMQP\x00\x00\x09\x01', 'latin1');

/** Nodes of one process share a cookie, so that they may be joined into a cluster. */
const erlangCookie = randomBytes(12).toString('hex').toUpperCase();

export interface RabbitNodeOptions {
  /** Lines added to rabbitmq.conf, for instance `consumer_timeout = 10000`. */
  readonly configLines?: readonly string[];
  /** Enabled beside the hash exchange and the management API. */
  readonly plugins?: readonly string[];
  /** Joins the cluster of a running node of this process. */
  readonly joins?: RabbitNode;
  /** How long it may take to come up, at each start. Default 300,000. */
  readonly startTimeoutMs?: number | undefined;
  /** Whom it asks for the ports of other nodes. Default: the port mapper of this process. */
  readonly epmdPort?: number;
}

export class RabbitNode extends PrivateNode {
  readonly #identity: RabbitNodeIdentity;
  readonly #binaries: RabbitBinaries;
  readonly #ctls = new Set<ChildProcess>();

  private constructor(identity: RabbitNodeIdentity, binaries: RabbitBinaries, startTimeoutMs?: number) {
    super({ directory: identity.directory, shutdownGraceMs, startTimeoutMs });
    this.#identity = identity;
    this.#binaries = binaries;
  }

  /** Starts a fresh node and resolves when it serves AMQP. Throws, with what it logged, when it does not come up. */
  static async start(options: RabbitNodeOptions = {}): Promise<RabbitNode> {
    const binaries = findRabbitBinaries();
    if (binaries === null) throw new Error('RabbitMQ is not installed on this machine');
    return startNode({
      draw: async () => new RabbitNode(await newIdentity(options.epmdPort), binaries, options.startTimeoutMs),
      start: async (node) => {
        const cluster = options.joins === undefined ? [] : joining(node, options.joins);
        await writeRabbitNodeFiles(node.#identity, [...cluster, ...(options.configLines ?? [])], options.plugins ?? []);
        await node.launch();
      },
      portTaken: 'eaddrinuse',
    });
  }

  /** `amqp://guest:guest@127.0.0.1:…`; stays the same over restarts. */
  get amqpUrl(): string {
    return `amqp://guest:guest@${loopback}:${this.#identity.amqpPort}`;
  }

  /** `http://guest:guest@127.0.0.1:…`, the base of the management API. */
  get managementUrl(): string {
    return `http://guest:guest@${loopback}:${this.#identity.managementPort}`;
  }

  get nodeName(): string {
    return this.#identity.nodeName;
  }

  /** Where other Erlang nodes connect; stays the same over restarts. */
  get distributionPort(): number {
    return this.#identity.distributionPort;
  }

  /** Runs `rabbitmqctl` against this node and returns what it printed; throws with its error text. */
  async ctl(...args: string[]): Promise<string> {
    const env = rabbitNodeEnvironment(this.#identity);
    const running = run(this.#binaries.ctl, ['--quiet', ...args], { env, timeout: ctlTimeoutMs });
    this.#ctls.add(running.child);
    try {
      return (await running).stdout;
    } finally {
      this.#ctls.delete(running.child);
    }
  }

  /** Also what still asks it, which would go on asking. */
  override async stop(): Promise<void> {
    for (const ctl of this.#ctls) ctl.kill('SIGKILL');
    await super.stop();
  }

  /** Resolves when AMQP and the management API answer. */
  protected async waitReady(timeoutMs: number): Promise<void> {
    const answers = async (): Promise<boolean> => {
      if (!this.running) throw new Error('the node ended while it was starting');
      return (await speaksAmqp(this.#identity.amqpPort)) && (await accepts(this.#identity.managementPort));
    };
    try {
      await waitUntil(answers, { timeoutMs, what: 'RabbitMQ to answer', intervalMs: 100 });
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`RabbitMQ did not start: ${reason}\n${await this.#whatItSaid()}`, { cause });
    }
  }

  protected spawn(): Promise<GuardedProcess> {
    return GuardedProcess.spawn({
      command: this.#binaries.server,
      args: [],
      env: rabbitNodeEnvironment(this.#identity),
      directory: this.#identity.directory,
      logFile: join(this.#identity.directory, 'console.log'),
    });
  }

  /** The first errors that the node logged, for they name the cause; without any, the last lines. */
  async #whatItSaid(): Promise<string> {
    const files = [join(this.#identity.directory, 'console.log'), join(this.#identity.directory, 'log', 'rabbit.log')];
    const texts = await Promise.all(files.map((file) => readFile(file, 'utf8').catch(() => '')));
    const lines = texts
      .join('\n')
      .split('\n')
      .filter((line) => line.trim() !== '');
    const errors = lines.filter((line) => /\[error\] \S+ +\S/.test(line));
    return (errors.length > 0 ? errors.slice(0, logLinesInErrors) : lines.slice(-logLinesInErrors)).join('\n');
  }
}

/** A node without data joins the first of these that it reaches, before it serves anybody. */
function joining(...nodes: readonly RabbitNode[]): string[] {
  const members = nodes.map(({ nodeName }, index) => `cluster_formation.classic_config.nodes.${index + 1} = ${nodeName}`);
  return ['cluster_formation.peer_discovery_backend = classic_config', ...members];
}

async function newIdentity(mapperPort?: number): Promise<RabbitNodeIdentity> {
  const directory = await createPrivateDirectory('rabbit');
  await mkdir(join(directory, 'conf.d'));
  return {
    directory,
    nodeName: `inorder-${randomBytes(4).toString('hex')}@localhost`,
    cookie: erlangCookie,
    amqpPort: await freePort(),
    managementPort: await freePort(),
    distributionPort: await freePort(),
    epmdPort: mapperPort ?? (await epmdPort()),
  };
}

/** Whether a broker there answers the protocol header, which it does only when its boot is complete. */
function speaksAmqp(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: loopback }, () => socket.write(amqpProtocolHeader));
    const answer = (speaks: boolean): void => {
      socket.destroy();
      resolve(speaks);
    };
    socket.setTimeout(5_000, () => answer(false));
    // The first octet of a method frame is 1; a broker that refuses the version answers with "AMQP" instead.
    socket.once('data', (data) => answer(data[0] === 1));
    socket.once('error', () => answer(false));
    socket.once('close', () => answer(false));
  });
}

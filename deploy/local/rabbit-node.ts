/**
 * A private RabbitMQ node made from the installed binaries: its own name, data, ports, port mapper and
 * configuration, on the loopback address only, with the consistent-hash exchange and the management plugin.
 * Any number of them run side by side and beside a system service. How it lives and ends is private-node.ts's; its
 * name too stays over a restart.
 */
import { execFile } from 'node:child_process';
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

const startTimeoutMs = 90_000;
const shutdownGraceMs = 30_000;
const ctlTimeoutMs = 60_000;
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
}

export class RabbitNode extends PrivateNode {
  readonly #identity: RabbitNodeIdentity;
  readonly #binaries: RabbitBinaries;

  private constructor(identity: RabbitNodeIdentity, binaries: RabbitBinaries) {
    super({ directory: identity.directory, shutdownGraceMs: shutdownGraceMs });
    this.#identity = identity;
    this.#binaries = binaries;
  }

  /** Starts a fresh node and resolves when it serves AMQP. Throws, with what it logged, when it does not come up. */
  static async start(options: RabbitNodeOptions = {}): Promise<RabbitNode> {
    const binaries = findRabbitBinaries();
    if (binaries === null) throw new Error('RabbitMQ is not installed on this machine');
    return startNode({
      draw: async () => new RabbitNode(await newIdentity(), binaries),
      start: async (node) => {
        await writeRabbitNodeFiles(node.#identity, options.configLines ?? [], options.plugins ?? []);
        await node.launch();
        if (options.joins !== undefined) await node.#join(options.joins);
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

  /** Runs `rabbitmqctl` against this node and returns what it printed; throws with its error text. */
  async ctl(...args: string[]): Promise<string> {
    const { stdout } = await run(this.#binaries.ctl, ['--quiet', ...args], {
      env: rabbitNodeEnvironment(this.#identity),
      timeout: ctlTimeoutMs,
    });
    return stdout;
  }

  /** Resolves when AMQP and the management API answer; throws when the node ends instead or takes longer than `timeoutMs`. */
  async waitReady(timeoutMs: number = startTimeoutMs): Promise<void> {
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

  async #join(member: RabbitNode): Promise<void> {
    await this.ctl('stop_app');
    await this.ctl('join_cluster', member.nodeName);
    await this.ctl('start_app');
    await this.waitReady();
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

async function newIdentity(): Promise<RabbitNodeIdentity> {
  const directory = await createPrivateDirectory('rabbit');
  await mkdir(join(directory, 'conf.d'));
  return {
    directory,
    nodeName: `inorder-${randomBytes(4).toString('hex')}@localhost`,
    cookie: erlangCookie,
    amqpPort: await freePort(),
    managementPort: await freePort(),
    distributionPort: await freePort(),
    epmdPort: await epmdPort(),
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

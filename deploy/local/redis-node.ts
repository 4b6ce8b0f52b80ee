/**
 * A private Redis server made from the installed binary: its own directory and port, on the loopback address only,
 * refusing to evict (`noeviction`), as Inorder demands of its store.
 *
 * How it lives and ends is private-node.ts's. What survives a kill is what Redis had written: with `appendonly` at the
 * latest second, without it nothing.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { freePort, loopback } from './free-port.ts';
import { GuardedProcess } from './guarded-process.ts';
import { createPrivateDirectory } from './private-directory.ts';
import { PrivateNode, startNode } from './private-node.ts';
import { findExecutable } from './rabbit-binaries.ts';
import { waitUntil } from './wait-until.ts';

const shutdownGraceMs = 10_000;
const logLinesInErrors = 10;

export interface RedisNodeOptions {
  /** Keeps an append-only file, fsynced every second. Default false: nothing survives a kill. */
  readonly appendonly?: boolean;
  /** Cluster mode; the node is empty of slots until startRedisCluster (redis-cluster.ts) assigns them. Default false. */
  readonly cluster?: boolean;
  /** A second port, for TLS, with these files: the server's certificate, and the authority of its clients. Default: none. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string; readonly caFile: string };
  /** Lines added to redis.conf, for instance `maxmemory 16mb`. They come last and override. */
  readonly configLines?: readonly string[];
  /** How long it may take to come up, at each start. Default 300,000. */
  readonly startTimeoutMs?: number | undefined;
}

export class RedisNode extends PrivateNode {
  readonly port: number;
  /** Of the port for TLS, whether there is one or not. */
  readonly tlsPort: number;
  readonly #directory: string;
  readonly #command: string;

  private constructor(command: string, directory: string, port: number, tlsPort: number, startTimeoutMs?: number) {
    super({ directory, shutdownGraceMs, startTimeoutMs });
    this.#command = command;
    this.#directory = directory;
    this.port = port;
    this.tlsPort = tlsPort;
  }

  /** Starts an empty server and resolves when it answers. Throws, with the end of its log, when it does not come up. */
  static async start(options: RedisNodeOptions = {}): Promise<RedisNode> {
    const command = findExecutable('redis-server');
    if (command === null) throw new Error('Redis is not installed on this machine');
    return startNode({
      draw: async () =>
        new RedisNode(command, await createPrivateDirectory('redis'), await freePort(), await freePort(), options.startTimeoutMs),
      start: async (node) => {
        await node.#configure(options);
        await node.launch();
      },
      portTaken: 'Address already in use',
    });
  }

  /** `redis://127.0.0.1:…`; stays the same over restarts. */
  get redisUrl(): string {
    return `redis://${loopback}:${this.port}`;
  }

  async #configure(options: RedisNodeOptions): Promise<void> {
    const lines = [
      `bind ${loopback}`,
      `port ${this.port}`,
      `dir ${this.#directory}`,
      'daemonize no',
      // The title would replace the arguments, by which a left-behind process is recognised.
      'set-proc-title no',
      'save ""',
      'maxmemory-policy noeviction',
      `appendonly ${options.appendonly === true ? 'yes' : 'no'}`,
    ];
    if (options.cluster === true) {
      lines.push('cluster-enabled yes', 'cluster-config-file nodes.conf', 'cluster-node-timeout 2000');
      lines.push(`cluster-port ${await freePort()}`);
    }
    if (options.tls !== undefined) lines.push(`tls-port ${this.tlsPort}`, ...tlsLines(options.tls));
    lines.push(...(options.configLines ?? []));
    await mkdir(this.#directory, { recursive: true });
    await writeFile(join(this.#directory, 'redis.conf'), `${lines.join('\n')}\n`);
  }

  protected spawn(): Promise<GuardedProcess> {
    return GuardedProcess.spawn({
      command: this.#command,
      args: [join(this.#directory, 'redis.conf')],
      env: { PATH: '/usr/local/bin:/usr/bin:/bin', LANG: 'C.UTF-8' },
      directory: this.#directory,
      logFile: join(this.#directory, 'redis.log'),
    });
  }

  protected async waitReady(timeoutMs: number): Promise<void> {
    const answers = async (): Promise<boolean> => {
      if (!this.running) throw new Error('the server ended while it was starting');
      return (await redisCommand(this.port, 'PING').catch(() => '')) === '+PONG';
    };
    try {
      await waitUntil(answers, { timeoutMs, what: 'Redis to answer' });
    } catch (cause) {
      const log = await readFile(join(this.#directory, 'redis.log'), 'utf8').catch(() => '');
      const end = log.trimEnd().split('\n').slice(-logLinesInErrors).join('\n');
      throw new Error(`Redis did not start: ${cause instanceof Error ? cause.message : String(cause)}\n${end}`, { cause });
    }
  }
}

/** Also for a sentinel: whatever Redis connects to, it connects to with TLS. */
export function tlsLines({ certFile, keyFile, caFile }: NonNullable<RedisNodeOptions['tls']>): string[] {
  const files = [`tls-cert-file ${certFile}`, `tls-key-file ${keyFile}`, `tls-ca-cert-file ${caFile}`];
  return [...files, 'tls-replication yes', 'tls-cluster yes'];
}

/**
 * Sends one inline command over a connection of its own and returns the first line of the reply (or the lines of a bulk
 * reply). Enough to set a server up, without asking for a client library before one is known to be there.
 */
export function redisCommand(port: number, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: loopback }, () => socket.write(`${command}\r\n`));
    let received = '';
    socket.setTimeout(5_000, () => socket.destroy(new Error(`no answer to ${command.split(' ')[0]} within 5 s`)));
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      received += text;
      const reply = completeReply(received);
      if (reply === null) return;
      socket.destroy();
      if (reply.startsWith('-')) reject(new Error(reply.slice(1)));
      else resolve(reply);
    });
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('the connection was closed before the reply')));
  });
}

function completeReply(received: string): string | null {
  const end = received.indexOf('\r\n');
  if (end < 0) return null;
  if (!received.startsWith('$')) return received.slice(0, end);
  const length = Number(received.slice(1, end));
  const body = received.slice(end + 2);
  return Buffer.byteLength(body) >= length + 2 ? body.slice(0, length) : null;
}

/** A private PgBouncer before a PostgreSQL of a test: every transaction may get another connection of the server. */
import { readFile, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { freePort, loopback } from '../../deploy/local/free-port.ts';
import { GuardedProcess } from '../../deploy/local/guarded-process.ts';
import { createPrivateDirectory } from '../../deploy/local/private-directory.ts';
import { PrivateNode, startNode } from '../../deploy/local/private-node.ts';
import { waitUntil } from '../../deploy/local/wait-until.ts';
import { findPgBouncer, usePostgres } from './postgres.ts';

export interface PgBouncerOptions {
  /** Lines of its section, such as `max_client_conn=2`. */
  readonly settings?: readonly string[];
}

export class PgBouncerNode extends PrivateNode {
  readonly #command: string;
  readonly #directory: string;
  readonly #port: number;
  readonly #server: URL;

  private constructor(command: string, directory: string, port: number, server: URL) {
    super({ directory, shutdownGraceMs: 5_000 });
    this.#command = command;
    this.#directory = directory;
    this.#port = port;
    this.#server = server;
  }

  /** Before the server with this URL, in transaction mode, with few connections, so that they change hands. */
  static async start(url: string, { settings = [] }: PgBouncerOptions = {}): Promise<PgBouncerNode> {
    const command = findPgBouncer();
    if (command === null) throw new Error('PgBouncer is not installed on this machine');
    return startNode({
      draw: async () => new PgBouncerNode(command, await createPrivateDirectory('pgbouncer'), await freePort(), new URL(url)),
      start: async (node) => {
        await node.#configure(settings);
        await node.launch();
      },
      portTaken: 'Address already in use',
    });
  }

  /** The database that is behind it. */
  get url(): string {
    const url = new URL(this.#server);
    url.host = `${loopback}:${this.#port}`;
    return url.href;
  }

  async #configure(settings: readonly string[]): Promise<void> {
    const { hostname, port, pathname, username } = this.#server;
    const database = pathname.slice(1);
    const lines = [
      '[databases]',
      `${database} = host=${hostname} port=${port} dbname=${database} user=${username}`,
      '[pgbouncer]',
      `listen_addr=${loopback}`,
      `listen_port=${this.#port}`,
      'unix_socket_dir=',
      'auth_type=any',
      'pool_mode=transaction',
      'default_pool_size=4',
      'max_client_conn=200',
      // It refuses to be root.
      ...(process.getuid?.() === 0 ? ['user=nobody'] : []),
      ...settings,
    ];
    await writeFile(join(this.#directory, 'pgbouncer.ini'), `${lines.join('\n')}\n`);
  }

  protected spawn(): Promise<GuardedProcess> {
    const args = [join(this.#directory, 'pgbouncer.ini')];
    return GuardedProcess.spawn({
      command: this.#command,
      args,
      env: { PATH: '/usr/local/bin:/usr/bin:/bin' },
      directory: this.#directory,
      logFile: this.#log,
    });
  }

  protected async waitReady(timeoutMs: number): Promise<void> {
    const accepts = async (): Promise<boolean> => {
      if (!this.running) throw new Error(`PgBouncer did not start: ${await readFile(this.#log, 'utf8')}`);
      return new Promise((resolve) => {
        const socket = createConnection(this.#port, loopback);
        socket.once('error', () => resolve(false));
        socket.once('connect', () => {
          socket.destroy();
          resolve(true);
        });
      });
    };
    await waitUntil(accepts, { what: 'PgBouncer', timeoutMs });
  }

  get #log(): string {
    return join(this.#directory, 'pgbouncer.log');
  }
}

let shared: Promise<PgBouncerNode> | null = null;

/** The URL of one pooler for the whole file, before the server of `usePostgres`. */
export async function usePooler(_t?: TestContext): Promise<string> {
  shared ??= usePostgres().then((url) => PgBouncerNode.start(url));
  return (await shared).url;
}

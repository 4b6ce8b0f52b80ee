/**
 * A private PostgreSQL server made from the installed binaries: its own cluster of databases and port, on the loopback address
 * only, with one superuser who needs no password. How it lives and ends is private-node.ts's.
 *
 * PostgreSQL refuses to run as root. Started by root, it runs as the user `postgres` of the package, or as `nobody`.
 */
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { chown, mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { freePort, loopback } from './free-port.ts';
import { GuardedProcess } from './guarded-process.ts';
import { createPrivateDirectory } from './private-directory.ts';
import { PrivateNode, startNode } from './private-node.ts';
import { findExecutable } from './rabbit-binaries.ts';
import { waitUntil } from './wait-until.ts';

const run = promisify(execFile);

const shutdownGraceMs = 10_000;
const logLinesInErrors = 10;
const debianPlace = '/usr/lib/postgresql';
const userName = 'inorder';

interface Account {
  readonly uid: number;
  readonly gid: number;
}

export interface PostgresNodeOptions {
  /** Further settings, such as `max_connections=20`. */
  readonly settings?: readonly string[];
}

/** The directory of `initdb` and `postgres`, of the newest version that is installed; null when there is none. */
export function findPostgresBinaries(env: NodeJS.ProcessEnv = process.env): string | null {
  const onPath = findExecutable('initdb', env);
  if (onPath !== null) return dirname(onPath);
  const [newest] = listOf(debianPlace).sort((a, b) => Number(b) - Number(a));
  return newest === undefined ? null : join(debianPlace, newest, 'bin');
}

export class PostgresNode extends PrivateNode {
  readonly port: number;
  readonly #binaries: string;
  readonly #directory: string;
  readonly #account: Account | null;
  readonly #settings: readonly string[];

  private constructor(binaries: string, directory: string, port: number, account: Account | null, settings: readonly string[]) {
    super({ directory, shutdownGraceMs });
    this.#binaries = binaries;
    this.#directory = directory;
    this.port = port;
    this.#account = account;
    this.#settings = settings;
  }

  /** Resolves when the server answers; throws when PostgreSQL is not installed or the server does not come up. */
  static async start({ settings = [] }: PostgresNodeOptions = {}): Promise<PostgresNode> {
    const binaries = findPostgresBinaries();
    if (binaries === null) throw new Error('PostgreSQL is not installed on this machine');
    const account = await unprivilegedAccount();
    return startNode({
      draw: async () => new PostgresNode(binaries, await createDirectory(account), await freePort(), account, settings),
      start: async (node) => {
        await node.#initialize();
        await node.launch();
      },
      portTaken: 'Address already in use',
    });
  }

  /** `postgres://inorder@127.0.0.1:…/postgres`; stays the same over restarts. */
  get url(): string {
    return `postgres://${userName}@${loopback}:${this.port}/postgres`;
  }

  /** SIGINT is PostgreSQL's orderly end that does not wait for its clients. */
  override async shutdown(): Promise<void> {
    this.signal('SIGINT');
    await super.shutdown();
  }

  async #initialize(): Promise<void> {
    await mkdir(this.#data, { recursive: true, mode: 0o700 });
    if (this.#account !== null) {
      for (const directory of [this.#directory, this.#data]) await chown(directory, this.#account.uid, this.#account.gid);
    }
    const [command, ...args] = this.#commandLine(
      'initdb',
      '--pgdata',
      this.#data,
      '--username',
      userName,
      '--auth',
      'trust',
      '--encoding',
      'UTF8',
      '--locale',
      'C',
      '--no-sync',
    );
    await run(command, args, { cwd: this.#directory, env: this.#environment });
  }

  protected spawn(): Promise<GuardedProcess> {
    const settings = [`listen_addresses=${loopback}`, `port=${this.port}`, 'unix_socket_directories=', ...this.#settings];
    const [command, ...args] = this.#commandLine('postgres', '-D', this.#data, ...settings.flatMap((setting) => ['-c', setting]));
    return GuardedProcess.spawn({ command, args, env: this.#environment, directory: this.#directory, logFile: this.#log });
  }

  protected async waitReady(timeoutMs: number): Promise<void> {
    const answers = async (): Promise<boolean> => {
      if (!this.running) throw new Error('the server ended while it was starting');
      const client = new pg.Client({ connectionString: this.url, connectionTimeoutMillis: 2_000 });
      client.on('error', () => undefined);
      return client.connect().then(
        () => client.end().then(() => true),
        () => false,
      );
    };
    try {
      await waitUntil(answers, { what: 'PostgreSQL', timeoutMs });
    } catch (cause) {
      const log = await readFile(this.#log, 'utf8').catch(() => '');
      throw new Error(`PostgreSQL did not start: ${log.trimEnd().split('\n').slice(-logLinesInErrors).join('\n')}`, { cause });
    }
  }

  get #data(): string {
    return join(this.#directory, 'data');
  }

  get #log(): string {
    return join(this.#directory, 'postgres.log');
  }

  get #environment(): NodeJS.ProcessEnv {
    return { PATH: '/usr/local/bin:/usr/bin:/bin', LANG: 'C.UTF-8', TZ: 'UTC' };
  }

  #commandLine(program: string, ...args: readonly string[]): readonly [string, ...string[]] {
    const command = join(this.#binaries, program);
    if (this.#account === null) return [command, ...args];
    const { uid, gid } = this.#account;
    return ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', command, ...args];
  }
}

/** The other account has to get there, which it cannot where root's own temporary directory is closed to others. */
function createDirectory(account: Account | null): Promise<string> {
  return account === null ? createPrivateDirectory('postgres') : createPrivateDirectory('postgres', '/tmp');
}

/** Null when this process is not root's. */
async function unprivilegedAccount(): Promise<Account | null> {
  if (process.getuid?.() !== 0) return null;
  const lines = (await readFile('/etc/passwd', 'utf8')).split('\n');
  const line = lines.find((one) => one.startsWith('postgres:')) ?? lines.find((one) => one.startsWith('nobody:'));
  const [, , uid, gid] = line?.split(':') ?? [];
  if (uid === undefined || gid === undefined)
    throw new Error('PostgreSQL does not run as root, and there is neither a user postgres nor nobody');
  return { uid: Number(uid), gid: Number(gid) };
}

function listOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

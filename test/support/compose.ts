/** The whole of docker-compose.yml as a project of a test's own: its own name, ports and volumes, removed after the test. */
import { execFile, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import { readFileSync } from 'node:fs';
import { freePort } from '../../deploy/local/free-port.ts';
import { checkout } from './checkout.ts';

const run = promisify(execFile);
const upTimeoutMs = 600_000;

export interface ComposeService {
  readonly image: string;
  readonly build?: unknown;
  readonly pull_policy?: string;
  readonly ports?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly healthcheck?: object;
  readonly profiles?: readonly string[];
  readonly networks?: readonly string[];
  readonly restart?: string;
  readonly mem_limit?: string;
  readonly pids_limit?: number;
  readonly security_opt?: readonly string[];
}

export function readCompose(): Readonly<Record<string, ComposeService>> {
  return (parse(readFileSync(`${checkout}docker-compose.yml`, 'utf8'), { merge: true }) as { services: Record<string, ComposeService> })
    .services;
}

/** Images that are pulled, and not built, by the variable that names another. */
export function imagesNeeded(): ReadonlyMap<string, string> {
  const dockerfile = readFileSync(`${checkout}deploy/Dockerfile`, 'utf8');
  const pulled = Object.values(readCompose()).flatMap(({ image, build, pull_policy }) =>
    build === undefined && pull_policy !== 'never' ? [/^\$\{(\w+):-([^}]+)\}$/.exec(image)!] : [],
  );
  return new Map([/^ARG (NODE_IMAGE)=(\S+)$/m.exec(dockerfile)!, ...pulled].map(([, variable = '', usual = '']) => [variable, usual]));
}

/** Null when an engine with compose has every image, otherwise a sentence for a skipped test. */
export function missingCompose(): string | null {
  if (spawnSync('docker', ['compose', 'version']).status !== 0) return 'there is no `docker compose`';
  if (spawnSync('docker', ['info']).status !== 0) return 'no Docker engine answers';
  const needed = [...imagesNeeded()].map(([variable, usual]) => process.env[variable] || usual);
  const absent = needed.filter((image) => spawnSync('docker', ['image', 'inspect', image]).status !== 0);
  return absent.length === 0 ? null : `the engine lacks ${absent.join(', ')}: pull them, or run test/support/standin-images.sh`;
}

export interface Address {
  readonly prometheus: string;
  readonly grafana: string;
  readonly workers: readonly [string, string];
}

export class ComposeProject {
  readonly name = `inorder-test-${randomBytes(4).toString('hex')}`;
  readonly address: Address;
  readonly #env: NodeJS.ProcessEnv;

  private constructor(ports: Readonly<Record<string, string>>) {
    this.#env = { ...process.env, ...ports, INORDER_IMAGE: this.name };
    const [first = 0, second = 0] = (ports['WORKER_PORTS'] ?? '').split('-').map(Number);
    const at = (port: string | number | undefined) => `http://127.0.0.1:${port}`;
    this.address = { prometheus: at(ports['PROMETHEUS_PORT']), grafana: at(ports['GRAFANA_PORT']), workers: [at(first), at(second)] };
  }

  static async prepare(t: TestContext): Promise<ComposeProject> {
    const ports: Record<string, string> = {};
    for (const name of ['AMQP_PORT', 'MANAGEMENT_PORT', 'REDIS_PORT', 'PROMETHEUS_PORT', 'ALERTMANAGER_PORT', 'GRAFANA_PORT'])
      ports[name] = String(await freePort());
    const workers = await twoFreePorts();
    const project = new ComposeProject({ ...ports, WORKER_PORTS: `${workers}-${workers + 1}` });
    t.after(() => project.#compose('--profile', 'demo', 'down', '--volumes', '--rmi', 'local', '--timeout', '5'));
    return project;
  }

  /** As deploy/README.md says it, with orders that keep coming. */
  async up(): Promise<void> {
    await this.#compose('--profile', 'demo', 'up', '--wait', '--build');
  }

  /** Ids of a service's containers. */
  async containers(service: string): Promise<readonly string[]> {
    return (await this.#compose('ps', '--all', '--quiet', service)).trim().split('\n');
  }

  /** A worker of the image by itself, outside of the project; its container's id. */
  async run(t: TestContext, ...options: readonly string[]): Promise<string> {
    const container = (await run('docker', ['run', '--detach', ...options, this.name])).stdout.trim();
    t.after(() => run('docker', ['rm', '--force', '--volumes', container]));
    return container;
  }

  async stop(service: string): Promise<void> {
    await this.#compose('stop', service);
  }

  async inspect(container: string): Promise<any> {
    return JSON.parse((await run('docker', ['inspect', container])).stdout)[0];
  }

  async logs(container: string): Promise<string> {
    const { stdout, stderr } = await run('docker', ['logs', container], { maxBuffer: 2 ** 26 });
    return stdout + stderr;
  }

  /** What a command in a container prints; rejects when it fails. */
  async exec(container: string, ...command: readonly string[]): Promise<string> {
    return (await run('docker', ['exec', container, ...command])).stdout;
  }

  async #compose(...words: readonly string[]): Promise<string> {
    const options = { cwd: checkout, env: this.#env, timeout: upTimeoutMs, maxBuffer: 2 ** 26 };
    return (await run('docker', ['compose', '--project-name', this.name, ...words], options)).stdout;
  }
}

/** The lower of two that are next to each other. */
async function twoFreePorts(): Promise<number> {
  for (;;) {
    const [first, second] = [await freePort(), await freePort()].sort((a, b) => a - b) as [number, number];
    if (second === first + 1) return first;
    const port = await freePort();
    if (port % 2 === 0 && port < 60_000) return port;
  }
}

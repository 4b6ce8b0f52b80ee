/**
 * A private Prometheus made from the installed binary, scraping and evaluating several times a second, and its
 * promtool. How it lives and ends is private-node.ts's. Where they are missing, `missingPrometheus` installs Debian's
 * package if it may, and otherwise says what to install.
 */
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { installDebianPackages } from '../../deploy/local/debian-packages.ts';
import { freePort, loopback } from '../../deploy/local/free-port.ts';
import { GuardedProcess } from '../../deploy/local/guarded-process.ts';
import { createPrivateDirectory } from '../../deploy/local/private-directory.ts';
import { PrivateNode, startNode } from '../../deploy/local/private-node.ts';
import { findExecutable } from '../../deploy/local/rabbit-binaries.ts';
import { waitFor } from './services.ts';

const installTimeoutMs = 600_000;

/** Null when `prometheus` and `promtool` are there, otherwise a sentence for a skipped test. */
export async function missingPrometheus(): Promise<string | null> {
  const isThere = () => findExecutable('prometheus') !== null && findExecutable('promtool') !== null;
  if (isThere()) return null;
  // Two test files at once must not both put the machine's policy-rc.d aside.
  const lock = join(tmpdir(), 'inorder-prometheus-installation');
  const mine = () =>
    mkdir(lock).then(
      () => true,
      () => false,
    );
  await waitFor(mine, { what: 'the other installation of Prometheus', timeoutMs: installTimeoutMs });
  try {
    if (isThere()) return null;
    const refused = await installDebianPackages(['prometheus'], process.env, (line) => process.stderr.write(`${line}\n`));
    return refused === null ? null : `install prometheus with promtool (Debian: apt-get install prometheus): ${refused}`;
  } finally {
    await rmdir(lock);
  }
}

export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [time: number, value: string];
}

export interface PrometheusOptions {
  /** `host:port` of the workers. */
  readonly workers: readonly string[];
  /** `host:port` of the broker's plugin. Default: it is not scraped. */
  readonly broker?: string;
  /** The text of a file of rules. Default: none. */
  readonly rules?: string;
  /** Between scrapes, and between evaluations of the rules. */
  readonly intervalMs: number;
}

export class PrometheusNode extends PrivateNode {
  readonly #directory: string;
  readonly #port: number;

  private constructor(directory: string, port: number) {
    super({ directory, shutdownGraceMs: 5_000 });
    this.#directory = directory;
    this.#port = port;
  }

  static async start(options: PrometheusOptions): Promise<PrometheusNode> {
    return startNode({
      draw: async () => new PrometheusNode(await createPrivateDirectory('prometheus'), await freePort()),
      start: async (node) => {
        await node.#configure(options);
        await node.launch();
      },
      portTaken: 'address already in use',
    });
  }

  /** What an expression is now. */
  async query(expression: string): Promise<readonly Sample[]> {
    return (await this.#get(`/api/v1/query?query=${encodeURIComponent(expression)}`)).result;
  }

  /** Trace ids that were kept with the samples of a metric. */
  async exemplarTraces(metric: string): Promise<readonly string[]> {
    const series: { readonly exemplars: readonly { readonly labels: Readonly<Record<string, string>> }[] }[] = await this.#get(
      `/api/v1/query_exemplars?query=${encodeURIComponent(metric)}&start=0&end=${Math.ceil(Date.now() / 1_000) + 60}`,
    );
    return series.flatMap(({ exemplars }) => exemplars.flatMap(({ labels }) => labels['trace_id'] ?? []));
  }

  /** Resolves when the alert is, or has been, in that state. */
  async untilAlert(name: string, state: 'pending' | 'firing', timeoutMs = 60_000): Promise<void> {
    const alerts = `last_over_time(ALERTS{alertname="${name}",alertstate="${state}"}[1h])`;
    await waitFor(async () => (await this.query(alerts)).length > 0, { what: `${name} ${state}`, timeoutMs, intervalMs: 100 });
  }

  async #get(path: string): Promise<any> {
    const response = await fetch(`http://${loopback}:${this.#port}${path}`, { signal: AbortSignal.timeout(10_000) });
    const { status, data, error } = (await response.json()) as { status: string; data: unknown; error?: string };
    if (status !== 'success') throw new Error(`${path}: ${error}`);
    return data;
  }

  async #configure({ workers, broker, rules = 'groups: []\n', intervalMs }: PrometheusOptions): Promise<void> {
    const interval = `${intervalMs}ms`;
    const config = {
      global: { scrape_interval: interval, scrape_timeout: interval, evaluation_interval: interval },
      rule_files: ['rules.yml'],
      scrape_configs: [
        { job_name: 'inorder-worker', static_configs: [{ targets: workers }] },
        ...(broker === undefined ? [] : [{ job_name: 'rabbitmq', static_configs: [{ targets: [broker] }] }]),
      ],
    };
    await writeFile(join(this.#directory, 'rules.yml'), rules);
    // JSON is YAML.
    await writeFile(join(this.#directory, 'prometheus.yml'), JSON.stringify(config));
  }

  protected spawn(): Promise<GuardedProcess> {
    return GuardedProcess.spawn({
      command: findExecutable('prometheus') ?? 'prometheus',
      args: [
        `--config.file=${join(this.#directory, 'prometheus.yml')}`,
        `--storage.tsdb.path=${join(this.#directory, 'data')}`,
        `--web.listen-address=${loopback}:${this.#port}`,
        '--enable-feature=exemplar-storage',
      ],
      env: { PATH: process.env.PATH },
      directory: this.#directory,
      logFile: join(this.#directory, 'prometheus.log'),
    });
  }

  protected async waitReady(): Promise<void> {
    const answers = async (): Promise<boolean> => {
      if (!this.running) throw new Error(await readFile(join(this.#directory, 'prometheus.log'), 'utf8'));
      return fetch(`http://${loopback}:${this.#port}/-/ready`).then(
        ({ status }) => status === 200,
        () => false,
      );
    };
    await waitFor(answers, { what: 'Prometheus to be ready', timeoutMs: 30_000 });
  }
}

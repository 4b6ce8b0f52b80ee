/**
 * Real worker processes for tests: `inorder worker` as users run it, with its environment, its signals and its
 * HTTP. A process that a test leaves behind is killed after it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { freePort } from '../../deploy/local/free-port.ts';
import { commandLine } from './checkout.ts';
import { leastPrivileged } from './least-privilege.ts';
import { type Owner, waitFor } from './services.ts';

/** The command's environment: what the test sets, and nothing of ours from outside. */
export function environment(variables: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const { PATH, HOME, TMPDIR } = process.env;
  return { PATH, HOME, TMPDIR, ...variables };
}

/** How the command is started. */
export interface Launcher {
  /** What comes before the words of the command. */
  readonly program: readonly [file: string, ...args: string[]];
  /** From where. Default: the folder of this process. */
  readonly folder?: string;
}

export const fromCheckout: Launcher = { program: [process.execPath, ...commandLine] };

export class WorkerProcess {
  readonly #child: ChildProcess;
  /** Where it serves HTTP. */
  readonly httpUrl: string;
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  #output = '';

  private constructor(child: ChildProcess, httpUrl: string) {
    this.#child = child;
    this.httpUrl = httpUrl;
    this.exited = once(child, 'exit').then(([code, signal]) => ({ code, signal }));
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output += text;
      });
    }
  }

  /** Starts a worker; it need not be ready yet. */
  static async start(
    t: Owner,
    variables: Readonly<Record<string, string>>,
    { program, folder }: Launcher = fromCheckout,
  ): Promise<WorkerProcess> {
    const port = await freePort();
    const env = environment({ HTTP_PORT: String(port), LOG_LEVEL: 'info', ...(await leastPrivileged(['worker'], variables)) });
    const [file, ...args] = program;
    const child = spawn(file, [...args, 'worker'], { env, cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
    const worker = new WorkerProcess(child, `http://127.0.0.1:${port}`);
    t.after(() => worker.kill());
    return worker;
  }

  /** Starts a worker and waits until `/readyz` says so. */
  static async ready(t: Owner, variables: Readonly<Record<string, string>>, launcher = fromCheckout): Promise<WorkerProcess> {
    const worker = await WorkerProcess.start(t, variables, launcher);
    await worker.untilReady();
    return worker;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Everything it has written so far. */
  get output(): string {
    return this.#output;
  }

  async untilReady(): Promise<void> {
    await waitFor(
      async () => {
        if (this.#child.exitCode !== null) throw new Error(`the worker ended:\n${this.#output}`);
        return (await this.get('/readyz').catch(() => null))?.status === 200;
      },
      { what: () => `a ready worker\n${this.#output}`, timeoutMs: 60_000 },
    );
  }

  async get(path: string): Promise<{ readonly status: number; readonly body: string }> {
    // A connection of its own: a kept one may be closed by the worker at the very moment it is used again.
    const headers = { connection: 'close' };
    const response = await fetch(this.httpUrl + path, { headers, signal: AbortSignal.timeout(10_000) });
    return { status: response.status, body: await response.text() };
  }

  async status(): Promise<any> {
    return JSON.parse((await this.get('/status')).body);
  }

  /** The sum of a metric over all samples whose labels contain `labels`. */
  async metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    const wanted = Object.entries(labels).map(([key, value]) => `${key}="${value}"`);
    const { body } = await this.get('/metrics');
    return body
      .split('\n')
      .filter((line) => (line.startsWith(`${name}{`) || line.startsWith(`${name} `)) && wanted.every((label) => line.includes(label)))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** SIGKILL, and waits for its end. Harmless when it has ended. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await this.exited;
  }
}

/**
 * One `inorder worker` of the demo: a process of its own, started as a user would start it, that cannot outlive the demo
 * however the demo ends. What it counts is read from its HTTP port; what it counted before it was killed is gone
 * with it, so the last reading is kept.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../deploy/local/free-port.ts';
import { GuardedProcess } from '../../deploy/local/guarded-process.ts';
import { createPrivateDirectory, removePrivateDirectory } from '../../deploy/local/private-directory.ts';
import { waitUntil } from '../../deploy/local/wait-until.ts';
import { UnavailableError } from '../errors.ts';
import { type Time, timeLimit } from '../time.ts';

export interface WorkerReading {
  readonly applied: number;
  readonly duplicates: number;
  readonly deadLettered: number;
  readonly violations: number;
  /** Events that wait for a predecessor now. */
  readonly held: number;
  /** Deliveries that are neither acknowledged nor rejected now. */
  readonly unsettled: number;
}

const nothing: WorkerReading = { applied: 0, duplicates: 0, deadLettered: 0, violations: 0, held: 0, unsettled: 0 };

const startTimeoutMs = 60_000;
const stopGraceMs = 40_000;
const readTimeoutMs = 2_000;
const linesOfLog = 15;

export class DemoWorker {
  readonly name: string;
  readonly pid: number;
  readonly #process: GuardedProcess;
  readonly #url: string;
  readonly #directory: string;
  readonly #time: Time;
  #last: WorkerReading = nothing;

  private constructor(name: string, process: GuardedProcess, url: string, directory: string, time: Time) {
    this.name = name;
    this.pid = process.pid;
    this.#process = process;
    this.#url = url;
    this.#directory = directory;
    this.#time = time;
  }

  /** The process runs; it is ready later. */
  static async start(name: string, env: NodeJS.ProcessEnv, time: Time): Promise<DemoWorker> {
    const port = await freePort();
    const directory = await createPrivateDirectory('worker');
    const main = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? '../main.ts' : '../main.js', import.meta.url));
    const child = await GuardedProcess.spawn({
      command: process.execPath,
      args: [...process.execArgv, main, 'worker'],
      env: { ...env, HTTP_PORT: String(port) },
      directory,
      logFile: join(directory, 'log'),
    });
    return new DemoWorker(name, child, `http://127.0.0.1:${port}`, directory, time);
  }

  /** The last reading; what the process counted after it is not known when it was killed. */
  get last(): WorkerReading {
    return this.#last;
  }

  get running(): boolean {
    return this.#process.running;
  }

  /** @throws UnavailableError, with the end of its log, when it ends instead. */
  async untilReady(signal: AbortSignal): Promise<void> {
    await waitUntil(
      async () => {
        signal.throwIfAborted();
        if (!this.running) throw await this.failure('did not start');
        return (await this.#get('/readyz'))?.ok ?? false;
      },
      { timeoutMs: startTimeoutMs, what: `${this.name} to be ready` },
    );
  }

  /** Counters and gauges as they are now; as they were last when the process is gone or does not answer. */
  async read(): Promise<WorkerReading> {
    const response = this.running ? await this.#get('/metrics') : null;
    if (response !== null) this.#last = await this.#readingFrom(await response.text());
    else if (!this.running) this.#last = { ...this.#last, held: 0, unsettled: 0 };
    return this.#last;
  }

  async kill(): Promise<void> {
    await this.#process.kill();
  }

  /** Lets it finish what is in flight. */
  async stop(): Promise<void> {
    await this.#process.terminate(stopGraceMs);
  }

  /** Ends it in any case and removes what it leaves behind. */
  async remove(): Promise<void> {
    await this.#process.kill();
    await removePrivateDirectory(this.#directory);
  }

  async failure(what: string): Promise<UnavailableError> {
    const log = await readFile(join(this.#directory, 'log'), 'utf8').catch(() => '');
    const end = log.trimEnd().split('\n').slice(-linesOfLog).join('\n');
    return new UnavailableError(`${this.name} ${what}; the end of its log:\n${end}`);
  }

  async #readingFrom(metrics: string): Promise<WorkerReading> {
    const sum = sums(metrics);
    return {
      applied: sum('inorder_events_total', 'outcome="applied"'),
      duplicates: sum('inorder_events_total', 'outcome="duplicate"'),
      deadLettered: sum('inorder_dead_letters_total'),
      violations: sum('message_ordering_violations_total'),
      held: sum('message_buffer_size'),
      unsettled: await this.#unsettled(),
    };
  }

  /** Not a metric, but in `/status`. A worker that does not answer has something unsettled for all one knows. */
  async #unsettled(): Promise<number> {
    const response = await this.#get('/status');
    if (response === null) return this.running ? 1 : 0;
    const { shards } = (await response.json()) as { shards: readonly { unsettled: number }[] };
    return shards.reduce((total, shard) => total + shard.unsettled, 0);
  }

  async #get(path: string): Promise<Response | null> {
    return fetch(this.#url + path, { signal: timeLimit(this.#time, readTimeoutMs) }).catch(() => null);
  }
}

/** Adds up the samples of a metric whose labels contain a text. */
function sums(metrics: string): (name: string, label?: string) => number {
  const lines = metrics.split('\n');
  return (name, label = '') =>
    lines
      .filter((line) => line.startsWith(`${name}{`) && line.includes(label))
      .reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

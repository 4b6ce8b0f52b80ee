/**
 * The workers of the demo: processes of their own, started as a user would start them, that cannot outlive the demo however it
 * ends. What they count is read from their HTTP ports many times a second, for only they know how much they hold and how often
 * something came too early. What one counted before it was killed is gone with it: its last reading is kept, as a lower bound.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UnavailableError } from '../../src/errors.ts';
import { sleep, systemTime } from '../../src/time.ts';
import { freePort } from '../local/free-port.ts';
import { GuardedProcess } from '../local/guarded-process.ts';
import { createPrivateDirectory, removePrivateDirectory } from '../local/private-directory.ts';
import { waitUntil } from '../local/wait-until.ts';

/** What one worker counted, or all of them. */
export interface WorkerReading {
  /** Messages that have their outcome. */
  readonly settled: number;
  readonly violations: number;
  /** Events that wait for a predecessor now. */
  readonly held: number;
  /** Deliveries that are neither acknowledged nor rejected now. */
  readonly unsettled: number;
}

export interface Observation extends WorkerReading {
  readonly heldAtMost: number;
}

const startTimeoutMs = 60_000;
const stopGraceMs = 40_000;
const readTimeoutMs = 2_000;
const readIntervalMs = 50;
const linesOfLog = 15;

export class DemoWorker {
  readonly name: string;
  readonly #process: GuardedProcess;
  readonly #url: string;
  readonly #directory: string;
  #last: WorkerReading = { settled: 0, violations: 0, held: 0, unsettled: 0 };

  private constructor(name: string, process: GuardedProcess, url: string, directory: string) {
    this.name = name;
    this.#process = process;
    this.#url = url;
    this.#directory = directory;
  }

  /** The process runs; it is ready later. */
  static async start(name: string, env: NodeJS.ProcessEnv): Promise<DemoWorker> {
    const port = await freePort();
    const directory = await createPrivateDirectory('worker');
    const main = import.meta.url.endsWith('.ts') ? '../../src/main.ts' : '../../src/main.js';
    const child = await GuardedProcess.spawn({
      command: process.execPath,
      args: [...process.execArgv, fileURLToPath(new URL(main, import.meta.url)), 'worker'],
      env: { ...env, HTTP_PORT: String(port) },
      directory,
      logFile: join(directory, 'log'),
    });
    return new DemoWorker(name, child, `http://127.0.0.1:${port}`, directory);
  }

  get pid(): number {
    return this.#process.pid;
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
    const sum = (name: string) =>
      metrics
        .split('\n')
        .filter((line) => line.startsWith(`${name}{`))
        .reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
    return {
      settled: sum('inorder_events_total'),
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
    return fetch(this.#url + path, { signal: AbortSignal.timeout(readTimeoutMs) }).catch(() => null);
  }
}

/** Looks at the workers again and again. */
export class Watch {
  readonly #workers: DemoWorker[] = [];
  readonly #onLook: (observation: Observation) => void | Promise<void>;
  #heldAtMost = 0;
  #stopped = false;
  #loop: Promise<void> | null = null;

  /** `onLook` is awaited before the next look. What it throws is thrown by `stop`. */
  constructor(onLook: (observation: Observation) => void | Promise<void>) {
    this.#onLook = onLook;
  }

  add(worker: DemoWorker): void {
    this.#workers.push(worker);
  }

  start(): void {
    this.#loop = this.#run();
    // Reported by the stop of the watch.
    this.#loop.catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop;
  }

  async look(): Promise<Observation> {
    const readings = await Promise.all(this.#workers.map((worker) => worker.read()));
    const sum = (count: keyof WorkerReading) => readings.reduce((total, reading) => total + reading[count], 0);
    const held = sum('held');
    this.#heldAtMost = Math.max(this.#heldAtMost, held);
    return { settled: sum('settled'), violations: sum('violations'), held, unsettled: sum('unsettled'), heldAtMost: this.#heldAtMost };
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      await this.#onLook(await this.look());
      await sleep(systemTime, readIntervalMs);
    }
  }
}

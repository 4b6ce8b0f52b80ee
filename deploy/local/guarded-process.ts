/**
 * A service process that never outlives the process that started it.
 *
 * Each service gets a guardian: a tiny shell that holds the reading end of a pipe from this process. However this
 * process ends (return, exception, SIGINT, SIGKILL), the kernel closes the pipe, the guardian reads the end of it,
 * kills the service's process group and removes its directory. No exit handler has to run for that.
 * A service that ended before its owner releases its guardian, so a reused process id is never hit.
 *
 * Both live in sessions of their own: Ctrl-C in a terminal reaches the owner, which decides, and not them.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { waitUntil } from './wait-until.ts';

const guardianScript = `
trap '' HUP INT TERM
read -r word && [ "$word" = released ] && exit 0
kill -s KILL -- "-$1" 2>/dev/null
sleep 0.2
rm -rf -- "$2"
`;

/** The file, in the directory of a service, that holds its process id; the sweep of stale directories reads it. */
export const processIdFile = 'service.pid';

export interface GuardedProcessOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** The service's private directory: its working directory, and removed by the guardian when the owner dies. */
  readonly directory: string;
  /** Where standard output and error go; appended to. */
  readonly logFile: string;
}

export class GuardedProcess {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  #running = true;

  private constructor(child: ChildProcess, pid: number, directory: string) {
    this.#child = child;
    this.pid = pid;
    const release = guard(pid, directory);
    this.#exited = new Promise((resolve) => {
      child.once('exit', () => {
        this.#running = false;
        release();
        resolve();
      });
    });
    child.unref();
  }

  /** Resolves when the process runs; rejects when the command cannot be executed. */
  static async spawn(options: GuardedProcessOptions): Promise<GuardedProcess> {
    const log = openSync(options.logFile, 'a');
    try {
      const child = spawn(options.command, options.args, {
        cwd: options.directory,
        env: options.env,
        detached: true,
        stdio: ['ignore', log, log],
      });
      const pid = await new Promise<number>((resolve, reject) => {
        child.once('error', reject);
        child.once('spawn', () => resolve(child.pid as number));
      });
      writeFileSync(join(options.directory, processIdFile), `${pid}\n`);
      return new GuardedProcess(child, pid, options.directory);
    } finally {
      closeSync(log);
    }
  }

  get running(): boolean {
    return this.#running;
  }

  /** SIGKILL to the service and its children; resolves when it is gone. A stopped (SIGSTOP) service dies too. */
  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.#exit();
  }

  /** SIGTERM, and SIGKILL if it is still there after `graceMs`; resolves when it is gone. */
  async terminate(graceMs: number): Promise<void> {
    if (!this.#running) return;
    this.#child.kill('SIGTERM');
    const impatience = setTimeout(() => this.signal('SIGKILL'), graceMs);
    await this.#exit();
    clearTimeout(impatience);
  }

  /** Sends a signal to the whole process group, for instance SIGSTOP and SIGCONT; nothing happens if it has ended. */
  signal(signal: NodeJS.Signals): void {
    if (!this.#running) return;
    try {
      process.kill(-this.pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }

  /** SIGSTOP to the whole process group. Resolves when all its threads stand still: for a moment they still run. */
  async suspend(): Promise<void> {
    this.signal('SIGSTOP');
    await waitUntil(() => !this.#running || isStill(this.pid), { what: 'the threads of the service to stand still', timeoutMs: 60_000 });
  }

  /** While somebody waits for the end, the child keeps the event loop alive; otherwise it does not. */
  async #exit(): Promise<void> {
    if (this.#running) this.#child.ref();
    await this.#exited;
  }
}

/** Whether no thread of the process group runs or waits. True where the system has no `/proc` that shows them. */
function isStill(processGroup: number): boolean {
  const goesOn = new RegExp(`^.*\\) [RSD] \\d+ ${processGroup} `, 's');
  const threads = (id: string) => ifThere(() => readdirSync(`/proc/${id}/task`)).map((thread) => `/proc/${id}/task/${thread}/stat`);
  const ids = ifThere(() => readdirSync('/proc')).filter((name) => /^\d+$/.test(name));
  return ids.flatMap(threads).every((file) => ifThere(() => [readFileSync(file, 'utf8')]).every((line) => !goesOn.test(line)));
}

/** Nothing for a process or thread that has ended meanwhile. */
function ifThere(read: () => string[]): string[] {
  try {
    return read();
  } catch {
    return [];
  }
}

/** Starts the guardian of one process group and its directory; the function it returns releases it. */
export function guard(processGroup: number, directory: string): () => void {
  const guardian = spawn('/bin/sh', ['-c', guardianScript, 'inorder-guardian', String(processGroup), directory], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
    cwd: '/',
  });
  const line = guardian.stdin;
  line.on('error', () => undefined);
  guardian.on('error', () => undefined);
  guardian.unref();
  (line as unknown as Socket).unref();
  return () => line.end('released\n');
}

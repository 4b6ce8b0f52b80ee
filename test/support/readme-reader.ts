/**
 * Somebody who follows a README: keeps the files that it shows, types its commands one after the other, and compares what is
 * printed with what is shown. What only reads is asked again until the worker has done what is shown; anything else is done once.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { removeStream } from '../../deploy/local/stream-removal.ts';
import { type CommandResult, runCommand } from './command-process.ts';
import { type Example, examplesOf, fencesOf, isShown } from './readme.ts';
import { uniqueStream, useServices, waitFor } from './services.ts';
import { type Launcher, WorkerProcess } from './worker-process.ts';

/** Tested elsewhere, or nothing of ours. */
const notRun = /^(git clone|npm (run|test|install|pack|init)|mkdir|NODE_OPTIONS=|docker compose|kubectl|systemctl|alias) ?/;

const onlyReads = /^(entity (show|list)|dead-letters (list|show|export)|status|doctor|topology (show|check))\b/;

export interface ReaderOptions {
  /** How `inorder` is started; files are kept where it starts. */
  readonly launcher: Launcher & { readonly folder: string };
  readonly stream: string;
  readonly variables: Readonly<Record<string, string>>;
}

export class Reader {
  readonly #t: TestContext;
  readonly #options: ReaderOptions;
  #worker: WorkerProcess | null = null;

  constructor(t: TestContext, options: ReaderOptions) {
    this.#t = t;
    this.#options = options;
  }

  get worker(): WorkerProcess {
    assert.ok(this.#worker, 'the README starts a worker');
    return this.#worker;
  }

  async follow(markdown: string): Promise<void> {
    for (const { text } of fencesOf(markdown)) {
      const name = /^\/\/ (\w+\.mjs)\n/.exec(text)?.[1];
      if (name !== undefined) this.#keep(name, text);
    }
    for (const example of examplesOf(markdown)) await this.#type(example);
  }

  /** A file that is shown. */
  #keep(name: string, text: string): void {
    writeFileSync(join(this.#options.launcher.folder, name), text);
  }

  async #type({ command, output }: Example): Promise<void> {
    const file = /^cat (\S+)$/.exec(command)?.[1];
    if (file !== undefined) return this.#keep(file, `${output.join('\n')}\n`);
    const [, assignments = '', typed] = /^((?:[A-Z_]+=\S+ )*)inorder (.+)$/.exec(command) ?? [];
    if (typed === undefined) {
      assert.match(command, notRun);
      return;
    }
    if (typed === 'worker') await this.#startWorker(assignments);
    else if (onlyReads.test(typed)) await this.#askUntilShown(typed, output);
    else this.#assertShown(typed, await this.#run(typed), output);
  }

  async #startWorker(assignments: string): Promise<void> {
    const given = Object.fromEntries(
      assignments
        .trim()
        .split(' ')
        .map((assignment) => assignment.split('=') as [string, string]),
    );
    this.#worker = await WorkerProcess.ready(this.#t, { ...this.#options.variables, ...given }, this.#options.launcher);
  }

  async #askUntilShown(typed: string, shown: readonly string[]): Promise<void> {
    let last = '';
    const ask = async () => {
      const result = await this.#run(typed);
      last = this.#asShown(result);
      return this.#isShown(typed, result, shown);
    };
    await waitFor(ask, { what: 'the README', timeoutMs: 40_000, intervalMs: 500 }).catch(() => {
      assert.equal(last, shown.join('\n'), `inorder ${typed}`);
    });
  }

  #assertShown(typed: string, result: CommandResult, shown: readonly string[]): void {
    assert.ok(this.#isShown(typed, result, shown), `inorder ${typed}\n${this.#asShown(result)}`);
  }

  #isShown(typed: string, result: CommandResult, shown: readonly string[]): boolean {
    const output = this.#asShown(result);
    if (result.code !== 0) return false;
    // The store lists entities in an order of its own.
    const sorted = (lines: readonly string[]) => (typed.startsWith('entity list') ? lines.toSorted() : lines);
    return isShown(sorted(shown), sorted(output.trimEnd().split('\n')).join('\n'));
  }

  #asShown({ stdout, stderr }: CommandResult): string {
    return `${stdout}${stderr}`.replaceAll(this.#options.stream, 'events');
  }

  #run(typed: string): Promise<CommandResult> {
    const { variables, launcher } = this.#options;
    const port = /"http":"http:\/\/127\.0\.0\.1:(\d+)"/.exec(this.#worker?.output ?? '')?.[1] ?? '0';
    return runCommand(typed.split(' '), { ...variables, HTTP_PORT: port }, '', launcher);
  }
}

/** A stream of the reader's own on the services of the run, removed after the test, and the environment that leads there. */
export async function useReadersStream(t: TestContext): Promise<Pick<ReaderOptions, 'stream' | 'variables'>> {
  const { amqpUrl, redisUrl, managementUrl } = await useServices(t);
  const stream = uniqueStream('readme');
  t.after(() => removeStream({ amqpUrl, redisUrl }, stream, 8));
  const managed: Record<string, string> = managementUrl === null ? {} : { MANAGEMENT_URL: managementUrl };
  return { stream, variables: { AMQP_URL: amqpUrl, REDIS_URL: redisUrl, STREAM: stream, ...managed } };
}

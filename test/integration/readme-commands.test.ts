/** The examples of every README in their order, as somebody would type them who follows them, on a real broker and store. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import amqp from 'amqplib';
import { removeTopology } from '../../src/demo/demo-queues.ts';
import { removeKeys } from '../../src/demo/store-removal.ts';
import { planTopology } from '../../src/rabbitmq/topology-plan.ts';
import { type CommandResult, runCommand } from '../support/command-process.ts';
import { type Example, examplesOf, fencesOf, isShown, readReadmes } from '../support/readme.ts';
import { useLibraryFolder } from '../support/readme-snippets.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';
import { WorkerProcess } from '../support/worker-process.ts';

/** Tested elsewhere, or nothing of ours. */
const notRun = /^(git clone|npm (run|test|install|pack|init)|mkdir|NODE_OPTIONS=|docker compose|kubectl|systemctl|alias) ?/;

/** May be asked again until the worker has done what is shown; anything else is done once. */
const onlyReads = /^(entity (show|list)|dead-letters (list|show|export)|status|doctor|topology (show|check))\b/;

class Reader {
  readonly #t: TestContext;
  readonly #folder: string;
  readonly #stream: string;
  readonly #variables: Readonly<Record<string, string>>;
  #worker: WorkerProcess | null = null;

  constructor(t: TestContext, folder: string, stream: string, variables: Readonly<Record<string, string>>) {
    this.#t = t;
    this.#folder = folder;
    this.#stream = stream;
    this.#variables = variables;
  }

  get worker(): WorkerProcess {
    assert.ok(this.#worker, 'the README starts a worker');
    return this.#worker;
  }

  /** A file that the README shows. */
  keep(name: string, text: string): void {
    writeFileSync(join(this.#folder, name), text);
  }

  async type({ command, output }: Example): Promise<void> {
    const file = /^cat (\S+)$/.exec(command)?.[1];
    if (file !== undefined) return this.keep(file, `${output.join('\n')}\n`);
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
    const given: Record<string, string> = Object.fromEntries(assignments.trim().split(' ').map((assignment) => assignment.split('=') as [string, string]));
    if (given.PROCESSOR !== undefined) given.PROCESSOR = join(this.#folder, given.PROCESSOR);
    this.#worker = await WorkerProcess.ready(this.#t, { ...this.#variables, ...given });
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
    return `${stdout}${stderr}`.replaceAll(this.#stream, 'events');
  }

  #run(typed: string): Promise<CommandResult> {
    const words = typed.split(' ').map((word) => (/^\w+\.(ndjson|csv)$/.test(word) ? join(this.#folder, word) : word));
    const port = /"http":"http:\/\/127\.0\.0\.1:(\d+)"/.exec(this.#worker?.output ?? '')?.[1] ?? '0';
    return runCommand(words, { ...this.#variables, HTTP_PORT: port });
  }
}

test('whoever follows the READMEs sees what they show', { timeout: 300_000 }, async (t) => {
  const { amqpUrl, redisUrl, managementUrl } = await useServices(t);
  const stream = uniqueStream('readme');
  t.after(() => removeStream(amqpUrl, redisUrl, stream));
  const managed: Record<string, string> = managementUrl === null ? {} : { MANAGEMENT_URL: managementUrl };
  const variables = { AMQP_URL: amqpUrl, REDIS_URL: redisUrl, STREAM: stream, ...managed };
  const reader = new Reader(t, useLibraryFolder(t), stream, variables);
  const readme = readReadmes();
  for (const { text } of fencesOf(readme)) {
    const name = /^\/\/ (\w+\.mjs)\n/.exec(text)?.[1];
    if (name !== undefined) reader.keep(name, text);
  }
  for (const example of examplesOf(readme)) await reader.type(example);
  // One deposit came twice, and the tickets in disarray were all known.
  const duplicates = () => reader.worker.metric('inorder_events_total', { outcome: 'duplicate' });
  await waitFor(async () => (await duplicates()) === 5, { what: 'every duplicate noticed' });
  await reader.worker.kill();
});

async function removeStream(amqpUrl: string, redisUrl: string, stream: string): Promise<void> {
  const connection = await amqp.connect(amqpUrl);
  await removeTopology(connection, planTopology({ stream, shards: 8, queueType: 'quorum', exchangeType: 'x-consistent-hash' }));
  await removeKeys(redisUrl, stream);
  await connection.close();
}

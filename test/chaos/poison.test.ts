/**
 * Events whose processor ends, blocks or escapes its process, with real workers that a supervisor starts again: each costs one event,
 * and its entity is parked.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test, type TestContext } from 'node:test';
import { Redis } from 'ioredis';
import { Keys } from '../../src/stores/redis/keys.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import { commandLine, moduleUrl } from '../support/checkout.ts';
import { runCommand } from '../support/command-process.ts';
import { useTopology } from '../support/published.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';
import { publishTrace, readTraces } from '../support/trace.ts';
import { environment, fromCheckout, WorkerProcess } from '../support/worker-process.ts';

const processor = fileURLToPath(moduleUrl('test/support/poison-processor.ts'));

/** Starts the worker again whenever it has ended, as a supervisor does. */
class Supervised {
  #worker: WorkerProcess | null = null;
  #stopped = false;
  #kept: Promise<void> = Promise.resolve();
  deaths = 0;
  #output = '';

  static start(t: TestContext, variables: Readonly<Record<string, string>>): Supervised {
    const supervised = new Supervised();
    const kept = supervised.#keep(t, variables);
    supervised.#kept = kept;
    t.after(() => supervised.stop());
    return supervised;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#worker?.kill();
    await this.#kept;
  }

  async #keep(t: TestContext, variables: Readonly<Record<string, string>>): Promise<void> {
    const [node, ...args] = fromCheckout.program;
    while (!this.#stopped) {
      this.#worker = await WorkerProcess.start(t, variables, { program: [node, '--max-old-space-size=96', ...args] });
      if (this.#stopped) await this.#worker.kill();
      await this.#worker.exited;
      this.#output += this.#worker.output;
      if (!this.#stopped) this.deaths++;
    }
  }

  get output(): string {
    return this.#output + (this.#worker?.output ?? '');
  }

  async isReady(): Promise<boolean> {
    return (await this.#worker?.get('/readyz').catch(() => null))?.status === 200;
  }
}

interface Case {
  readonly isolation?: 'none' | 'thread';
  readonly poison: string;
  readonly where: 'aggregate' | 'handler';
  readonly reason: 'process_killed' | 'process_blocked';
  readonly workers: number;
}

async function costsOneEvent(t: TestContext, { poison, where, reason, workers, isolation = 'none' }: Case): Promise<void> {
  const { amqpUrl, stream, variables } = await useTopology(t, 'poison');
  const redisUrl = variables.REDIS_URL;
  const worker = { PROCESSOR: processor, POISONS: where, PROCESSOR_ISOLATION: isolation };
  const mended = { ...variables, SHARDS: '2', GAP_TIMEOUT_MS: '600000', HANDLER_TIMEOUT_MS: '5000', ...worker };
  const innocent = Array.from({ length: 50 }, (_, index) => ({ entityId: `innocent-${index}`, sequence: 1 }));
  // They are there before anybody consumes: one batch.
  await publishTrace(amqpUrl, stream, [
    ...innocent.slice(0, 25),
    ...[1, 2].map((sequence) => ({ entityId: 'poison', sequence })),
    ...innocent.slice(25),
  ]);
  const running = Array.from({ length: workers }, () => Supervised.start(t, { ...mended, POISON: poison }));
  const said = () => running.map(({ output }) => output).join('\n--- another ---\n');
  const letters = async () => {
    const { stdout } = await runCommand(['dead-letters', 'list', '--json'], mended);
    return stdout.split('\n').flatMap((line): any[] => (line === '' ? [] : [JSON.parse(line)]));
  };
  await waitFor(async () => (await readTraces(redisUrl, stream)).get('poison')?.parked, {
    what: 'its entity parked',
    timeoutMs: 240_000,
  }).catch((error: Error) => assert.fail(`${error.message}\n${said()}`));
  await waitFor(async () => (await Promise.all(running.map((one) => one.isReady()))).every(Boolean), {
    what: 'all workers ready',
    timeoutMs: 60_000,
  });
  await waitFor(async () => [...(await readTraces(redisUrl, stream)).values()].filter(({ version }) => version === 1).length === 50, {
    what: 'the other fifty applied',
    timeoutMs: 60_000,
  });
  await waitFor(async () => (await letters()).length >= 2, { what: 'the dead letters', timeoutMs: 60_000 });
  assert.deepEqual(
    (await letters()).map(({ entity_id, sequence, reason: why }) => [entity_id, sequence, why]),
    [
      ['poison', 1, reason],
      ['poison', 2, 'entity_parked'],
    ],
    said(),
  );
  assert.match(said(), new RegExp(`"reason":"${reason}".*"message_id":"poison/1"|"message_id":"poison/1".*"reason":"${reason}"`));
  const deaths = running.reduce((sum, one) => sum + one.deaths, 0);
  t.diagnostic(`${deaths} processes died`);
  assert.ok(
    isolation === 'thread' ? deaths === 0 : deaths <= 4,
    `${deaths} processes died
${said()}`,
  );

  for (const one of running) await one.stop();
  await WorkerProcess.ready(t, mended);
  const replayed = await runCommand(['dead-letters', 'replay', '--all', '--yes'], mended);
  assert.equal(replayed.code, 0, replayed.stderr);
  await waitFor(async () => (await readTraces(redisUrl, stream)).get('poison')?.version === 2, { what: 'both of its events applied' });
  assert.deepEqual(await letters(), []);
}

const cases: Readonly<Record<string, Case>> = {
  exits: { poison: 'exit', where: 'aggregate', reason: 'process_killed', workers: 1 },
  'needs more memory than there is, with a standby': { poison: 'memory', where: 'aggregate', reason: 'process_killed', workers: 2 },
  'loops, with a standby': { poison: 'loop', where: 'aggregate', reason: 'process_blocked', workers: 2 },
  'leaves a rejection floating': { poison: 'rejection', where: 'handler', reason: 'process_killed', workers: 1 },
};

test('the next session learns of a blocked event loop before the process is ended, and not once the event loop goes on', async (t) => {
  const { amqpUrl, stream, variables } = await useTopology(t, 'poison');
  const redis = new Redis(variables.REDIS_URL);
  const store = createRedisStore({ url: variables.REDIS_URL, stream, idempotencyTtlSeconds: 60 });
  t.after(() => [redis.disconnect(), store.close()]);
  const settings = {
    ...variables,
    SHARDS: '2',
    HANDLER_TIMEOUT_MS: '600000',
    RETRY_MAX_ATTEMPTS: '1',
    PROCESSOR: processor,
    POISONS: 'aggregate',
  };
  const notes = async () => Object.entries(await redis.hgetall(new Keys(stream).sessions));
  const untilBlocked = () =>
    waitFor(async () => (await notes()).find(([, note]) => note.includes('"blocked":true')), { what: 'a note of a blocked event loop' });
  await publishTrace(amqpUrl, stream, [{ entityId: 'poison', sequence: 1 }]);
  // From then on it is on record while it is processed.
  await (await WorkerProcess.start(t, { ...settings, POISON: 'exit' })).exited;
  const looping = await WorkerProcess.start(t, { ...settings, POISON: 'loop' });
  const [shard] = await untilBlocked();
  const next = await store.nextEpoch(Number(shard));
  assert.ok(next.status === 'ok' && next.unfinished !== null);
  const { together, alone, blocked } = JSON.parse(next.unfinished);
  assert.deepEqual([together.length, alone, blocked], [1, null, true]);
  await looping.kill();

  const folder = mkdtempSync(join(tmpdir(), 'inorder-poison-'));
  t.after(() => rmSync(folder, { recursive: true }));
  await WorkerProcess.start(t, { ...settings, POISON: 'pause', PAUSED_UNTIL: join(folder, 'go') });
  await waitFor(async () => (await notes()).some(([, note]) => /"alone":"/.test(note)), { what: 'it is tried alone' });
  await untilBlocked();
  writeFileSync(join(folder, 'go'), '');
  await waitFor(async () => (await readTraces(variables.REDIS_URL, stream)).get('poison')?.version === 1, { what: 'it is applied' });
  await waitFor(async () => (await notes()).every(([, note]) => !note.includes('"blocked":true')), { what: 'no note of it' });
});

test('what says that an event loop is blocked is taken back once it goes on, whatever comes of the trial', async (t) => {
  const { redisUrl } = await useServices(t);
  const [stream, redis, folder] = [uniqueStream('blocked'), new Redis(redisUrl), mkdtempSync(join(tmpdir(), 'inorder-poison-'))];
  const before = '{"together":[],"alone":"it","accused":[]}';
  const settings = { REDIS_URL: redisUrl, STREAM: stream, HANDLER_TIMEOUT_MS: '600000', RETRY_MAX_ATTEMPTS: '1' };
  const env = environment({ ...settings, NOTE: before, PAUSED_UNTIL: join(folder, 'go') });
  const program = [...commandLine.slice(0, -1), fileURLToPath(moduleUrl('test/support/paused-loop.ts'))];
  const child = spawn(process.execPath, program, { env, stdio: ['ignore', 'inherit', 'inherit'] });
  t.after(() => [child.kill('SIGKILL'), redis.disconnect(), rmSync(folder, { recursive: true })]);
  const note = () => redis.hget(new Keys(stream).sessions, '0');
  await waitFor(async () => /"blocked":true/.test((await note()) ?? ''), { what: 'a note of a blocked event loop' });
  writeFileSync(join(folder, 'go'), '');
  await waitFor(async () => (await note()) === `1 ${before}`, { what: 'the note as it was' });
});

for (const [does, one] of Object.entries(cases)) {
  test(`a processor that ${does} costs its event`, (t) => costsOneEvent(t, one));
  test(`in a thread a processor that ${does} costs its event and no process`, (t) =>
    costsOneEvent(t, { ...one, isolation: 'thread', workers: 1 }));
}

/** What `deploy/README.md` tells operators to type when they upgrade, let a stream grow, rename it or move its store, on real services. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { connect } from 'amqplib';
import { findExecutable } from '../../deploy/local/rabbit-binaries.ts';
import { removeStream } from '../../deploy/local/stream-removal.ts';
import { commandLine } from '../support/checkout.ts';
import { needsPostgres, usePostgres } from '../support/postgres.ts';
import { fencesOf, readReadme } from '../support/readme.ts';
import { uniqueStream, useRedisNode, useServices } from '../support/services.ts';
import { interleaved, publishTrace, readTraces, shuffled, untilApplied, wrongTraces } from '../support/trace.ts';
import { environment, WorkerProcess } from '../support/worker-process.ts';

const needs = (...programs: readonly string[]) => {
  const missing = programs.filter((name) => findExecutable(name) === null);
  return missing.length > 0 && `there is no ${missing.join(', no ')} here`;
};
const entities = 20;

type Variables = Readonly<Record<string, string>>;

/** The blocks of a chapter. */
function blocksOf(heading: string): readonly string[] {
  const [, chapter = ''] = readReadme('deploy/README.md').split(`\n## ${heading}\n`);
  const blocks = fencesOf(chapter.split('\n## ')[0] ?? '').filter(({ language }) => language === 'sh');
  assert.notEqual(blocks.length, 0, `deploy/README.md has a chapter "${heading}"`);
  return blocks.map(({ text }) => text);
}

/** Types blocks into bash, in a folder of the test's own where `inorder` is this checkout's. */
function useShell(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'inorder-upkeep-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const inorder = join(folder, 'inorder');
  const words = [process.execPath, ...commandLine].map((word) => `'${word}'`).join(' ');
  writeFileSync(inorder, `#!/bin/sh\nexec ${words} "$@"\n`);
  chmodSync(inorder, 0o755);
  return async (block: string, variables: Variables): Promise<string> => {
    const env = environment({ ...variables, PATH: `${folder}:${process.env['PATH']}` });
    const typed = promisify(execFile)('bash', ['--norc', '-euo', 'pipefail', '-c', block], { cwd: folder, env });
    const { stdout, stderr } = await typed.catch((error: Error & { stdout: string; stderr: string }) => {
      throw new Error(`${block}\n${error.stdout}${error.stderr}`);
    });
    return stdout + stderr;
  };
}

async function setUp(t: TestContext, kind: 'redis' | 'postgres' = 'redis') {
  const services = await useServices(t);
  const { amqpUrl, redisUrl } = services;
  const stream = uniqueStream('upkeep');
  t.after(() => removeStream(services, stream, 16));
  const postgres: Variables = kind === 'postgres' ? { STATE_STORE: 'postgres', DATABASE_URL: await usePostgres() } : {};
  const managed: Variables = services.managementUrl === null ? {} : { MANAGEMENT_URL: services.managementUrl };
  const base: Variables = {
    AMQP_URL: amqpUrl,
    REDIS_URL: redisUrl,
    STREAM: stream,
    SHARDS: '2',
    PROCESSOR: 'history',
    ...postgres,
    ...managed,
  };
  return { amqpUrl, redisUrl, stream, base, storeUrl: postgres['DATABASE_URL'] ?? redisUrl, shell: useShell(t) };
}

/** A worker applies the events of every entity up to `length`, of which it is sent all from 1 on, and ends. */
async function work(t: TestContext, variables: Variables, storeUrl: string, length: number): Promise<void> {
  const { AMQP_URL = '', STREAM = '' } = variables;
  const worker = await WorkerProcess.ready(t, variables);
  await publishTrace(AMQP_URL, STREAM, shuffled(interleaved(entities, length), 50));
  await untilApplied(storeUrl, STREAM, entities, length);
  worker.signal('SIGTERM');
  assert.deepEqual(await worker.exited, { code: 0, signal: null }, worker.output);
  const found = await readTraces(storeUrl, STREAM);
  assert.equal(found.size, entities);
  assert.deepEqual(wrongTraces(found), []);
}

async function queueExists(amqpUrl: string, queue: string): Promise<boolean> {
  const connection = await connect(amqpUrl);
  const channel = await connection.createChannel();
  channel.on('error', () => undefined);
  const answer = await channel.checkQueue(queue).then(
    () => true,
    () => false,
  );
  await connection.close();
  return answer;
}

test('doctor and status are content with a stream before and after an upgrade, and it grows as told', async (t) => {
  const { base, stream, amqpUrl, shell } = await setUp(t);
  const worker = await WorkerProcess.ready(t, base);
  const variables = { ...base, HTTP_PORT: new URL(worker.httpUrl).port };
  for (const block of blocksOf('Upgrade, and back')) assert.match(await shell(block, variables), /^on record: layout 1, 2 shards/m);
  for (const block of blocksOf('More shards')) assert.match(await shell(block, variables), /^ok +layout: layout 1, 16 shards/m);
  assert.ok(await queueExists(amqpUrl, `${stream}.shard.015`));
});

for (const kind of ['redis', 'postgres'] as const) {
  const program = kind === 'redis' ? 'redis-cli' : 'psql';
  const skip = needs('bash', 'curl', program) || (kind === 'postgres' && needsPostgres.skip);
  test(`a stream in ${kind} is renamed with all that it knows, and nothing of the old one is left at the broker`, { skip }, async (t) => {
    const { amqpUrl, redisUrl, stream, base, storeUrl, shell } = await setUp(t, kind);
    if (base['MANAGEMENT_URL'] === undefined) return t.skip('the old one is deleted by the management API');
    await work(t, base, storeUrl, 5);
    const renamed = `${stream}-new`;
    t.after(() => removeStream({ amqpUrl, redisUrl }, renamed, 2));
    const variables = { ...base, OLD: stream, NEW: renamed };
    const blocks = blocksOf('Rename a stream').filter((block) => !/redis-cli|psql/.test(block) || block.includes(program));
    assert.equal(blocks.length, 3);
    const [, listed] = [await shell(blocks[0]!, variables), await shell(blocks[1]!, variables), await shell(blocks[2]!, variables)];
    assert.equal(listed.match(/ version 5$/gm)?.length, entities);
    for (const queue of ['shard.000', 'dead-letters', 'unrouted', 'store']) {
      assert.equal(await queueExists(amqpUrl, `${stream}.${queue}`), false, queue);
    }
    // What was applied under the old name comes again under the new one, as a duplicate.
    await work(t, { ...base, STREAM: renamed }, storeUrl, 9);
    assert.equal((await readTraces(storeUrl, stream)).size, 0);
  });
}

test('a store moves to another Redis by replication, and the workers go on there', { skip: needs('bash', 'redis-cli') }, async (t) => {
  const { base, shell } = await setUp(t);
  const [{ redisUrl: from }, { redisUrl: to }] = [await useRedisNode(t), await useRedisNode(t)];
  const { hostname, port } = new URL(from);
  await work(t, { ...base, REDIS_URL: from }, from, 5);
  const [block = ''] = blocksOf('Move a store');
  const said = await shell(block, { ...base, OLD_REDIS: from, OLD_HOST: hostname, OLD_PORT: port, NEW_REDIS: to });
  assert.match(said, /^1$/m);
  await work(t, { ...base, REDIS_URL: to }, to, 9);
});

const needsBoth = { skip: needs('bash') || needsPostgres.skip };

test('a store moves from Redis to PostgreSQL with every version and state, and the workers go on there', needsBoth, async (t) => {
  const { base, redisUrl, shell } = await setUp(t);
  const url = await usePostgres();
  await work(t, base, redisUrl, 5);
  const [, block = ''] = blocksOf('Move a store');
  const said = await shell(block, { ...base, DATABASE_URL: url });
  assert.match(said, /^20 imported, .*, 0 refused$/m);
  assert.match(said, /^the shards may go on$/m);
  await work(t, { ...base, STATE_STORE: 'postgres', DATABASE_URL: url }, url, 9);
});

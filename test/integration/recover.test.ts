/** The store loses its tail: `recover` names exactly who is behind, brings them to where they should be, and everything drains. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { createEventStore } from '../../src/index.ts';
import { redisCommand, type RedisNode } from '../../deploy/local/redis-node.ts';
import { keptIo, runHere } from '../support/command-io.ts';
import { needsPostgres, usePostgres } from '../support/postgres.ts';
import { needsRedis } from '../support/sentinels.ts';
import { useRedisNode, useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { interleaved, readTraces } from '../support/trace.ts';

const entities = 12;
const losers = ['entity-2', 'entity-5', 'entity-7'];
const [kept, reached] = [6, 10];

async function setUp(t: TestContext, variables: Readonly<Record<string, string>> = {}) {
  const { amqpUrl } = await useServices(t);
  const redis = await useRedisNode(t);
  const run = new StreamRun(t, 'recover', {
    amqpUrl,
    redisUrl: redis.redisUrl,
    variables: { EVENT_LOG: 'true', ENTITY_TYPE: 'trace', ...variables },
  });
  const env = {
    AMQP_URL: amqpUrl,
    REDIS_URL: redis.redisUrl,
    STREAM: run.stream,
    SHARDS: '2',
    PROCESSOR: 'history',
    EVENT_LOG: 'true',
    ENTITY_TYPE: 'trace',
    ...variables,
  };
  const command = async (...words: string[]) => {
    const { io, out } = keptIo({ env });
    return { code: await runHere(words, io), ...out };
  };
  return { redis, run, command };
}

/** What is committed behind `kept` was in memory only: a kill and a restart lose it, of three entities. */
async function loseTail(t: TestContext, { redis, run, command }: Awaited<ReturnType<typeof setUp>>): Promise<string> {
  const worker = await run.worker();
  await run.publish(interleaved(entities, kept));
  await run.untilApplied(entities * kept, 120_000);
  assert.equal(await redisCommand(redis.port, 'SAVE'), '+OK');
  await run.publish(tail(kept, reached));
  await run.untilApplied(entities * kept + losers.length * (reached - kept), 120_000);
  await run.end(worker);
  const directory = mkdtempSync(join(tmpdir(), 'recover-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const dump = join(directory, 'applied.ndjson');
  writeFileSync(dump, (await command('events', 'list', '--applied', '--json')).stdout);
  await redis.kill();
  await redis.restart();
  return dump;
}

function tail(after: number, to: number) {
  return interleaved(entities, to).filter(({ entityId, sequence }) => sequence > after && losers.includes(entityId));
}

async function versionsOf(redis: RedisNode, stream: string): Promise<readonly (readonly [string, number])[]> {
  return [...(await readTraces(redis.redisUrl, stream))].map(([entityId, { version }]) => [entityId, version] as const).sort();
}

const expected = (version: number) =>
  interleaved(entities, 1)
    .map(({ entityId }) => [entityId, losers.includes(entityId) ? version : kept] as const)
    .sort();
const named = (stdout: string) =>
  stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .map((line) => [line.entity_id, line.version, line.target, line.status])
    .sort();

/** Its next event is applied, and what comes once more is a duplicate. */
async function assertGoesOn({ redis, run }: Awaited<ReturnType<typeof setUp>>): Promise<void> {
  await run.worker();
  await run.publish(tail(kept, reached + 1));
  const arrived = async () => isDeepStrictEqual(await versionsOf(redis, run.stream), expected(reached + 1));
  await waitFor(arrived, { what: 'the next events', timeoutMs: 120_000 });
  await run.assertNothingLeft();
}

test('from a dump of what was applied', needsRedis, async (t) => {
  const set = await setUp(t);
  const dump = await loseTail(t, set);
  const { redis, run, command } = set;
  assert.deepEqual(await versionsOf(redis, run.stream), expected(kept), 'the tail is lost');
  const plan = await command('recover', '--from', dump, '--json');
  assert.deepEqual([plan.code, named(plan.stdout)], [2, losers.map((entityId) => [entityId, kept, reached, 'behind'])], plan.stderr);
  assert.match(plan.stderr, /add --yes/);
  const text = await command('recover', '--from', dump, '--yes');
  assert.equal(text.code, 0, text.stderr);
  assert.match(text.stdout, /^trace "entity-5" at 6, behind by 4, to 10$/m);
  assert.match(text.stdout, /^3 recovered, 0 failed/m);
  assert.deepEqual(await versionsOf(redis, run.stream), expected(reached));
  const again = await command('recover', '--from', dump);
  assert.deepEqual([again.code, again.stdout.split(',')[0]], [0, '0 behind'], 'done is done');
  assert.match((await command('audit')).stdout, /recover: recovers 3 entities/);
  const log = await command('events', 'list', 'entity-5', '--applied', '--json');
  assert.equal(log.stdout.trim().split('\n').length, reached, 'the log has them again');
  await assertGoesOn(set);
});

test('from the event store', needsPostgres, async (t) => {
  const databaseUrl = await usePostgres();
  const set = await setUp(t, { EVENT_STORE: 'postgres', DATABASE_URL: databaseUrl, STATE_STORE: 'redis' });
  const events = createEventStore({ postgres: { url: databaseUrl, stream: set.run.stream } });
  t.after(() => events.close());
  await loseTail(t, set);
  for (const { entityId } of interleaved(entities, 1)) {
    const length = losers.includes(entityId) ? reached : kept;
    const all = Array.from({ length }, (_, index) => ({ id: `${entityId}/${index + 1}`, type: `e${index + 1}`, data: { n: index + 1 } }));
    await events.append({ entityType: 'trace', entityId }, all, { expectedVersion: 'no-stream' });
  }
  const one = await set.command('recover', 'entity-7', '--from', 'event-store', '--yes', '--json');
  assert.deepEqual([one.code, named(one.stdout)], [0, [['entity-7', kept, reached, 'recovered']]], one.stderr);
  const rest = await set.command('recover', '--from', 'event-store', '--yes', '--json');
  assert.deepEqual(
    [rest.code, named(rest.stdout)],
    [
      0,
      [
        ['entity-2', kept, reached, 'recovered'],
        ['entity-5', kept, reached, 'recovered'],
      ],
    ],
    rest.stderr,
  );
  assert.deepEqual(await versionsOf(set.redis, set.run.stream), expected(reached));
  await assertGoesOn(set);
});

test('without a source: who is parked behind what is missing is named, and resynced', needsRedis, async (t) => {
  const set = await setUp(t, { GAP_TIMEOUT_MS: '500' });
  await loseTail(t, set);
  const { redis, run, command } = set;
  const nothing = await command('recover');
  assert.deepEqual([nothing.code, nothing.stdout.split(',')[0]], [0, '0 behind'], 'nothing shows it yet');
  await run.worker();
  await run.publish(tail(reached, reached + 2));
  await waitFor(
    async () => [...(await readTraces(redis.redisUrl, run.stream)).values()].filter(({ parked }) => parked).length === losers.length,
    { what: 'the entities to be parked', timeoutMs: 120_000 },
  );
  const plan = await command('recover', '--json');
  assert.deepEqual([plan.code, named(plan.stdout)], [1, losers.map((entityId) => [entityId, kept, reached, 'behind'])], plan.stderr);
  const unexplained = await command('recover', '--resync', '--yes');
  assert.deepEqual([unexplained.code, /--reason/.test(unexplained.stderr)], [2, true]);
  const resynced = await command('recover', '--resync', '--reason', 'the replica was behind', '--yes');
  assert.equal(resynced.code, 0, resynced.stderr);
  const replayed = await command('dead-letters', 'replay', '--ready', '--yes');
  assert.equal(replayed.code, 0, replayed.stdout + replayed.stderr);
  const version = async () => (await versionsOf(redis, run.stream)).filter(([entityId]) => losers.includes(entityId)).map(([, at]) => at);
  await waitFor(async () => (await version()).every((at) => at === reached + 2), { what: 'the replayed letters', timeoutMs: 120_000 });
});

test('from a file of versions and states', needsRedis, async (t) => {
  const set = await setUp(t);
  const dump = await loseTail(t, set);
  const file = `${dump}.versions`;
  const state = { count: reached, types: Array.from({ length: reached }, (_, index) => `e${index + 1}`), data: { n: reached } };
  writeFileSync(file, losers.map((entity_id) => `${JSON.stringify({ entity_id, version: reached, state })}\n`).join(''));
  const done = await set.command('recover', '--from', file, '--yes');
  assert.equal(done.code, 0, done.stderr);
  await assertGoesOn(set);
});

/** `createDeadLetters`, as a program uses it, on a real stream with a worker. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { ConfigError, createDeadLetters, loadConfig, UnavailableError } from '../../src/index.ts';
import type { DeadLetter, EntityReplay, ReplayPlan } from '../../src/index.ts';
import { DeadLetters, letterSettings } from '../../src/dead-letters/dead-letters.ts';
import { type Connect, KeptBroker } from '../../src/dead-letters/letter-broker.ts';
import { createConnection } from '../../src/rabbitmq/connection.ts';
import { openStore } from '../../src/stores/open-store.ts';
import { readSnapshot } from '../../src/stores/store.ts';
import { systemTime } from '../../src/time.ts';
import { KeptLog } from '../support/rabbitmq.ts';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { useTcpProxy } from '../support/tcp-proxy.ts';
import { readTraces, type TraceEvent } from '../support/trace.ts';

const at = (entityId: string, ...sequences: number[]): TraceEvent[] => sequences.map((sequence) => ({ entityId, sequence }));

async function useStream(t: TestContext, name: string) {
  const run = new StreamRun(t, name, { ...(await useServices(t)), variables: { GAP_TIMEOUT_MS: '300' } });
  await run.worker();
  const config = loadConfig({ AMQP_URL: run.amqpUrl, REDIS_URL: run.redisUrl, STREAM: run.stream });
  const letters = createDeadLetters({ config });
  t.after(() => letters.close());
  const ready = () => run.ready(run.deadLetters);
  const untilDeadLettered = (count: number) =>
    waitFor(async () => (await ready()) === count, { what: `${count} dead letters`, timeoutMs: 60_000 });
  const untilVersion = (entityId: string, version: number) =>
    waitFor(async () => (await readTraces(run.redisUrl, run.stream)).get(entityId)?.version === version, { what: `version ${version}` });
  return { run, config, letters, ready, untilDeadLettered, untilVersion };
}

const names = (page: readonly DeadLetter[]) => page.map(({ messageId }) => messageId);
const sequencesOf = ({ letters }: EntityReplay) => letters.map(({ sequence }) => sequence);
const replayed = ({ entities }: ReplayPlan) => entities.map((plan) => [plan.entity.entityId, sequencesOf(plan)]);

async function all<T>(pages: AsyncIterable<T>): Promise<readonly T[]> {
  const found: T[] = [];
  for await (const page of pages) found.push(page);
  return found;
}

test('a program reads dead letters: all, by what they have in common, one with its status, as NDJSON', async (t) => {
  const { run, letters, ready, untilDeadLettered } = await useStream(t, 'letters-read');
  await run.publish([...at('a', 1, 3, 4), ...at('b', 2)]);
  await untilDeadLettered(3);
  assert.deepEqual((await all(letters.list())).flatMap(names).sort(), ['a/3', 'a/4', 'b/2']);
  assert.deepEqual((await all(letters.list({ filter: { entityId: 'a' }, limit: 1 }))).map(names), [['a/3']]);
  const groups = await letters.group('entity', { filter: { reason: 'gap_timeout' } });
  assert.deepEqual(
    groups.map(({ name, count }) => [name, count]),
    [
      ['trace a', 2],
      ['trace b', 1],
    ],
  );
  const [found, ...copies] = await letters.find('a/4');
  assert.deepEqual([found?.status?.missing, found?.status?.parked, copies.length], [2, true, 0]);
  assert.match(found?.status?.text ?? '', /^waits for 2, which was never seen; here are 3-4$/);
  assert.deepEqual(await letters.find('nobody'), []);
  const exported = await all(letters.export({ filter: { entityId: 'b' }, events: true }));
  assert.deepEqual(
    exported.map(({ line }) => JSON.parse(line ?? '').sequence),
    [2],
  );
  assert.equal(await ready(), 3);
});

test('what a program planned is replayed in order, and it learns what became of it', async (t) => {
  const { run, letters, untilDeadLettered, untilVersion } = await useStream(t, 'letters-replay');
  await run.publish(at('a', 1, 4, 3));
  await untilDeadLettered(2);
  const blocked = await letters.plan({ filter: { entityId: 'a' } });
  assert.deepEqual(
    blocked.entities.map(({ letters: now, blocked: rest }) => [now.length, rest?.missing]),
    [[0, 2]],
  );
  assert.equal((await letters.replay(blocked, { who: 'test' })).replayed, 0);

  const source = () => [{ sequence: 2, type: 'e2', id: 'a/2' }];
  assert.deepEqual(replayed(await letters.plan({ source })), [['a', [3, 4]]]);
  await run.publish(at('a', 2));
  await untilVersion('a', 2);
  const plan = await letters.plan({ readyOnly: true });
  assert.deepEqual(replayed(plan), [['a', [3, 4]]]);
  const counts: number[] = [];
  const report = await letters.replay(plan, { who: 'test', why: 'it has come', onProgress: (count) => void counts.push(count) });
  const { entities } = await letters.outcome(plan, report);
  assert.deepEqual([report.replayed, report.left, counts.at(-1)], [2, 0, 2]);
  assert.deepEqual(
    entities.map(({ status, now }) => [status, now.version]),
    [['recovered', 4]],
  );
  await run.assertNothingLeft();
});

test('a discard that would skip what is not next is refused, and one that skips lets the entity go on', async (t) => {
  const { run, letters, untilDeadLettered, untilVersion } = await useStream(t, 'letters-discard');
  await run.publish(at('a', 1, 3, 4));
  await untilDeadLettered(2);
  await assert.rejects(letters.planDiscard({ filter: { ids: ['a/4'] }, skipSequence: true }), ConfigError);
  const survey = await letters.planDiscard({ filter: { ids: ['a/4'] } });
  assert.equal(await letters.discard(survey, { who: 'test', reason: 'not wanted' }), 1);
  assert.deepEqual((await all(letters.list())).map(names), [['a/3']]);
  await run.publish(at('a', 2));
  await untilVersion('a', 2);
  const next = await letters.planDiscard({ skipSequence: true });
  assert.equal(await letters.discard(next, { who: 'test', reason: 'not wanted', skipSequence: true }), 1);
  await run.publish(at('a', 4));
  await untilVersion('a', 4);
});

test('changes take turns within a program and beyond it; another program waits and is then refused', async (t) => {
  const { config, letters } = await useStream(t, 'letters-turns');
  const order: string[] = [];
  const first = letters.exclusively(async (held) => {
    order.push('first begins');
    // What is called on what it holds goes without waiting for itself.
    assert.deepEqual(replayed(await held.plan()), []);
    const other = createDeadLetters({ config });
    await assert.rejects(
      other.exclusively(async () => order.push('never'), 0),
      /somebody else is changing the dead letters/,
    );
    await other.close();
    order.push('first ends');
  });
  assert.ok(letters.busy);
  const second = letters.plan().then(() => order.push('second'));
  await Promise.all([first, second]);
  assert.deepEqual(order, ['first begins', 'first ends', 'second']);
  assert.ok(!letters.busy);
});

test('a replay that the broker does not confirm, and whose reading connection is lost, holds its entity no longer than its lease', async (t) => {
  const { run, config, untilDeadLettered, untilVersion } = await useStream(t, 'letters-lost');
  await run.publish(at('a', 1, 3));
  await untilDeadLettered(1);
  await run.publish(at('a', 2));
  await untilVersion('a', 2);
  const [reading, publishing] = [await useTcpProxy(t, run.amqpUrl), await useTcpProxy(t, run.amqpUrl)];
  publishing.blackHole(true);
  const log = new KeptLog();
  const connect: Connect = (options) => {
    const proxy = options.name === 'publishing' ? publishing : reading;
    return createConnection({ ...options, urls: [proxy.through(run.amqpUrl)] });
  };
  const names = { reading: 'reading', publishing: 'publishing' };
  const broker = new KeptBroker({ ...config.broker, names, log, time: systemTime, connect });
  const store = openStore(config, { role: 'test', log, time: systemTime });
  const letters = new DeadLetters({ ...letterSettings(config), store, ownsStore: true, broker, time: systemTime });
  t.after(() => letters.close());
  const plan = await letters.plan();
  const lost = letters.replay(plan, { who: 'test', leaseMs: 2_000 });
  const isHeld = async () => (await readSnapshot(store, { entityType: 'trace', entityId: 'a' })).parked?.replaying === true;
  await waitFor(isHeld, { what: 'the entity held' });
  reading.cut();
  await assert.rejects(lost, (error) => error instanceof UnavailableError && /the connection to the broker was lost/.test(error.message));
  await waitFor(async () => !(await isHeld()), { what: 'the entity free' });
  assert.deepEqual(replayed(await letters.plan()), [['a', [3]]], 'what was not confirmed is still there');
});

test('a list whose connection is lost in the middle leaves nothing behind that keeps the program from ending', async (t) => {
  const { run, config, untilDeadLettered } = await useStream(t, 'letters-left');
  await run.publish(at('a', 2, 3));
  await untilDeadLettered(2);
  const proxy = await useTcpProxy(t, run.amqpUrl);
  const urls = [proxy.through(run.amqpUrl)] as const;
  const waiting = new Set<number>();
  const after: typeof systemTime.after = (ms, go, options) => {
    waiting.add(ms);
    const timer = systemTime.after(ms, go, options);
    const cancel = () => {
      timer.cancel();
      waiting.delete(ms);
    };
    return { cancel };
  };
  const letters = createDeadLetters({ config: { ...config, broker: { ...config.broker, urls } }, time: { ...systemTime, after } });
  t.after(() => letters.close());
  const list = async () => {
    for await (const page of letters.list()) {
      assert.equal(page.length, 2);
      assert.ok(waiting.has(600_000), 'the reading ends before the broker loses patience');
      proxy.cut();
      await waitFor(() => proxy.openConnections === 0, { what: 'the loss' });
    }
  };
  await assert.rejects(list(), UnavailableError);
  await waitFor(() => !waiting.has(600_000), { what: 'the reading to let go' });
});

test('a stream that is not there, a lost connection and an unavailable broker are errors that say so', async (t) => {
  const { run, config, letters, untilDeadLettered } = await useStream(t, 'letters-errors');
  const elsewhere = createDeadLetters({ config: { ...config, broker: { ...config.broker, stream: `${run.stream}-not` } } });
  t.after(() => elsewhere.close());
  await assert.rejects(all(elsewhere.list()), (error) => error instanceof UnavailableError && /there is no queue/.test(error.message));

  await run.publish(at('a', 2, 3));
  await untilDeadLettered(2);
  const proxy = await useTcpProxy(t, run.amqpUrl);
  const urls = [proxy.through(run.amqpUrl)] as const;
  const through = createDeadLetters({ config: { ...config, broker: { ...config.broker, urls } } });
  t.after(() => through.close());
  const never = new Promise<never>(() => undefined);
  const lost = through.exclusively(async (held) => {
    for await (const page of held.list()) assert.equal(page.length, 2);
    proxy.cut();
    return never;
  });
  await assert.rejects(lost, (error) => error instanceof UnavailableError && /the connection to the broker was lost/.test(error.message));
  assert.deepEqual(names((await all(through.list())).flat()), ['a/2', 'a/3'], 'it comes back by itself');
  await proxy.refuse(true);
  proxy.cut();
  await assert.rejects(all(through.list()), UnavailableError);
  await untilDeadLettered(2);
  assert.deepEqual((await all(letters.list())).flatMap(names), ['a/2', 'a/3']);
});

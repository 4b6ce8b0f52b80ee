import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import test, { type TestContext } from 'node:test';
import amqp from 'amqplib';
import { Redis } from 'ioredis';
import { isAlive } from '../../deploy/local/private-directory.ts';
import { shards } from '../../deploy/demo/stage.ts';
import { removeStream } from '../../deploy/local/stream-removal.ts';
import { queueDepths } from '../../src/rabbitmq/queue-depths.ts';
import { planTopology } from '../../src/rabbitmq/topology-plan.ts';
import { systemTime } from '../../src/time.ts';
import { useServices, waitFor } from '../support/services.ts';
import { commandLine } from '../support/checkout.ts';
import { startCommand } from '../support/command-process.ts';
import { StreamRun } from '../support/stream-run.ts';
import { environment } from '../support/worker-process.ts';

/** Loaders by their place: the demo starts its workers in directories of their own. */
const demoCommand = commandLine.map((argument) => (argument === 'tsx' ? import.meta.resolve('tsx') : argument));

interface DemoRun {
  readonly child: ChildProcess;
  readonly exited: Promise<number | null>;
  output(): string;
  /** Waits until it has said something like it; fails at once when it ends before. */
  says(pattern: RegExp): Promise<RegExpExecArray>;
  workerPids(): number[];
}

async function startDemo(t: TestContext, orders: number): Promise<DemoRun> {
  const { amqpUrl, redisUrl } = await useServices(t);
  const child = spawn(process.execPath, [...demoCommand, 'demo', '--orders', String(orders)], {
    env: environment({ AMQP_URL: amqpUrl, REDIS_URL: redisUrl }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8').on('data', (text: string) => void (output += text));
  const exited = once(child, 'close').then(([code]) => code as number | null);
  t.after(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  return {
    child,
    exited,
    output: () => output,
    says: (pattern) =>
      waitFor(
        () => {
          const found = pattern.exec(output);
          if (found === null && child.exitCode !== null) throw new Error(`the demo ended without ${pattern}:\n${output}`);
          return found;
        },
        { what: `the demo to say ${pattern}`, timeoutMs: 60_000 },
      ),
    workerPids: () => [...output.matchAll(/\(pid (\d+)\)/g)].map(([, pid]) => Number(pid)),
  };
}

async function streamOf(demo: DemoRun): Promise<string> {
  return (await demo.says(/exchange (inorder-demo-\w+)/))[1] ?? '';
}

/** Names of queues, keys and processes of the demo that are still there. */
async function leftovers(t: TestContext, stream: string, pids: readonly number[]): Promise<string[]> {
  const { amqpUrl, redisUrl } = await useServices(t);
  const connection = await amqp.connect(amqpUrl);
  const redis = new Redis(redisUrl);
  try {
    const plan = planTopology({ stream, shards, queueType: 'quorum', exchangeType: 'x-consistent-hash' });
    const queues = plan.queues.map(({ name }) => name);
    const depths = await queueDepths(connection, queues, systemTime);
    const left = depths.filter(({ ready }) => ready !== null).map(({ queue }) => queue);
    const keys = await redis.keys(`*${stream}*`);
    return [...left, ...keys, ...pids.filter(isAlive).map((pid) => `process ${pid}`)];
  } finally {
    await connection.close();
    await redis.quit();
  }
}

test('the demo kills a worker, accounts for every message, ends with the dead letters and removes everything it made', async (t) => {
  const demo = await startDemo(t, 100);
  const stream = await streamOf(demo);
  assert.equal(await demo.exited, 0, demo.output());
  const output = demo.output();
  assert.match(output, /SIGKILL +worker 1, after \d+ messages; worker 2 takes over/);
  const [published, applied, duplicates, deadLettered] = ['published', 'applied', 'duplicates', 'dead-lettered'].map((label) => {
    return Number(new RegExp(`^ +${label} +([\\d,]+)`, 'm').exec(output)?.[1]?.replaceAll(',', ''));
  });
  assert.equal(published, (applied ?? 0) + (duplicates ?? 0) + (deadLettered ?? 0));
  assert.ok((duplicates ?? 0) > 10);
  assert.match(output, /orders as computed +100 +of 100,/);
  assert.match(output, /^ +gap_timeout +\d+$/m);
  assert.match(output, /order-026 +handler_failed +1 +6 /);
  assert.match(output, /order-036 +malformed +1 /);
  assert.match(output, /removes its stream\. In one of yours, .*\n\n {2}inorder dead-letters replay --entity ID\n/);
  assert.doesNotMatch(output, /replay --entity order-/, 'nothing is recommended on a stream that is gone');
  assert.match(output, /Everything balances/);
  assert.deepEqual(await leftovers(t, stream, demo.workerPids()), []);
});

test('a demo whose store was tampered with says what does not balance, and fails', async (t) => {
  const demo = await startDemo(t, 40);
  const stream = await streamOf(demo);
  const redis = new Redis((await useServices(t)).redisUrl);
  t.after(() => redis.quit());
  // By then every order but the parked ones is done, and the gaps still wait.
  await demo.says(/waiting +until/);
  const key = `inorder:${stream}:{order:order-40}:entity`;
  assert.equal(await redis.del(key), 1);
  assert.equal(await demo.exited, 1);
  assert.match(demo.output(), /This does NOT balance:/);
  assert.match(demo.output(), /- order-40 is at version 0 instead of \d+/);
});

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test(`a demo that gets ${signal} in mid-run removes everything that it made and exits with 1`, async (t) => {
    const demo = await startDemo(t, 400);
    const stream = await streamOf(demo);
    await demo.says(/publishing/);
    demo.child.kill(signal);
    assert.equal(await demo.exited, 1);
    assert.match(demo.output(), /interrupted; everything that was started has been removed/);
    assert.deepEqual(await leftovers(t, stream, demo.workerPids()), []);
  });
}

test('a demo that is killed leaves no worker running', async (t) => {
  const demo = await startDemo(t, 400);
  const stream = await streamOf(demo);
  await demo.says(/workers +2 processes/);
  demo.child.kill('SIGKILL');
  await demo.exited;
  await waitFor(() => !demo.workerPids().some(isAlive), { what: 'the end of the workers', timeoutMs: 20_000 });
  // What it cannot remove any more.
  await removeStream(await useServices(t), stream, shards);
});

test('orders and seed are checked before anything is started', async () => {
  for (const args of [
    ['--orders', '19'],
    ['--orders', '1e3'],
    ['--seed', '-1'],
    ['--orders', '100001'],
  ]) {
    const child = spawn(process.execPath, [...demoCommand, 'demo', `${args[0]}=${args[1]}`], { env: environment({}), stdio: 'ignore' });
    assert.equal((await once(child, 'exit'))[0], 2);
  }
});

test('traffic feeds workers that run elsewhere until it is stopped, and all of it is confirmed', async (t) => {
  const run = new StreamRun(t, 'traffic', { ...(await useServices(t)), variables: { PROCESSOR: 'order', GAP_TIMEOUT_MS: '2000' } });
  const worker = await run.worker();
  const { process: child, ended } = await startCommand(['demo', '--traffic', '300', '--orders', '20'], {
    AMQP_URL: run.amqpUrl,
    STREAM: run.stream,
  });
  t.after(() => child.kill('SIGKILL'));
  // More than one round of twenty orders has.
  await waitFor(async () => (await worker.metric('inorder_events_total', { outcome: 'applied' })) > 400, {
    what: 'events of a second round',
    timeoutMs: 60_000,
  });
  await waitFor(async () => (await worker.metric('inorder_dead_letters_total', { reason: 'gap_timeout' })) > 0, {
    what: 'the dead letters of an event that is lost',
    timeoutMs: 60_000,
  });
  assert.ok((await worker.metric('message_ordering_violations_total')) > 0);
  assert.ok((await worker.metric('inorder_events_total', { outcome: 'duplicate' })) > 0);
  child.kill('SIGTERM');
  const { code, stdout } = await ended;
  assert.match(stdout, /^[1-9]\d* events confirmed, 0 returned, 0 failed$/m);
  assert.equal(code, 0);
});

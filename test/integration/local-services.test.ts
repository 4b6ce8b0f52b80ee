import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import test, { type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { connect as connectAmqp } from 'amqplib';
import { Cluster, Redis } from 'ioredis';
import { accepts } from '../../deploy/local/epmd.ts';
import { GuardedProcess } from '../../deploy/local/guarded-process.ts';
import { sweepStaleDirectories } from '../../deploy/local/private-directory.ts';
import { findExecutable, findRabbitBinaries } from '../../deploy/local/rabbit-binaries.ts';
import { startRedisCluster } from '../../deploy/local/redis-cluster.ts';
import { startServices } from '../../deploy/local/services.ts';
import { useFakeDocker } from '../support/fake-docker.ts';
import { leastTimeoutMs, useRabbitNode, useRedisNode, waitFor } from '../support/services.ts';

const needsRabbit = { skip: findRabbitBinaries() === null ? 'RabbitMQ is not installed here' : false };
const needsProc = { skip: existsSync('/proc/self/task') ? false : 'this system does not show threads' };
const needsRedis = { skip: findExecutable('redis-server') === null ? 'Redis is not installed here' : false };

function portOf(url: string): number {
  return Number(new URL(url).port);
}

function redisClient(t: TestContext, url: string): Redis {
  const client = new Redis(url);
  client.on('error', () => undefined);
  t.after(() => client.disconnect());
  return client;
}

test('a killed and restarted RabbitMQ node has its durable message at the same URL', needsRabbit, async (t) => {
  const node = await useRabbitNode(t);
  const urlBefore = node.amqpUrl;
  const before = await connectAmqp(node.amqpUrl);
  before.on('error', () => undefined);
  const publisher = await before.createConfirmChannel();
  publisher.on('error', () => undefined);
  await publisher.assertQueue('kept', { durable: true });
  publisher.sendToQueue('kept', Buffer.from('still here'), { persistent: true });
  await publisher.waitForConfirms();
  // What is declared reaches the disk a moment later than what is confirmed.
  await node.ctl('eval', 'mnesia:sync_log().');

  await node.kill();
  assert.equal(node.running, false);
  assert.equal(await accepts(portOf(node.amqpUrl)), false);
  await node.restart();

  assert.equal(node.amqpUrl, urlBefore);
  const after = await connectAmqp(node.amqpUrl);
  after.on('error', () => undefined);
  const message = await (await after.createChannel()).get('kept');
  assert.equal(message === false ? null : message.content.toString(), 'still here');
  await after.close();
});

test('two RabbitMQ nodes run at once and know nothing of each other', needsRabbit, async (t) => {
  const [first, second] = await Promise.all([useRabbitNode(t), useRabbitNode(t, { configLines: ['consumer_timeout = 12345'] })]);
  await first.ctl('eval', 'rabbit_amqqueue:declare({resource,<<"/">>,queue,<<"only-first">>},true,false,[],none,<<"t">>).');
  assert.match(await first.ctl('list_queues', 'name'), /only-first/);
  assert.doesNotMatch(await second.ctl('list_queues', 'name'), /only-first/);
  assert.match(await second.ctl('eval', 'application:get_env(rabbit, consumer_timeout).'), /12345/);
  assert.doesNotMatch(await first.ctl('eval', 'application:get_env(rabbit, consumer_timeout).'), /12345/);
});

test('a RabbitMQ node has the consistent-hash exchange and answers on its management URL', needsRabbit, async (t) => {
  const node = await useRabbitNode(t);
  const { username, password, origin } = new URL(node.managementUrl);
  const headers = { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` };
  const overview = (await (await fetch(`${origin}/api/overview`, { headers })).json()) as {
    exchange_types: { name: string }[];
  };
  assert.ok(overview.exchange_types.some((type) => type.name === 'x-consistent-hash'));
});

test('a RabbitMQ node that refuses its configuration says what it refused', needsRabbit, async (t) => {
  await assert.rejects(useRabbitNode(t, { configLines: ['no_such_setting = 1'] }), /no_such_setting/);
});

test('a Redis with an append-only file keeps its data over a kill, one without forgets it', needsRedis, async (t) => {
  const [keeping, forgetting] = await Promise.all([useRedisNode(t, { appendonly: true }), useRedisNode(t)]);
  for (const node of [keeping, forgetting]) {
    await redisClient(t, node.redisUrl).set('word', 'kept');
    await node.kill();
    assert.equal(await accepts(portOf(node.redisUrl)), false);
    await node.restart();
  }
  assert.equal(await redisClient(t, keeping.redisUrl).get('word'), 'kept');
  assert.equal(await redisClient(t, forgetting.redisUrl).get('word'), null);
});

test('a Redis node never evicts, and takes further configuration lines', needsRedis, async (t) => {
  const node = await useRedisNode(t, { configLines: ['maxmemory 16mb'] });
  const client = redisClient(t, node.redisUrl);
  assert.deepEqual(await client.config('GET', 'maxmemory-policy'), ['maxmemory-policy', 'noeviction']);
  assert.deepEqual(await client.config('GET', 'maxmemory'), ['maxmemory', String(16 * 1024 * 1024)]);
});

test('a service that is suspended stands still in all its threads once it is said to be', needsProc, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'inorder-still-'));
  const busy = "const { Worker } = require('worker_threads'); for (let i = 0; i < 8; i++) new Worker('for (;;);', { eval: true });";
  const options = { command: process.execPath, args: ['-e', busy], env: {}, directory, logFile: join(directory, 'log') };
  const service = await GuardedProcess.spawn(options);
  t.after(() => service.kill());
  const stateOf = (thread: string) => readFileSync(`/proc/${service.pid}/task/${thread}/stat`, 'utf8').replace(/^.*\) /, '')[0];
  const states = () => readdirSync(`/proc/${service.pid}/task`).map(stateOf);
  await waitFor(() => states().length > 8, { what: 'its threads' });
  for (let round = 0; round < 10; round++) {
    await service.suspend();
    assert.deepEqual([...new Set(states())], ['T']);
    service.signal('SIGCONT');
    await waitFor(() => states().includes('R'), { what: 'threads that run' });
  }
});

test('three Redis nodes form a cluster that spreads the keys', needsRedis, async (t) => {
  const cluster = await startRedisCluster(3);
  t.after(() => cluster.stop());
  const client = new Cluster([...cluster.redisUrls]);
  t.after(() => client.disconnect());
  for (let number = 0; number < 30; number += 1) await client.set(`key:${number}`, number);
  const sizes = await Promise.all(cluster.nodes.map((node) => redisClient(t, node.redisUrl).dbsize()));
  assert.equal(
    sizes.reduce((sum, size) => sum + size, 0),
    30,
  );
  assert.ok(
    sizes.every((size) => size > 0),
    `keys per node: ${sizes.join(', ')}`,
  );
});

/** Starts a process that owns nodes; resolves with it and their URLs. */
async function startOwner(t: TestContext, directory: string): Promise<[ChildProcess, { redisUrl: string; amqpUrl: string }]> {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const script = fileURLToPath(new URL(`../support/node-owner.${extension}`, import.meta.url));
  const owner = spawn(process.execPath, [...process.execArgv.filter((flag) => !flag.startsWith('--test')), script, 'rabbit'], {
    env: { ...process.env, TMPDIR: directory },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => owner.kill('SIGKILL'));
  const [line] = (await once(createInterface(owner.stdout as NonNullable<typeof owner.stdout>), 'line')) as [string];
  return [owner, JSON.parse(line) as { redisUrl: string; amqpUrl: string }];
}

for (const signal of ['SIGKILL', 'SIGINT'] as const) {
  test(`nodes and their data are gone after ${signal} to the process that owns them`, needsRabbit, async (t) => {
    const directory = temporaryDirectory(t);
    const [owner, urls] = await startOwner(t, directory);
    assert.equal(await accepts(portOf(urls.amqpUrl)), true);
    assert.ok(nodeDirectories(directory).length >= 2);
    owner.kill(signal);
    const ports = [portOf(urls.amqpUrl), portOf(urls.redisUrl)];
    await waitFor(async () => (await Promise.all(ports.map(accepts))).every((open) => !open), { what: 'the ports to close' });
    await waitFor(() => nodeDirectories(directory).length === 0, { what: 'the directories to go' });
  });
}

function nodeDirectories(root: string): string[] {
  return readdirSync(root).filter((name) => name.startsWith('inorder-'));
}

function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'local-services-'));
  t.after(() => rm(directory, { recursive: true, force: true, maxRetries: 10 }));
  return directory;
}

function abandonedDirectory(root: string, owner: number, service: ChildProcess | null, host = hostname()): string {
  const directory = join(root, `inorder-redis-${owner}-abc123`);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'host'), host);
  if (service !== null) writeFileSync(join(directory, 'service.pid'), String(service.pid));
  return directory;
}

function sleeper(t: TestContext, ...args: string[]): ChildProcess {
  const child = spawn('/bin/sh', ['-c', 'sleep 600; true', ...args], { detached: true, stdio: 'ignore' });
  t.after(() => child.exitCode ?? child.signalCode ?? process.kill(-(child.pid as number), 'SIGKILL'));
  return child;
}

async function deadProcessId(): Promise<number> {
  const child = spawn('/bin/true');
  await once(child, 'exit');
  return child.pid as number;
}

test('the next start removes what a dead owner left, its still running service included', async (t) => {
  const root = temporaryDirectory(t);
  const owner = await deadProcessId();
  const service = sleeper(t, join(root, `inorder-redis-${owner}-abc123`));
  const directory = abandonedDirectory(root, owner, service);
  const gone = once(service, 'exit');
  await sweepStaleDirectories(root);
  assert.equal(existsSync(directory), false);
  await gone;
  assert.equal(service.signalCode, 'SIGKILL');
});

test('the next start spares live owners, other hosts, and a stranger who got a reused process id', async (t) => {
  const root = temporaryDirectory(t);
  const stranger = sleeper(t, 'a stranger');
  const ofTheLiving = abandonedDirectory(root, process.pid, null);
  const elsewhere = abandonedDirectory(join(root, 'shared'), await deadProcessId(), null, 'another-host');
  const abandoned = abandonedDirectory(root, await deadProcessId(), stranger);
  await sweepStaleDirectories(root);
  await sweepStaleDirectories(join(root, 'shared'));
  assert.equal(existsSync(ofTheLiving), true);
  assert.equal(existsSync(elsewhere), true);
  assert.equal(existsSync(abandoned), false);
  assert.equal(stranger.signalCode, null);
  assert.equal(process.kill(stranger.pid as number, 0), true);
});

test('given URLs are used as they are', async () => {
  const env = { AMQP_URL: 'amqp://somewhere:1', REDIS_URL: 'redis://somewhere:2', PATH: '' };
  const lines: string[] = [];
  const services = await startServices({ env, explain: (line) => lines.push(line) });
  assert.equal(services.source, 'given');
  assert.deepEqual([services.amqpUrl, services.redisUrl, services.managementUrl], [env.AMQP_URL, env.REDIS_URL, null]);
  assert.equal(lines.length, 1);
  const managed = await startServices({ env: { ...env, MANAGEMENT_URL: 'http://somewhere:3' } });
  assert.equal(managed.managementUrl, 'http://somewhere:3');
});

test('Docker that answers but cannot pull is passed over; installed binaries serve', needsRabbit, async (t) => {
  const docker = await useFakeDocker(t);
  pointTestcontainersAt(t, docker.dockerHost);

  await t.test('with nothing else, the error names every way and its reason', async () => {
    for (const failure of ['refused', 'broken'] as const) {
      docker.pullFailure = failure;
      await assert.rejects(startServices({ env: { PATH: '' } }), (error: Error) => {
        assert.match(error.message, /AMQP_URL and REDIS_URL are not set/);
        assert.match(error.message, /rabbitmq:4-management is absent and cannot be pulled/);
        assert.match(error.message, /RabbitMQ and Redis not installed/);
        assert.match(error.message, /no apt-get/);
        assert.match(error.message, /set AMQP_URL and REDIS_URL to/);
        return true;
      });
    }
    assert.deepEqual(docker.pulled, ['rabbitmq', 'rabbitmq']);
  });

  await t.test('only what was not given is started', async () => {
    const lines: string[] = [];
    const env = { PATH: process.env.PATH, AMQP_URL: 'amqp://somewhere:1', REDIS_IMAGE: 'my/redis:1' };
    const services = await startServices({ env, explain: (line) => lines.push(line), startTimeoutMs: leastTimeoutMs });
    t.after(() => services.stop());
    assert.deepEqual([services.source, services.amqpUrl], ['private-nodes', 'amqp://somewhere:1']);
    assert.equal(await redisClient(t, services.redisUrl).ping(), 'PONG');
    assert.match(lines.join('\n'), /passed over given URLs: REDIS_URL is not set; Docker: .*my\/redis:1 is absent/);
    await services.stop();
    assert.equal(await accepts(portOf(services.redisUrl)), false);
  });

  await t.test('services that do not come up in the time that whoever waits has for them are passed over by name', async () => {
    await assert.rejects(
      startServices({ env: { PATH: process.env.PATH }, startTimeoutMs: 1 }),
      /installed binaries: RabbitMQ did not start: waited 1 ms for RabbitMQ to answer/,
    );
    await assert.rejects(
      useRedisNode(t, { startTimeoutMs: 1, configLines: ['port 0', 'unixsocket redis.sock'] }),
      /waited 1 ms for Redis to answer/,
    );
  });

  await t.test('both services come from private nodes and end with stop', async () => {
    const services = await startServices({ env: { PATH: process.env.PATH }, startTimeoutMs: leastTimeoutMs });
    t.after(() => services.stop());
    assert.equal(services.source, 'private-nodes');
    await (await connectAmqp(services.amqpUrl)).close();
    await services.stop();
    assert.equal(await accepts(portOf(services.amqpUrl)), false);
  });
});

/** testcontainers reads the process's environment once and keeps the engine it found. */
function pointTestcontainersAt(t: TestContext, dockerHost: string): void {
  const before = process.env.DOCKER_HOST;
  process.env.DOCKER_HOST = dockerHost;
  t.after(() => {
    if (before === undefined) delete process.env.DOCKER_HOST;
    else process.env.DOCKER_HOST = before;
  });
}

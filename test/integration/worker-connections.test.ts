/** The connections of a worker: how broker and stores show them, and what becomes of them where file descriptors are few. */
import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import test from 'node:test';
import { Redis } from 'ioredis';
import pg from 'pg';
import { openFilesNeeded } from '../../src/worker/start.ts';
import { moduleUrl } from '../support/checkout.ts';
import { needsPostgres, usePostgres } from '../support/postgres.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { useTcpProxy } from '../support/tcp-proxy.ts';
import { interleaved } from '../support/trace.ts';
import { fromCheckout, type Launcher, WorkerProcess } from '../support/worker-process.ts';

/** A worker in a process that may open so many files, and cannot raise that. */
function withFiles(limit: number): Launcher {
  return { program: ['sh', '-c', `ulimit -n ${limit} && exec "$@"`, 'sh', ...fromCheckout.program] };
}

test('broker, Redis and PostgreSQL show of each connection its service, its role and its process', needsPostgres, async (t) => {
  const services = await useServices(t);
  const databaseUrl = await usePostgres();
  const service = uniqueStream('orders');
  const variables = { SERVICE_NAME: service, DATABASE_URL: databaseUrl };
  const { pid } = await new StreamRun(t, 'named', { ...services, variables }).worker();
  const named = (role: string, process = pid) => `${service}/${role}@${hostname()}#${process}`;

  const redis = new Redis(services.redisUrl);
  t.after(() => redis.disconnect());
  const clients = [...String(await redis.call('CLIENT', 'LIST')).matchAll(/ name=(\S+)/g)].map(([, name]) => name);
  assert.ok(clients.includes(named('worker')));

  const postgres = await new StreamRun(t, 'named', { ...services, variables }).worker({ STATE_STORE: 'postgres' });
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  t.after(() => database.end());
  const shown = await database.query<{ application_name: string }>('SELECT DISTINCT application_name FROM pg_stat_activity');
  assert.ok(shown.rows.some(({ application_name }) => application_name === named('worker', postgres.pid).slice(0, 63)));

  const { managementUrl } = services;
  if (managementUrl === null) return t.diagnostic('the broker has no management API: its connections are not looked at');
  const { username, password, origin } = new URL(managementUrl);
  const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  const atBroker = async () => {
    const answer = await fetch(`${origin}/api/connections?columns=client_properties.connection_name`, { headers: { authorization } });
    const connections = (await answer.json()) as { client_properties?: { connection_name?: string } }[];
    return connections.map(({ client_properties }) => client_properties?.connection_name);
  };
  // The broker's statistics come some seconds late.
  await waitFor(async () => ((names) => ['worker', 'worker-publishing'].every((role) => names.includes(named(role))))(await atBroker()), {
    what: 'both connections of the worker, by their names',
  });
});

test('a worker that may open too few files does not start, and says how many it needs', async (t) => {
  const worker = await WorkerProcess.start(t, {}, withFiles(100));
  assert.equal((await worker.exited).code, 2);
  assert.match(
    worker.output,
    new RegExp(
      `\ninorder: open files: this process may have 100, and a worker needs ${openFilesNeeded}; Raise its limit of open files .*\n$`,
    ),
  );
});

test('a worker without a file descriptor left says so of broker and store, in one line each, and goes on when there are some', async (t) => {
  const services = await useServices(t);
  const [broker, store] = [await useTcpProxy(t, services.amqpUrl), await useTcpProxy(t, services.redisUrl)];
  const run = new StreamRun(t, 'files', services);
  const variables = {
    AMQP_URL: broker.through(services.amqpUrl),
    REDIS_URL: store.through(services.redisUrl),
    STREAM: run.stream,
    SHARDS: '2',
    PROCESSOR: moduleUrl('test/support/greedy-processor.ts').href,
  };
  const worker = await WorkerProcess.ready(t, variables, withFiles(openFilesNeeded));
  worker.signal('SIGHUP');
  const said = ['the broker at \\S+ cannot be reached', 'Redis at \\S+ cannot serve'].map(
    (what) =>
      new RegExp(
        `"(cause|message)":"${what}: this process has no file descriptor left \\(connect EMFILE [^"]*\\)\\. Raise its limit of open files `,
      ),
  );
  const saidBoth = () => {
    // What it loses it may get back before the processor takes it.
    for (const proxy of [broker, store]) proxy.cut();
    return said.every((words) => words.test(worker.output));
  };
  await waitFor(saidBoth, { what: 'both told', intervalMs: 500 }).catch((error) => assert.fail(`${error.message}\n${worker.output}`));
  worker.signal('SIGHUP');
  await worker.untilReady();
  await run.publish(interleaved(10, 5));
  await run.untilApplied(50);
});

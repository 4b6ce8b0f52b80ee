/**
 * From command to read side: twenty clients, the event store, relays, the exchange, workers; each of these processes is killed on
 * the way, and in the end the state of every order is what its events say.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { test, type TestContext } from 'node:test';
import { createEventStore, orderAggregate } from '../../src/index.ts';
import { foldEvents } from '../../src/event-sourcing/repository.ts';
import { createPostgresStore } from '../../src/stores/postgres/postgres-store.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import { patiently, systemTime } from '../../src/time.ts';
import { commandLine, moduleUrl } from '../support/checkout.ts';
import { runCommand, startCommand } from '../support/command-process.ts';
import { needsPostgres, usePostgres } from '../support/postgres.ts';
import { leastTimeoutMs, useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { environment } from '../support/worker-process.ts';

const orders = 500;

async function setUp(t: TestContext, kind: 'postgres' | 'redis') {
  const services = await useServices(t);
  const url = kind === 'postgres' ? await usePostgres() : services.redisUrl;
  const variables: Record<string, string> = {
    EVENT_STORE: kind,
    STATE_STORE: kind,
    PROCESSOR: 'order',
    ...(kind === 'postgres' ? { DATABASE_URL: url } : {}),
  };
  const run = new StreamRun(t, `commands-${kind}`, { ...services, variables });
  const env = { AMQP_URL: run.amqpUrl, REDIS_URL: run.redisUrl, STREAM: run.stream, SHARDS: '2', ...variables };
  const events = createEventStore(kind === 'postgres' ? { postgres: { url, stream: run.stream } } : { redis: { url, stream: run.stream } });
  const states = (kind === 'postgres' ? createPostgresStore : createRedisStore)({ url, stream: run.stream, idempotencyTtlSeconds: 3_600 });
  t.after(() => Promise.all([events.close(), states.close()]));
  return { run, env, events, states };
}

/** The clients, which have begun. */
async function startClients(t: TestContext, env: Readonly<Record<string, string>>): Promise<ChildProcess> {
  const program = fileURLToPath(moduleUrl('test/support/order-clients.ts'));
  const child = spawn(process.execPath, [...commandLine.slice(0, -1), program], {
    env: environment(env),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout!, 'data');
  return child;
}

/** A server with this many clients refuses one now and then, and ends a transaction that a slow machine leaves open; no answer is lost. */
function ask<T>(question: () => Promise<T>): Promise<T> {
  return patiently(question, { time: systemTime, timeoutMs: leastTimeoutMs });
}

async function killed(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

for (const kind of ['postgres', 'redis'] as const) {
  test(
    `${kind}: whatever is killed, the read side of 500 orders is the fold of what 20 clients have commanded`,
    kind === 'postgres' ? needsPostgres : {},
    async (t) => {
      const { run, env, events, states } = await setUp(t, kind);
      let last = 0;
      const count = async () => {
        await ask(async () => {
          for await (const { position } of events.readAll({ after: last })) last = position;
        });
        return last;
      };
      const first = await run.worker();
      const second = await run.worker();
      const relay = async () => {
        const { process: child, ended } = await startCommand(['relay'], env);
        t.after(() => child.kill('SIGKILL'));
        return { child, ended };
      };
      const [active, standby] = [await relay(), await relay()];
      const clients = await startClients(t, env);

      await waitFor(async () => (await count()) > 200, { what: 'the first events', timeoutMs: 60_000 });
      await killed(clients);
      const again = await startClients(t, env);
      const finished = once(again, 'exit');
      await waitFor(async () => (await appliedOf(states)) > 100, { what: 'the first events applied', timeoutMs: 60_000 });
      await run.kill(first);
      const third = await run.worker();
      await killed(active.child);
      const next = await relay();
      await waitFor(async () => (await count()) > 1_200, { what: 'half of the events', timeoutMs: 60_000 });
      await run.kill(second);
      await run.worker();
      await killed(standby.child);
      assert.deepEqual(await finished, [0, null]);

      const total = await count();
      assert.ok(total > 2_000, `${total} events`);
      await waitFor(async () => (await appliedOf(states)) === total, { what: `${total} events applied`, timeoutMs: 120_000 });
      const order = orderAggregate();
      for (let number = 0; number < orders; number++) {
        const entity = { entityType: 'order', entityId: `order-${number}` };
        const folded = await ask(() => foldEvents(order, events.read(entity)));
        const [loaded] = await ask(() => states.load([entity]));
        assert.ok(loaded?.status === 'ok');
        assert.deepEqual(
          [folded.problem, loaded.snapshot.version, JSON.parse(loaded.snapshot.state ?? '')],
          [null, folded.version, folded.state],
          entity.entityId,
        );
      }
      const verified = await runCommand(['events', 'verify'], env);
      assert.equal(verified.code, 0, verified.stdout + verified.stderr);
      await run.end(third);
      next.child.kill('SIGTERM');
      assert.equal((await next.ended).code, 0);
      assert.deepEqual(
        await Promise.all([run.queue(0), run.queue(1), run.deadLetters, run.unrouted].map((queue) => run.ready(queue))),
        [0, 0, 0, 0],
      );
    },
  );
}

function appliedOf(states: Awaited<ReturnType<typeof setUp>>['states']): Promise<number> {
  return ask(async () => {
    let sum = 0;
    for await (const { version } of states.listEntities({})) sum += version;
    return sum;
  });
}

/**
 * The release before this one beside it, under traffic: workers are exchanged one by one, back, and forward again, and what the one
 * has parked the other replays. Every event is applied once and in order.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { createPostgresStore } from '../../src/stores/postgres/postgres-store.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import { runCommand } from '../support/command-process.ts';
import { needsPostgres, usePostgres } from '../support/postgres.ts';
import { usePreviousRelease, whyNoPreviousRelease } from '../support/previous-release.ts';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { readTraces, shuffled, type TraceEvent, wrongTraces } from '../support/trace.ts';
import { fromCheckout, type Launcher, type WorkerProcess } from '../support/worker-process.ts';

const skip = whyNoPreviousRelease();
const entities = 60;
const perPhase = 6;
/** Then other entities follow: a history keeps no more than its last thousand events. */
const phasesOfEntities = 50;

const nameOf = (phase: number, entity: number) => `entity-${Math.floor(phase / phasesOfEntities)}-${entity}`;

/** The next events of every entity: out of order, and every fifth of them twice. */
function eventsOf(phase: number): TraceEvent[] {
  const before = (phase % phasesOfEntities) * perPhase;
  const events: TraceEvent[] = [];
  for (let sequence = before + 1; sequence <= before + perPhase; sequence++) {
    for (let entity = 0; entity < entities; entity++) events.push({ entityId: nameOf(phase, entity), sequence });
  }
  return shuffled([...events, ...events.filter((_, index) => index % 5 === 0)], 150, phase + 1);
}

/** Publishes phases until it is ended, of which two at most are under way. */
function traffic(run: StreamRun) {
  let phases = 0;
  let goesOn = true;
  const publishing = (async () => {
    while (goesOn) {
      await run.publish(eventsOf(phases++));
      await run.untilApplied(entities * perPhase * (phases - 1));
    }
  })();
  return {
    /** Until so many more phases are published. */
    passes: (count: number) => {
      const from = phases;
      return waitFor(() => phases >= from + count, { what: 'traffic' });
    },
    /** Resolves to how many events each entity was sent. */
    async end(): Promise<Map<string, number>> {
      goesOn = false;
      await publishing;
      const sent = new Map<string, number>();
      for (let phase = 0; phase < phases; phase++) {
        for (let entity = 0; entity < entities; entity++) sent.set(nameOf(phase, entity), ((phase % phasesOfEntities) + 1) * perPhase);
      }
      return sent;
    },
  };
}

/** A successor is ready before its predecessor ends, as a rolling update has it, and events are under way all the time. */
async function exchange(run: StreamRun, old: WorkerProcess, launcher: Launcher, passes: (count: number) => Promise<unknown>) {
  const next = await run.worker({}, launcher);
  await passes(1);
  await run.end(old);
  await passes(1);
  return next;
}

interface Backend {
  readonly storeUrl: string;
  readonly variables: Readonly<Record<string, string>>;
  layout(stream: string): Promise<unknown>;
}

async function onRedis(t: TestContext): Promise<Backend> {
  const { redisUrl: url } = await useServices(t);
  const layout = async (stream: string) => {
    const store = createRedisStore({ url, stream, idempotencyTtlSeconds: 60 });
    return (await store.streamState().finally(() => store.close())).layout;
  };
  return { storeUrl: url, variables: {}, layout };
}

async function onPostgres(): Promise<Backend> {
  const url = await usePostgres();
  const layout = async (stream: string) => {
    const store = createPostgresStore({ url, stream, idempotencyTtlSeconds: 60 });
    return (await store.streamState().finally(() => store.close())).layout;
  };
  return { storeUrl: url, variables: { STATE_STORE: 'postgres', DATABASE_URL: url }, layout };
}

async function rollUnderTraffic(t: TestContext, { storeUrl, variables, layout }: Backend): Promise<void> {
  const before = usePreviousRelease(t);
  const run = new StreamRun(t, 'rolling-update', { ...(await useServices(t)), storeUrl, variables });
  let [one, two] = [await run.worker({}, before), await run.worker({}, before)];
  const { passes, end } = traffic(run);
  await passes(1);
  for (const [what, launcher] of [
    ['update', fromCheckout],
    ['roll back', before],
    ['update again', fromCheckout],
  ] as const) {
    one = await exchange(run, one, launcher, passes);
    assert.deepEqual(await layout(run.stream), { version: 1, shards: 2, exchangeType: 'x-consistent-hash' }, what);
    two = await exchange(run, two, launcher, passes);
  }
  const sent = await end();
  await run.untilApplied([...sent.values()].reduce((sum, count) => sum + count));
  const found = await readTraces(storeUrl, run.stream);
  assert.deepEqual(new Map([...found].map(([entityId, { version }]) => [entityId, version])), sent);
  t.diagnostic(`${sent.size} entities, ${await run.applied()} events`);
  await run.assertNothingLeft();
}

test('workers are updated one by one under traffic, rolled back, and updated again: on Redis', { skip }, async (t) => {
  await rollUnderTraffic(t, await onRedis(t));
});

test('workers are updated one by one under traffic, rolled back, and updated again: on PostgreSQL', {
  skip: skip || needsPostgres.skip,
}, async (t) => {
  await rollUnderTraffic(t, await onPostgres());
});

test('what a worker of one release has parked, a command of the other replays to a worker of either', { skip }, async (t) => {
  const before = usePreviousRelease(t);
  const services = await useServices(t);
  const run = new StreamRun(t, 'rolling-replay', services);
  const base = { AMQP_URL: services.amqpUrl, REDIS_URL: services.redisUrl, STREAM: run.stream };
  const entitiesOf = async () => readTraces(services.redisUrl, run.stream);
  for (const [parking, replaying, prefix] of [
    [before, fromCheckout, 'a'],
    [fromCheckout, before, 'b'],
  ] as const) {
    const events = [1, 2, 3, 4].map((sequence): TraceEvent => ({ entityId: prefix, sequence }));
    const impatient = await run.worker({ GAP_TIMEOUT_MS: '200' }, parking);
    await run.publish(events.slice(1));
    await waitFor(async () => (await run.ready(run.deadLetters)) === 3, { what: 'three dead letters' });
    await run.end(impatient);
    const worker = await run.worker({}, replaying);
    await run.publish(events.slice(0, 1));
    await waitFor(async () => (await entitiesOf()).get(prefix)?.version === 1, { what: 'the missing event' });
    const { code, stdout, stderr } = await runCommand(['dead-letters', 'replay', '--all', '--yes'], base, '', replaying);
    assert.equal(code, 0, stdout + stderr);
    const found = await entitiesOf();
    assert.deepEqual(found.get(prefix), { version: 4, types: ['e1', 'e2', 'e3', 'e4'], parked: false });
    assert.deepEqual(wrongTraces(found), []);
    await run.end(worker);
  }
  await run.assertNothingLeft();
});

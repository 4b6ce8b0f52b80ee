/**
 * Replays that are killed, doubled, cut off and raced: whatever happens to one, every event is applied once and in
 * order, and when somebody has replayed what is left nothing is missing, nothing is parked and no letter remains.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import amqp from 'amqplib';
import { replay } from '../../src/dead-letters/replay.ts';
import { planReplay } from '../../src/dead-letters/inspect.ts';
import { UnavailableError } from '../../src/errors.ts';
import { defaultEventLimits } from '../../src/events/event.ts';
import { createConnection } from '../../src/rabbitmq/connection.ts';
import { createAmqpPublisher } from '../../src/rabbitmq/publisher.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import { systemTime } from '../../src/time.ts';
import { type CommandResult, type RunningCommand, startCommand } from '../support/command-process.ts';
import { KeptLog } from '../support/rabbitmq.ts';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { useTcpProxy } from '../support/tcp-proxy.ts';
import { interleaved, readTraces, shuffled, type TraceEvent, wrongTraces } from '../support/trace.ts';
import type { WorkerProcess } from '../support/worker-process.ts';

const entities = 30;
const length = 20;
const letters = entities * (length - 1);

interface Stage {
  readonly run: StreamRun;
  readonly worker: WorkerProcess;
  /** `dead-letters replay --all --yes` with these options, in a process of its own. */
  start(options?: readonly string[], variables?: Readonly<Record<string, string>>): Promise<RunningCommand>;
  /** To its end. */
  replay(options?: readonly string[]): Promise<CommandResult>;
  /** Parked entities, and any that are wrong. */
  trouble(): Promise<string[]>;
}

/** A stream whose entities wait with all their events but the first among the dead letters, and the first is applied. */
async function setUp(t: TestContext, name: string, variables: Readonly<Record<string, string>> = {}): Promise<Stage> {
  const services = await useServices(t);
  const run = new StreamRun(t, name, { ...services, variables });
  const impatient = await run.worker({ GAP_TIMEOUT_MS: '200' });
  const events = interleaved(entities, length);
  const untilDeadLettered = (count: number) =>
    waitFor(async () => (await run.ready(run.deadLetters)) === count, { what: `${count} dead letters`, timeoutMs: 30_000 });
  // The gaps end, and what comes then follows as it comes: the entities lie in the queue mixed, and none of them in order.
  await run.publish(events.filter(({ sequence }) => sequence === 2));
  await untilDeadLettered(entities);
  await run.publish(
    shuffled(
      events.filter(({ sequence }) => sequence > 2),
      200,
    ),
  );
  await untilDeadLettered(letters);
  await run.end(impatient);
  // From here on no gap ends by itself: what is held is held until it can go.
  const worker = await run.worker();
  await run.publish(events.filter(({ sequence }) => sequence === 1));
  await run.untilApplied(entities);
  const base = { AMQP_URL: run.amqpUrl, REDIS_URL: run.redisUrl, STREAM: run.stream };
  const start = async (options: readonly string[] = [], more: Readonly<Record<string, string>> = {}) => {
    const command = await startCommand(['dead-letters', 'replay', '--all', '--yes', ...options], { ...base, ...more });
    t.after(() => command.process.kill('SIGKILL'));
    return command;
  };
  const trouble = async () => {
    const traces = await readTraces(run.redisUrl, run.stream);
    return [...wrongTraces(traces), ...[...traces].filter(([, { parked }]) => parked).map(([entityId]) => `${entityId} is parked`)];
  };
  return { run, worker, start, replay: async (options) => (await start(options)).ended, trouble };
}

/** The account at the end: all is applied up to `to`, nobody is parked, and nothing is left in any queue. */
async function assertWhole({ run, trouble }: Stage, to = length): Promise<void> {
  await run.untilApplied(entities * to);
  assert.deepEqual(await trouble(), []);
  await run.assertBalanced(entities, to);
}

/** Until so many of the replayed letters were applied, beside the first event of each entity. */
const untilReplayed = ({ run }: Stage, count: number) => run.untilApplied(entities + count);

/** Until the replay has published something of every entity. */
async function untilInHand({ run }: Stage): Promise<void> {
  const versions = async () => [...(await readTraces(run.redisUrl, run.stream)).values()].map(({ version }) => version);
  await waitFor(async () => (await versions()).every((version) => version > 1), { what: 'every entity in hand', timeoutMs: 30_000 });
}

/** For a replay within this process. */
async function accessTo(t: TestContext, { run: { amqpUrl, redisUrl, stream } }: Stage) {
  const log = new KeptLog();
  const store = createRedisStore({ url: redisUrl, stream, idempotencyTtlSeconds: 3_600 });
  const connection = await amqp.connect(amqpUrl);
  const publishing = createConnection({ urls: [amqpUrl], name: 'test', log, time: systemTime });
  const publisher = createAmqpPublisher({ connection: publishing, exchange: stream, log });
  t.after(async () => {
    await publisher.close();
    await publishing.close();
    await connection.close();
    await store.close();
  });
  const decoding = { limits: defaultEventLimits, defaultEntityType: 'trace', unsequenced: 'reject' as const };
  return { connection, publisher, stream, store, decoding, filter: {}, firstSequence: 1, who: 'test', time: systemTime } as const;
}

function assertDone({ code, stdout, stderr }: CommandResult): void {
  assert.equal(code, 0, stdout + stderr);
}

test('a replay killed with SIGKILL again and again loses nothing, and the last one finishes the work', async (t) => {
  const stage = await setUp(t, 'replay-killed');
  for (const share of [0.1, 0.3, 0.4, 0.75]) {
    const command = await stage.start(['--rate=400']);
    await untilReplayed(stage, Math.round(letters * share));
    // Anywhere within a page: between a publish and its confirm, or a confirm and the acknowledgement.
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
    command.process.kill('SIGKILL');
    assert.equal((await command.ended).code, null);
    assert.deepEqual(wrongTraces(await readTraces(stage.run.redisUrl, stage.run.stream)), []);
  }
  assertDone(await stage.replay());
  await assertWhole(stage);
  // Also those that were killed.
  const { store } = await accessTo(t, stage);
  const actions: string[] = [];
  for await (const { action } of store.operator.readAudit()) actions.push(action);
  assert.deepEqual(actions, Array(5).fill('replay'));
});

test('a replay that is told to stop stops after what is under way, and what is left goes another time', async (t) => {
  const stage = await setUp(t, 'replay-stopped');
  const command = await stage.start(['--rate=200']);
  await untilReplayed(stage, 50);
  command.process.kill('SIGTERM');
  const { code, stdout } = await command.ended;
  assert.equal(code, 1);
  const left = await waitFor(async () => (await stage.run.ready(stage.run.deadLetters)) || null, { what: 'what is left' });
  // Less than a page of them had gone.
  assert.ok(left < letters && left > letters - 200, `${left} of ${letters}`);
  assert.match(stdout, new RegExp(`^${letters - left} replayed, ${left} not reached`, 'm'));
  assertDone(await stage.replay());
  await assertWhole(stage);
});

test('a second replay finds nothing, and letters that the version has passed are duplicates', async (t) => {
  const stage = await setUp(t, 'replay-twice');
  const { run, worker } = stage;
  // The events come once more from their producer, but for the last of each entity.
  await run.publish(interleaved(entities, length - 1));
  await run.untilApplied(entities * (length - 1));
  const outcome = (name: string) => worker.metric('inorder_events_total', { outcome: name });
  const before = await outcome('duplicate');
  assertDone(await stage.replay());
  await waitFor(async () => (await outcome('duplicate')) === before + letters - entities, { what: 'the duplicates counted' });
  assert.deepEqual([await outcome('applied'), await outcome('dead-lettered')], [entities * length, 0]);
  const second = await stage.replay();
  assert.deepEqual([second.code, second.stdout], [0, 'no dead letter matches\n']);
  await assertWhole(stage);
});

test('of two replays at once the second waits a while, is then refused and says why; the first goes on', async (t) => {
  const stage = await setUp(t, 'replay-refused');
  const first = await stage.start([`--rate=${letters / 12}`]);
  await untilReplayed(stage, 5);
  const second = await stage.replay();
  assert.deepEqual([second.code, second.stdout], [1, '']);
  assert.match(second.stderr, /^inorder: somebody else is changing the dead letters of \S+ right now: try again when they are done\n$/);
  assertDone(await first.ended);
  await assertWhole(stage);
});

test('two replays of the same letters past the lock lose nothing: together with the next one they finish the work', async (t) => {
  const stage = await setUp(t, 'replay-both');
  const [first, second] = [await accessTo(t, stage), await accessTo(t, stage)];
  // Both know of all letters, and then each gets some.
  const plans = [await planReplay(first), await planReplay(second)] as const;
  const reports = await Promise.all([replay(plans[0], first), replay(plans[1], second)]);
  assert.ok(reports[0].replayed + reports[1].replayed <= letters);
  await waitFor(
    async () => {
      const { left } = await replay(await planReplay(first), first);
      return left === 0 && (await stage.run.applied()) === entities * length;
    },
    { what: 'the rest replayed', timeoutMs: 60_000 },
  );
  await assertWhole(stage);
});

test('events that are published meanwhile are held behind the replay, and every entity ends whole', async (t) => {
  const stage = await setUp(t, 'replay-live');
  const command = await stage.start(['--rate=100']);
  await untilInHand(stage);
  const more: TraceEvent[] = interleaved(entities, length + 15).filter(({ sequence }) => sequence > length);
  for (let at = 0; at < more.length; at += entities) await stage.run.publish(shuffled(more.slice(at, at + entities), 20));
  assert.equal(await stage.worker.metric('inorder_events_total', { outcome: 'dead-lettered' }), 0);
  assert.ok((await stage.worker.metric('inorder_held')) > 0, 'they came before the replay was done');
  assertDone(await command.ended);
  await assertWhole(stage, length + 15);
});

test('what comes between the plan and the replay follows the dead letters, and the next replay takes it', async (t) => {
  const stage = await setUp(t, 'replay-raced');
  const { run } = stage;
  const live = (async () => {
    for (let sequence = length + 1; sequence <= length + 40; sequence++) {
      await run.publish(interleaved(entities, sequence).filter((event) => event.sequence === sequence));
    }
  })();
  // The process starts, reads and begins somewhere in the middle of that.
  const first = await stage.replay();
  assert.match(first.stdout, /\d+ replayed; /);
  await live;
  await waitFor(
    async () => {
      await stage.replay(['--ready']);
      return (await stage.trouble()).length === 0 && (await run.ready(run.deadLetters)) === 0;
    },
    { what: 'every entity whole', timeoutMs: 90_000 },
  );
  await assertWhole(stage, length + 40);
});

test('the worker killed during a replay is followed by another one, and all of it is applied', async (t) => {
  const stage = await setUp(t, 'replay-worker');
  const { run, worker } = stage;
  const command = await stage.start(['--rate=200']);
  await untilReplayed(stage, 60);
  await run.kill(worker);
  await run.worker();
  assertDone(await command.ended);
  await assertWhole(stage);
});

test('a store that is away for a moment costs nothing; one that stays away ends the replay, which goes on another time', async (t) => {
  const stage = await setUp(t, 'replay-store');
  const proxy = await useTcpProxy(t, stage.run.redisUrl);
  const redisUrl = proxy.through(stage.run.redisUrl);
  const brief = await stage.start(['--rate=200'], { REDIS_URL: redisUrl });
  await untilReplayed(stage, 60);
  proxy.cut();
  await untilReplayed(stage, 120);
  proxy.cut();
  await untilReplayed(stage, 180);
  await proxy.refuse(true);
  proxy.cut();
  const { code, stderr } = await brief.ended;
  assert.equal(code, 1, stderr);
  assert.match(stderr, /^inorder: .*\n$/m);
  assert.ok((await stage.run.applied()) < entities * length);
  assertDone(await stage.replay());
  await assertWhole(stage);
});

test('a connection to the broker that is cut ends the replay at once, wherever that is, and nothing is lost', async (t) => {
  const stage = await setUp(t, 'replay-broker');
  const proxy = await useTcpProxy(t, stage.run.amqpUrl);
  const amqpUrl = proxy.through(stage.run.amqpUrl);
  // Within the reading of the plan, while letters are taken, and among the confirms and the acknowledgements.
  for (const [direction, bytes] of [
    ['toClient', 100_000],
    ['toServer', 8_000],
    ['toClient', 300_000],
    ['toServer', 30_000],
  ] as const) {
    const before = proxy.forwardedBytes(direction);
    proxy.cutAfterBytes(direction, bytes);
    const { code, stdout, stderr } = await (await stage.start(['--rate=400'], { AMQP_URL: amqpUrl })).ended;
    assert.ok(proxy.forwardedBytes(direction) - before >= bytes, `${direction} ${bytes}: cut before it was done`);
    assert.deepEqual([code, /^inorder: \S/m.test(stderr)], [1, true], stdout + stderr);
    assert.deepEqual(wrongTraces(await readTraces(stage.run.redisUrl, stage.run.stream)), []);
  }
  assertDone(await stage.replay());
  await assertWhole(stage);
});

test('a replay in a process that lives on ends as well when its connection is cut, and renews nothing any more', async (t) => {
  const stage = await setUp(t, 'replay-inside');
  const { amqpUrl } = stage.run;
  const proxy = await useTcpProxy(t, amqpUrl);
  const direct = await accessTo(t, stage);
  for (const bytes of [300, 2_000, 90_000, 200_000, 400_000]) {
    const connection = await amqp.connect(proxy.through(amqpUrl));
    connection.on('error', () => undefined);
    const access = { ...direct, connection };
    proxy.cutAfterBytes('toClient', bytes);
    const ended = planReplay(access)
      .then((plan) => replay(plan, { ...access, ratePerSecond: 300, leaseMs: 300 }))
      .then(
        () => 'done',
        (error: unknown) => error,
      );
    const outcome = await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 20_000, 'it hangs').unref())]);
    assert.ok(outcome instanceof UnavailableError, `${bytes} bytes: ${outcome}`);
  }
  await waitFor(
    async () => {
      for await (const { parked } of direct.store.listEntities({})) if (parked?.replaying) return false;
      return true;
    },
    { what: 'the last lease to run out' },
  );
  assertDone(await stage.replay());
  await assertWhole(stage);
});

test('an entity stays held between two of its letters, however much longer that is than the lease', async (t) => {
  const stage = await setUp(t, 'replay-lease');
  const access = await accessTo(t, stage);
  const entity = { entityType: 'trace', entityId: 'entity-0' };
  // The others go first: of this one all letters are met at once, and go one by one.
  await replay(await planReplay({ ...access, concerns: ({ entityId }) => entityId !== entity.entityId }), access);
  const plan = await planReplay(access);
  const end = new AbortController();
  let count = 0;
  const onProgress = (replayed: number) => void (count = replayed);
  const replaying = replay(plan, { ...access, ratePerSecond: 0.35, leaseMs: 2_000, signal: end.signal, onProgress });
  const seen = new Set<boolean | undefined>();
  await waitFor(
    async () => {
      const [found] = await access.store.load([entity]);
      if (count > 0 && found?.status === 'ok') seen.add(found.snapshot.parked?.replaying);
      return count === 3;
    },
    { what: 'three letters', timeoutMs: 30_000 },
  );
  assert.deepEqual([...seen], [true]);
  end.abort();
  assert.ok((await replaying).left > 0);
  assertDone(await stage.replay());
  await assertWhole(stage);
});

test('a replay keeps to its rate', async (t) => {
  const stage = await setUp(t, 'replay-rate');
  const startedMs = performance.now();
  const { stdout, ...result } = await stage.replay(['--rate=150']);
  assertDone({ stdout, ...result });
  assert.match(stdout, new RegExp(`^${letters} replayed; ${entities} of ${entities} entities recovered$`, 'm'));
  const seconds = (performance.now() - startedMs) / 1_000;
  assert.ok(seconds >= (letters - 1) / 150, `${letters} in ${seconds} s`);
  await assertWhole(stage);
});

/**
 * A store that went backwards is noticed: by its identity, by its counter, and by an epoch that is given out again. What was
 * noticed is on record for every other worker, until an operator ends it.
 */
import assert from 'node:assert/strict';
import { setImmediate as tick } from 'node:timers/promises';
import test, { type TestContext } from 'node:test';
import { UnavailableError } from '../../src/errors.ts';
import type { StreamRecord } from '../../src/rabbitmq/stream-record.ts';
import { createMemoryStore } from '../../src/stores/memory/memory-store.ts';
import type { EpochResult, Store } from '../../src/stores/store.ts';
import { systemTime } from '../../src/time.ts';
import { StoreWatch } from '../../src/worker/store-watch.ts';
import { KeptLog } from '../support/rabbitmq.ts';
import { waitFor } from '../support/services.ts';

const first: StreamRecord = { generation: 0, isOlder: false, identity: null, epoch: 0, halts: [] };

function emptyStore(): Store {
  return createMemoryStore({ stream: 's', idempotencyTtlSeconds: 60 });
}

/** The broker's side, and a store that can be exchanged, of which several workers may begin. */
class World {
  store = emptyStore();
  record: StreamRecord | null = first;
  isStoreAway = false;
  isBrokerAway = false;
  /** Resolves when the broker takes a record. */
  takesRecord: () => Promise<unknown> = () => Promise.resolve();
  unavailable = 0;
  asked = 0;
  readonly #t: TestContext;

  constructor(t: TestContext) {
    this.#t = t;
  }

  async begin({ intervalMs = 3_600_000, own = null as Store | null } = {}) {
    const halted: (string | null)[] = [null, null];
    const errors: unknown[] = [];
    const log = new KeptLog();
    const watch = new StoreWatch({
      store: new Proxy({} as Store, {
        get:
          (_, name) =>
          (...args: unknown[]) =>
            this.#ask(own, name, args),
      }),
      record: {
        trouble: null,
        read: async () => this.#atBroker(() => null),
        change: async (next) => {
          await this.takesRecord();
          return this.#atBroker(next);
        },
      },
      intervalMs,
      shards: [0, 1].map((shard) => ({
        shard,
        haltBecauseStoreWentBackwards: (detail: string) => void (halted[shard] ??= detail),
        resume: async () => void (halted[shard] = null),
      })),
      metrics: { storeUnavailable: () => void this.unavailable++ },
      log,
      time: systemTime,
      onError: (error) => errors.push(error),
    });
    this.#t.after(() => {
      void watch.stop(0);
      assert.deepEqual(errors, []);
    });
    await watch.begin();
    return { watch, halted, log };
  }

  #ask(own: Store | null, name: string | symbol, args: unknown[]): unknown {
    this.asked++;
    if (this.isStoreAway) return Promise.reject(new UnavailableError('away'));
    const store = own ?? this.store;
    return Reflect.apply(Reflect.get(store, name) as () => unknown, store, args);
  }

  #atBroker(next: (record: StreamRecord | null) => StreamRecord | null): StreamRecord | null {
    if (this.isBrokerAway) throw new UnavailableError('away');
    return (this.record = next(this.record) ?? this.record);
  }
}

const { signal: life } = new AbortController();
const epochOf = (result: EpochResult) => (result.status === 'ok' ? result.epoch : result.status);
const noted = (world: World, epoch: number) => waitFor(() => world.record?.epoch === epoch, { what: `epoch ${epoch} at the broker` });

test('a new stream takes the store that it is started with, however many workers start at once', async (t) => {
  const world = new World(t);
  const workers = await Promise.all([world.begin(), world.begin(), world.begin()]);
  assert.equal(world.record?.identity, await world.store.identify());
  for (const { halted } of workers) assert.deepEqual(halted, [null, null]);
});

test('of two workers that begin a stream with different stores, one is refused', async (t) => {
  const world = new World(t);
  const workers = await Promise.all([world.begin(), world.begin({ own: emptyStore() })]);
  assert.deepEqual(
    workers.map(({ halted }) => halted[0] === null),
    [true, false],
  );
  assert.match(workers[1]?.halted[0] ?? '', /another one/);
  assert.deepEqual((await world.store.streamState()).halts, [], 'the right store is not halted by it');
});

test('epochs that a fail-over took back before a replica had them were given to nobody: no shard is halted for them', async (t) => {
  const world = new World(t);
  const { watch, halted } = await world.begin({ intervalMs: 1 });
  const { store } = world;
  await watch.nextEpoch(0, life);
  await noted(world, 1);
  let looks = 0;
  // The master that is about to be replaced.
  world.store = {
    tryWrite: () => store.tryWrite(),
    streamState: async ({ durable = false } = {}) => {
      looks++;
      if (durable) throw new UnavailableError('0 of 1 replicas have the data');
      return { ...(await store.streamState()), epoch: 9 };
    },
  } as Store;
  watch.start();
  await waitFor(() => looks > 2, { what: 'looks at the old master' });
  world.store = store;
  world.asked = 0;
  await waitFor(() => world.asked > 4, { what: 'looks at the new master' });
  assert.deepEqual([world.record?.epoch, world.record?.halts, halted], [1, [], [null, null]]);
  assert.equal(epochOf(await watch.nextEpoch(0, life)), 2);
  const successor = await world.begin();
  assert.deepEqual(successor.halted, [null, null]);
});

test('a store that takes no writes is noticed at the next interval, said once, and forgotten when it takes them', async (t) => {
  const world = new World(t);
  const { watch, log, halted } = await world.begin({ intervalMs: 1 });
  const { store } = world;
  let tries = 0;
  world.store = {
    streamState: () => store.streamState(),
    tryWrite: async () => {
      tries++;
      throw new UnavailableError('it is a replica');
    },
  } as unknown as Store;
  watch.start();
  await waitFor(() => tries > 2, { what: 'it being tried again' });
  assert.equal(watch.refusal, 'it is a replica');
  assert.deepEqual(
    log.lines.map(({ message }) => message),
    ['the store takes no writes: not ready'],
  );
  world.store = store;
  await waitFor(() => watch.refusal === null, { what: 'a write' });
  world.asked = 0;
  await waitFor(() => world.asked > 4, { what: 'more writes' });
  assert.deepEqual(
    log.lines.map(({ message }) => message),
    ['the store takes no writes: not ready', 'the store takes writes again'],
  );
  assert.deepEqual(halted, [null, null]);
});

test('an emptied store that counts up again is noticed by a session, also one that has caught up', async (t) => {
  for (const lead of [0, 10]) {
    const world = new World(t);
    const { watch, halted } = await world.begin();
    assert.deepEqual([epochOf(await watch.nextEpoch(0, life)), epochOf(await watch.nextEpoch(1, life))], [1, 2]);
    world.store = emptyStore();
    for (let epoch = 0; epoch < lead; epoch++) await world.store.nextEpoch(0);
    assert.equal((await watch.nextEpoch(0, life)).status, 'halted');
    assert.match(halted[1] ?? '', /no longer knows this stream/);
  }
});

test('an epoch that is given out a second time is noticed by a session', async (t) => {
  const world = new World(t);
  const { watch, halted } = await world.begin();
  assert.equal(epochOf(await watch.nextEpoch(0, life)), 1);
  const { store } = world;
  world.store = {
    ...store,
    nextEpoch: async () => ({ status: 'ok', epoch: 1, identity: await store.identify(), unfinished: null }),
  } as Store;
  assert.equal((await watch.nextEpoch(0, life)).status, 'halted');
  assert.match(halted[0] ?? '', /^epoch 1 was given out, and now 1$/);
});

test('an epoch that only the broker still knows, of a worker that has ended, is noticed when it is given out a second time', async (t) => {
  const world = new World(t);
  const [owner, standby] = [await world.begin(), await world.begin()];
  for (let epoch = 1; epoch <= 3; epoch++) assert.equal(epochOf(await owner.watch.nextEpoch(0, life)), epoch);
  await noted(world, 3);
  await owner.watch.stop(0);
  const { store } = world;
  const again = { status: 'ok', epoch: 3, unfinished: null } as const;
  world.store = { ...store, nextEpoch: async () => ({ ...again, identity: await store.identify() }) } as Store;
  assert.equal((await standby.watch.nextEpoch(0, life)).status, 'halted');
  assert.deepEqual(standby.halted, Array(2).fill('epoch 3 was given out, and now 3'));
});

test('the epochs of a worker that ends soon are on record before it has ended: an older copy is noticed at the next start', async (t) => {
  const world = new World(t);
  const { watch } = await world.begin();
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>((done) => (resolve = done));
  world.takesRecord = () => promise;
  assert.equal(epochOf(await watch.nextEpoch(0, life)), 1);
  const ended = watch.stop(3_600_000);
  assert.equal(await Promise.race([ended, tick('waits')]), 'waits');
  resolve();
  await ended;
  assert.equal(world.record?.epoch, 1);
  const { identity } = world.record;
  world.store = { ...world.store, streamState: async () => ({ ...(await emptyStore().streamState()), identity }) };
  assert.match((await world.begin()).halted[0] ?? '', /it is an older copy/);
});

test('a worker ends although the broker takes no record', async (t) => {
  const world = new World(t);
  const { watch } = await world.begin();
  world.takesRecord = () => new Promise(() => undefined);
  assert.equal(epochOf(await watch.nextEpoch(0, life)), 1);
  await watch.stop(1);
  assert.equal(world.record?.epoch, 0);
});

test('an epoch that the broker did not take is on record after the next look', async (t) => {
  const world = new World(t);
  const { watch } = await world.begin({ intervalMs: 1 });
  let refusals = 0;
  world.takesRecord = () => {
    refusals++;
    return Promise.reject(new UnavailableError('away'));
  };
  assert.equal(epochOf(await watch.nextEpoch(0, life)), 1);
  await waitFor(() => refusals > 0, { what: 'the broker refusing' });
  world.takesRecord = () => Promise.resolve();
  assert.equal(world.record?.epoch, 0);
  watch.start();
  await noted(world, 1);
});

test('epochs asked for at the same time are no step back, in whatever order the answers come', async (t) => {
  const world = new World(t);
  const { watch, halted } = await world.begin();
  assert.deepEqual(
    (await Promise.all([watch.nextEpoch(0, life), watch.nextEpoch(1, life), watch.nextEpoch(0, life)])).map(epochOf),
    [1, 2, 3],
  );
  watch.start();
  watch.lookNow();
  await noted(world, 3);
  assert.deepEqual(halted, [null, null]);
});

test('an emptied store is noticed in time, and at once when the store was away and is back', async (t) => {
  for (const intervalMs of [3_600_000, 1]) {
    const world = new World(t);
    const { watch, halted } = await world.begin({ intervalMs });
    watch.start();
    world.store = emptyStore();
    watch.lookNow();
    await waitFor(() => halted[0] !== null && halted[1] !== null, { what: 'it being noticed' });
  }
});

test('a halt that a store tells when it is back is not kept waiting for the broker', async (t) => {
  const world = new World(t);
  const { watch, halted } = await world.begin({ intervalMs: 3_600_000 });
  watch.start();
  await world.store.halt({ shard: null, detail: 'why', at: 'then' });
  world.isBrokerAway = true;
  watch.lookNow();
  await waitFor(() => halted[0] === 'why' && halted[1] === 'why', { what: 'both shards halted' });
});

test('a store that is away says nothing, and is looked at again', async (t) => {
  const world = new World(t);
  const { watch, halted } = await world.begin({ intervalMs: 1 });
  world.isStoreAway = true;
  watch.start();
  const leaving = new AbortController();
  const [epoch, given] = [watch.nextEpoch(0, life), watch.nextEpoch(1, leaving.signal)];
  await waitFor(() => world.unavailable >= 2, { what: 'an epoch being asked for' });
  const gotNone = assert.rejects(given, /away/, 'whoever leaves meanwhile gets none');
  leaving.abort();
  await gotNone;
  assert.deepEqual(halted, [null, null]);
  world.store = emptyStore();
  world.isStoreAway = false;
  assert.equal((await epoch).status, 'halted', 'it is asked for until the store answers');
  await waitFor(() => halted[0] !== null, { what: 'the loss being noticed' });
});

test('a look that fails is told once, with its cause, and again after one that did not', async (t) => {
  const world = new World(t);
  const { watch, log } = await world.begin({ intervalMs: 1 });
  const told = () => log.lines.filter(({ message }) => message === 'whether the store went backwards cannot be seen now');
  const untilLooked = (times: number, from = world.asked) => waitFor(() => world.asked >= from + times, { what: `${times} looks` });
  watch.start();
  for (const outages of [1, 2]) {
    world.isStoreAway = true;
    await untilLooked(5);
    assert.deepEqual(
      told().map(({ fields }) => fields['cause']),
      Array(outages).fill('away'),
    );
    world.isStoreAway = false;
    await untilLooked(5);
  }
});

test('a halted shard is so for a standby and for whoever starts later, also where the store loses that', async (t) => {
  const world = new World(t);
  const [active, standby] = [await world.begin(), await world.begin({ intervalMs: 1 })];
  await active.watch.putOnRecord(1, 'version 5 was acknowledged');
  assert.equal((await standby.watch.nextEpoch(1, life)).status, 'halted');
  assert.equal((await standby.watch.nextEpoch(0, life)).status, 'ok');
  standby.watch.start();
  await waitFor(() => standby.halted[1] !== null, { what: 'the standby seeing it' });
  assert.equal(standby.halted[0], null);
  const { halted } = await world.begin();
  assert.deepEqual(halted, [null, 'version 5 was acknowledged']);
  world.store = emptyStore();
  assert.notEqual((await world.begin()).halted[1], null);
});

test('a shard gives up what it has only once its halt is on record, in the store and at the broker', async (t) => {
  const world = new World(t);
  const { watch } = await world.begin();
  world.isStoreAway = world.isBrokerAway = true;
  let isOnRecord = false;
  const recording = watch.putOnRecord(0, 'why').then(() => (isOnRecord = true));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(isOnRecord, false);
  world.isBrokerAway = false;
  await waitFor(() => world.record?.halts[0]?.detail === 'why', { what: 'the broker having it' });
  assert.equal(isOnRecord, false);
  world.isStoreAway = false;
  await recording;
  assert.equal((await world.store.streamState()).halts[0]?.detail, 'why');
});

test('a halt that the store never got, or lost, is found at the broker by the next session of the shard', async (t) => {
  const world = new World(t);
  const [active, standby] = [await world.begin(), await world.begin()];
  await active.watch.putOnRecord(1, 'why');
  const { identity } = await world.store.streamState();
  world.store = emptyStore();
  await world.store.operator.resume(0);
  let epoch = 9;
  world.store = Object.assign(world.store, { nextEpoch: async () => ({ status: 'ok', epoch: epoch++, identity, unfinished: null }) });
  assert.equal((await standby.watch.nextEpoch(1, life)).status, 'halted');
  assert.equal(standby.halted[1], 'why');
  assert.equal((await standby.watch.nextEpoch(0, life)).status, 'ok');
});

test('a worker whose server has become another one halts alone, and goes on by itself at the right one', async (t) => {
  const world = new World(t);
  const { watch, halted } = await world.begin({ intervalMs: 1 });
  const { store } = world;
  const other = emptyStore();
  await other.identify();
  world.store = other;
  watch.start();
  await waitFor(() => halted[0] !== null, { what: 'it being noticed' });
  await watch.putOnRecord(0, 'why');
  assert.deepEqual([world.record?.halts, (await other.streamState()).halts], [[], []]);
  assert.deepEqual((await world.begin({ own: store })).halted, [null, null]);
  world.store = store;
  await waitFor(() => halted[0] === null && halted[1] === null, { what: 'the shards going on' });
});

test('where the broker keeps no record, a store that another worker has begun again is halted for both, until an operator ends it', async (t) => {
  const world = new World(t);
  world.record = null;
  const { watch, halted } = await world.begin({ intervalMs: 1 });
  world.store = emptyStore();
  const other = await world.begin({ intervalMs: 1 });
  for (const { watch: one } of [{ watch }, other]) one.start();
  await waitFor(() => halted[0] !== null && other.halted[0] !== null, { what: 'both being halted' });
  await watch.putOnRecord(0, 'why');
  await world.store.operator.resume(0);
  await waitFor(() => halted[0] === null && other.halted[0] === null, { what: 'both going on' });
});

test('an empty store, an older copy and another store are refused at a start; what is away is waited for by whoever asks', async (t) => {
  const world = new World(t);
  const { watch } = await world.begin();
  for (let epoch = 0; epoch < 3; epoch++) await watch.nextEpoch(0, life);
  await noted(world, 3);
  const { store } = world;
  const state = await store.streamState();
  const refused = async (own: Store) => (await world.begin({ own })).halted[0] ?? 'not refused';
  assert.match(await refused(emptyStore()), /has had a store that gave out epoch 3, and this one knows nothing of it/);
  const other = emptyStore();
  await other.identify();
  for (let epoch = 0; epoch < 5; epoch++) await other.nextEpoch(0);
  assert.match(await refused(other), /this is another one/);
  const copy = Object.assign(emptyStore(), { streamState: async () => ({ ...state, epoch: 2 }) });
  assert.match(await refused(copy), /this one stands at 2: it is an older copy/);
  assert.equal(await refused(store), 'not refused');
});

test('a stream that is older than its record adopts a store that is not empty, and refuses an empty one', async (t) => {
  const used = emptyStore();
  await used.nextEpoch(0);
  for (const [own, isRefused] of [
    [used, false],
    [emptyStore(), true],
  ] as const) {
    const world = new World(t);
    world.record = { ...first, isOlder: true };
    const { halted } = await world.begin({ own });
    assert.equal(halted[0] !== null, isRefused);
  }
});

test('without a record at the broker a worker begins with whatever store it has, and keeps halts in it', async (t) => {
  const world = new World(t);
  world.record = null;
  const { watch, halted } = await world.begin();
  assert.equal(epochOf(await watch.nextEpoch(0, life)), 1);
  assert.deepEqual(halted, [null, null]);
  await watch.putOnRecord(0, 'why');
  assert.equal((await world.store.nextEpoch(0)).status, 'halted');
});

test('once an operator has ended it the shards go on by themselves, with the store as it is', async (t) => {
  const world = new World(t);
  const { watch, halted } = await world.begin({ intervalMs: 1 });
  assert.equal(epochOf(await watch.nextEpoch(0, life)), 1);
  await noted(world, 1);
  watch.start();
  world.store = emptyStore();
  await waitFor(() => (world.record?.halts.length ?? 0) > 0, { what: 'it being on record' });
  const { identity, epoch } = await world.store.operator.resume(world.record?.epoch ?? 0);
  assert.notEqual(halted[0], null, 'the broker still says so');
  world.record = { ...world.record!, generation: 1, identity, epoch, halts: [] };
  await waitFor(() => halted[0] === null && halted[1] === null, { what: 'the shards going on' });
  assert.equal(epochOf(await watch.nextEpoch(0, life)), 2);
  assert.deepEqual(halted, [null, null]);
});

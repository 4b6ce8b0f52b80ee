import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { UnavailableError } from '../../src/errors.ts';
import type { EntityRef } from '../../src/events/event.ts';
import type { AutoReplayOutcome } from '../../src/observability/metrics.ts';
import type { Parked, Snapshot } from '../../src/ordering/entity.ts';
import { systemTime } from '../../src/time.ts';
import type { StreamRecord } from '../../src/rabbitmq/stream-record.ts';
import { type AutomaticReport, AutoReplay, type AutoReplayPace, type ReplayRequest, turnTaker } from '../../src/worker/auto-replay.ts';
import { ManualTime } from '../support/manual-time.ts';
import { KeptLog } from '../support/rabbitmq.ts';
import { waitFor } from '../support/services.ts';

const quick: AutoReplayPace = { gatherMs: 5, patienceMs: 5, pauseMs: 5, backOff: { initialMs: 2, maxMs: 10 }, searchMs: 1e9 };
const nothing: AutomaticReport = { entities: [], replayed: 0, blocked: 0, complete: true };
const entity = (entityId: string): EntityRef => ({ entityType: 'thing', entityId });
const parkedFor = (sequence: number, over: Partial<Parked> = {}): Parked => ({
  reason: 'gap_timeout',
  detail: '',
  sequence,
  at: 'then',
  replaying: false,
  ...over,
});

/** What went of an entity that was at `version`. */
function reportOf(entityId: string, version: number, parked: Parked | null, ...sequences: number[]): AutomaticReport {
  const letters = sequences.map((sequence) => ({
    messageId: '',
    fingerprint: '',
    ...entity(entityId),
    sequence,
    reason: 'gap_timeout' as const,
  }));
  return {
    entities: [{ entity: entity(entityId), version, parked, letters, fetched: [], blocked: null }],
    replayed: letters.length,
    blocked: 0,
    complete: true,
  };
}

function setUp(t: TestContext, pace: Partial<AutoReplayPace> = {}) {
  const requests: ReplayRequest[] = [];
  const snapshots = new Map<string, Pick<Snapshot, 'version' | 'parked'>>();
  const outcomes: AutoReplayOutcome[] = [];
  const log = new KeptLog();
  const state = {
    answer: async (_request: ReplayRequest): Promise<AutomaticReport> => nothing,
    loads: 0,
    lettersLeft: async () => 0,
    takeTurn: async (_forMs: number) => true,
    counts: 0,
  };
  const auto = new AutoReplay({
    store: {
      load: async (entities) => {
        state.loads++;
        return entities.map(({ entityId }) => {
          return {
            status: 'ok',
            snapshot: { exists: true, state: null, holes: '', version: 3, parked: parkedFor(4), ...snapshots.get(entityId) },
          };
        });
      },
    },
    replay: (request) => {
      requests.push(request);
      return state.answer(request);
    },
    lettersLeft: () => {
      state.counts++;
      return state.lettersLeft();
    },
    takeTurn: (forMs) => state.takeTurn(forMs),
    shardCount: 3,
    metrics: { autoReplayEnded: (outcome) => void outcomes.push(outcome) },
    log,
    time: { ...systemTime, random: () => 0 },
    pace: { ...quick, ...pace },
  });
  t.after(() => auto.stop(1_000));
  const asked = () => requests.map(({ entities }) => entities.map(({ entityId }) => entityId));
  const untilAsked = (count: number) => waitFor(() => requests.length >= count && asked(), { what: `${count} replays` });
  return { auto, requests, snapshots, outcomes, log, state, asked, untilAsked };
}

test('entities that came together are replayed together, and what comes during a replay by the next one', async (t) => {
  const { auto, asked, untilAsked, state, snapshots } = setUp(t, { gatherMs: 100 });
  for (const name of ['a', 'b', 'c']) snapshots.set(name, { version: 3, parked: null });
  let finish: (report: AutomaticReport) => void = () => undefined;
  state.answer = () => new Promise((resolve) => (finish = resolve));
  auto.advanced(0, entity('a'), 3, parkedFor(4));
  auto.advanced(1, entity('b'), 3, parkedFor(4));
  auto.advanced(0, entity('a'), 3, parkedFor(4));
  await untilAsked(1);
  auto.advanced(0, entity('c'), 3, parkedFor(4));
  auto.advanced(0, entity('a'), 3, parkedFor(4));
  finish(nothing);
  await untilAsked(2);
  assert.deepEqual(asked(), [
    ['a', 'b'],
    ['c', 'a'],
  ]);
});

test('the pause between two replays is as long as the first of them took', async (t) => {
  const { auto, untilAsked, state } = setUp(t);
  const times: number[] = [];
  state.answer = async () => {
    times.push(performance.now());
    await new Promise((resolve) => setTimeout(resolve, 100));
    times.push(performance.now());
    return nothing;
  };
  auto.search(0);
  await untilAsked(1);
  auto.search(0);
  await untilAsked(2);
  const [began, ended, again] = times as [number, number, number];
  assert.ok(again - ended >= ended - began - 5, `${again - ended} ms after ${ended - began} ms`);
});

test('an entity that is recovered after its replay is not asked for again; one that something raced with is', async (t) => {
  const { auto, asked, untilAsked, state, snapshots } = setUp(t);
  state.answer = async () => {
    snapshots.set('recovered', { version: 5, parked: null });
    // 6 was dead-lettered behind the plan's back: all that went was applied, and the parking goes on.
    snapshots.set('raced', { version: 5, parked: parkedFor(4, { replaying: true }) });
    const [recovered, raced] = ['recovered', 'raced'].map((name) => reportOf(name, 3, parkedFor(4), 4, 5));
    return { ...nothing, entities: [...recovered!.entities, ...raced!.entities], replayed: 4 };
  };
  auto.advanced(0, entity('recovered'), 3, parkedFor(4));
  auto.advanced(0, entity('raced'), 3, parkedFor(4));
  await untilAsked(2);
  assert.deepEqual(asked().slice(0, 2), [['recovered', 'raced'], ['raced']]);
});

test('while what went is under way, the queue is not read again', async (t) => {
  const { auto, asked, untilAsked, state, snapshots } = setUp(t);
  state.answer = async () => {
    snapshots.set('a', { version: 4, parked: parkedFor(4, { replaying: true }) });
    return reportOf('a', 3, parkedFor(4), 4, 5);
  };
  auto.advanced(0, entity('a'), 3, parkedFor(4));
  await untilAsked(1);
  const before = state.loads;
  await waitFor(() => state.loads >= before + 5, { what: 'five looks at the entity' });
  assert.deepEqual(asked(), [['a']]);
});

test('an entity that was parked again is left alone until its version moves', async (t) => {
  const { auto, asked, untilAsked, state, snapshots } = setUp(t, { patienceMs: 150 });
  state.answer = async ({ entities }) => {
    snapshots.set('a', { version: 4, parked: parkedFor(5, { at: 'later', reason: 'handler_failed' }) });
    return entities[0]?.entityId === 'a' ? reportOf('a', 3, parkedFor(4), 4, 5) : nothing;
  };
  auto.advanced(0, entity('a'), 3, parkedFor(4));
  // Much later than any try at the first.
  auto.advanced(0, entity('z'), 3, parkedFor(9));
  await waitFor(() => asked().flat().includes('z'), { what: 'the other entity' });
  assert.deepEqual(
    asked()
      .flat()
      .filter((name) => name === 'a'),
    ['a'],
  );
  const count = asked().length;
  auto.advanced(0, entity('a'), 5, parkedFor(5, { at: 'later' }));
  await untilAsked(count + 1);
  assert.ok(asked().slice(count).flat().includes('a'));
});

test('an entity whose live events ended in a gap meanwhile is tried again: what they wait for may be a dead letter', async (t) => {
  const { auto, asked, untilAsked, state, snapshots } = setUp(t);
  state.answer = async () => {
    snapshots.set('a', { version: 5, parked: parkedFor(7, { at: 'later' }) });
    return reportOf('a', 3, parkedFor(4), 4, 5);
  };
  auto.advanced(0, entity('a'), 3, parkedFor(4));
  await untilAsked(2);
  assert.deepEqual(asked().slice(0, 2), [['a'], ['a']]);
});

test('an entity that stays parked as it is gets a few tries and no more, and new ones when its version moves', async (t) => {
  const { auto, asked, untilAsked } = setUp(t, { patienceMs: 400 });
  const triesAt = (name: string) =>
    asked()
      .flat()
      .filter((other) => other === name).length;
  auto.advanced(0, entity('a'), 3, parkedFor(4));
  auto.advanced(0, entity('z'), 3, parkedFor(9));
  await waitFor(() => triesAt('z') > 0, { what: 'the other entity' });
  assert.equal(triesAt('a'), 4);
  auto.advanced(0, entity('a'), 4, parkedFor(4));
  await untilAsked(5);
  await waitFor(() => triesAt('a') === 8, { what: 'four more tries' });
});

test('what came for an entity during its replay counts, and not when that would have been tried again', async (t) => {
  const { auto, untilAsked, state } = setUp(t, { backOff: { initialMs: 1_000_000, maxMs: 1_000_000 } });
  let finish: (report: AutomaticReport) => void = () => undefined;
  state.answer = () => new Promise((resolve) => (finish = resolve));
  auto.advanced(0, entity('a'), 3, parkedFor(4));
  await untilAsked(1);
  auto.advanced(0, entity('a'), 4, parkedFor(4));
  finish(nothing);
  await untilAsked(2);
  finish(nothing);
});

test('an entity of which more is missing waits longer than one whose dead letter is next', async (t) => {
  const { auto, asked, untilAsked, snapshots } = setUp(t, { patienceMs: 200 });
  for (const name of ['next', 'missing']) snapshots.set(name, { version: 3, parked: null });
  auto.advanced(0, entity('missing'), 3, parkedFor(6));
  auto.advanced(0, entity('next'), 3, parkedFor(4));
  await untilAsked(1);
  assert.deepEqual(asked(), [['next']]);
  auto.advanced(0, entity('missing'), 5, parkedFor(6));
  await untilAsked(2);
  assert.deepEqual(asked(), [['next'], ['missing']]);
});

test('an entity that somebody else replays is none of its business', async (t) => {
  const { auto, requests, snapshots, untilAsked, asked } = setUp(t);
  auto.advanced(0, entity('a'), 3, parkedFor(4, { replaying: true }));
  snapshots.set('b', { version: 3, parked: parkedFor(4, { replaying: true }) });
  auto.advanced(0, entity('b'), 3, parkedFor(4));
  auto.search(7);
  await untilAsked(1);
  assert.deepEqual([asked(), [...requests[0]!.shards]], [[[]], [7]]);
  snapshots.set('b', { version: 3, parked: parkedFor(4) });
  await untilAsked(2);
  assert.deepEqual(asked()[1], ['b']);
});

test('what cannot be now is tried again with what has come since, however often', async (t) => {
  const { auto, asked, requests, untilAsked, state, log } = setUp(t);
  state.answer = async () => {
    throw new UnavailableError('somebody else is changing the dead letters');
  };
  auto.advanced(0, entity('a'), 3, parkedFor(4));
  auto.search(2);
  await untilAsked(8);
  auto.advanced(0, entity('b'), 3, parkedFor(4));
  const before = asked().length;
  state.answer = async () => nothing;
  await waitFor(() => ['a', 'b'].every((name) => asked().slice(before).flat().includes(name)), { what: 'both entities' });
  assert.ok(requests.slice(before).some(({ shards }) => shards.has(2)));
  assert.match(log.text, /warn dead letters could not be replayed; trying again .*somebody else/);
});

test('a defect in a replay is told and ends nothing', async (t) => {
  const { auto, untilAsked, state, log } = setUp(t);
  state.answer = () => Promise.reject(new TypeError('undefined is not a function'));
  auto.search(0);
  await untilAsked(3);
  assert.match(log.text, /^error a bug: dead letters could not be replayed/m);
});

test('a shard in which more may be ready than one replay takes is searched again', async (t) => {
  const { auto, requests, untilAsked, state } = setUp(t);
  state.answer = async () => ({ ...nothing, complete: requests.length > 1 });
  auto.search(3);
  await untilAsked(2);
  assert.deepEqual(
    requests.map(({ shards }) => [...shards]),
    [[3], [3]],
  );
});

test('of a flood of entities a bounded number is remembered; for the rest their shard is searched', async (t) => {
  const { auto, requests, snapshots } = setUp(t, { gatherMs: 1_000, patienceMs: 50 });
  snapshots.get = () => ({ version: 3, parked: null });
  for (let n = 0; n < 10_001; n++) auto.advanced(n % 2, entity(`e-${n}`), 3, parkedFor(9));
  await waitFor(() => requests.some(({ shards }) => shards.has(0)), { what: 'the shard searched', timeoutMs: 20_000 });
  assert.equal(
    requests.reduce((sum, { entities }) => sum + entities.length, 0),
    10_000,
  );
});

test('after it is stopped nothing begins, and what was under way is told to end', async (t) => {
  const { auto, requests, untilAsked, state } = setUp(t);
  state.answer = ({ signal }) =>
    new Promise((_, reject) => signal.addEventListener('abort', () => reject(new UnavailableError('stopped'))));
  auto.search(0);
  await untilAsked(1);
  await auto.stop(10_000);
  auto.search(1);
  auto.advanced(0, entity('a'), 3, parkedFor(4));
  await auto.stop(10_000);
  assert.equal(requests.length, 1);
});

test('while dead letters are left they are looked for again and again: who saw the missing event come may have died since', async (t) => {
  const { auto, requests, untilAsked, state } = setUp(t, { searchMs: 20 });
  auto.search(1);
  await untilAsked(1);
  const soFar = state.counts;
  await waitFor(() => state.counts >= soFar + 3, { what: 'three looks at the queue' });
  assert.equal(requests.length, 1, 'an empty queue is not read');
  state.lettersLeft = async () => 1;
  await untilAsked(4);
  assert.deepEqual(
    requests.slice(1, 4).map(({ shards }) => [...shards]),
    Array(3).fill([0, 1, 2]),
  );
});

test('of all workers one looks at a time, however many there are', async (t) => {
  const { auto, untilAsked, requests, state } = setUp(t, { searchMs: 20 });
  let [turns, isMine] = [0, false];
  state.takeTurn = async () => {
    turns++;
    return isMine;
  };
  state.lettersLeft = async () => 1;
  auto.search(0);
  await waitFor(() => turns >= 3, { what: 'three looks at whose turn it is' });
  assert.equal(requests.length, 1);
  isMine = true;
  await untilAsked(2);
});

test('who looks through the dead letters has it on record: the next worker waits, but not for a clock that is wrong', async () => {
  const [wall, first] = [{ ms: 1_000_000 }, { generation: 0, isOlder: false, identity: 'a', epoch: 7, halts: [] }];
  let record: StreamRecord | null = first;
  const change = async (next: (known: StreamRecord | null) => StreamRecord | null) => (record = next(record) ?? record);
  const workers = [0, 3_600_000].map((aheadMs) => turnTaker({ change }, { wallMs: () => wall.ms + aheadMs }));
  const turns = async () => [await workers[0]!(100), await workers[0]!(100), await workers[1]!(100), await workers[0]!(100)];
  assert.deepEqual(await turns(), [true, false, true, true], 'an hour later it is free, an hour before it is nonsense');
  wall.ms += 99;
  assert.equal(await workers[0]!(100), false);
  wall.ms += 1;
  assert.equal(await workers[0]!(100), true);
  assert.deepEqual(record, { ...first, searchedUntilMs: wall.ms + 100 });
  for (record of [null, { ...first, identity: null }]) {
    const before: StreamRecord | null = record;
    assert.deepEqual(
      [await workers[0]!(100), await workers[0]!(100), record],
      [true, true, before],
      'no record of a store that is not known',
    );
  }
});

test('a broker that cannot be asked how many dead letters are left is asked again', async (t) => {
  const { auto, untilAsked, state, log } = setUp(t, { searchMs: 20 });
  state.lettersLeft = () => Promise.reject(new UnavailableError('the broker is unavailable'));
  auto.search(3);
  await untilAsked(1);
  await waitFor(() => state.counts >= 2, { what: 'two looks at the queue' });
  state.lettersLeft = () => Promise.reject(new TypeError('undefined is not a function'));
  await waitFor(() => log.text.includes('a bug: dead letters could not be counted'), { what: 'the defect told' });
  state.lettersLeft = async () => 1;
  await untilAsked(2);
});

test('the searches of a queue that takes long to read stay a small part of the time', async (t) => {
  const time = new ManualTime();
  let [read, counted] = [0, 0];
  const auto = new AutoReplay({
    store: { load: async () => [] },
    replay: async () => {
      read++;
      time.atMs += 60_000;
      return nothing;
    },
    lettersLeft: async () => ++counted,
    takeTurn: async () => true,
    shardCount: 1,
    metrics: { autoReplayEnded: () => {} },
    log: new KeptLog(),
    time,
  });
  t.after(() => auto.stop(0));
  const pass = async (ms: number) => {
    time.advance(ms);
    await new Promise(setImmediate);
  };
  auto.search(0);
  await pass(100);
  assert.deepEqual([read, counted], [1, 0]);
  await pass(150_000);
  await pass(1_000);
  assert.deepEqual([read, counted], [2, 1]);
  // Twenty times as long as the reading took, less what chance takes off.
  await pass(500_000);
  assert.equal(counted, 1);
  await pass(100_000);
  assert.equal(counted, 2);
});

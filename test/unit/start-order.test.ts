import assert from 'node:assert/strict';
import test from 'node:test';
import { systemTime } from '../../src/time.ts';
import { isOwnShare, startShards } from '../../src/worker/start.ts';

const shards = [0, 1, 2, 3, 4];
const life = new AbortController().signal;

test('the shares of all workers are every shard once, and differ by one at most', () => {
  for (const replicas of [1, 2, 3, 5, 7]) {
    const shares = Array.from({ length: replicas }, (_, ordinal) => shards.filter((shard) => isOwnShare(shard, { ordinal, replicas })));
    assert.deepEqual(shares.flat().sort(), shards);
    const sizes = shares.map(({ length }) => length);
    assert.ok(Math.max(...sizes) - Math.min(...sizes) <= 1);
  }
  assert.ok(isOwnShare(1, { ordinal: 4, replicas: 3 }), 'an ordinal beyond the replicas, as after scaling up, has a share too');
});

test('without a share every shard is started at once, and nobody is asked', async () => {
  const started: number[] = [];
  await startShards({
    shards,
    share: null,
    start: (shard) => started.push(shard),
    consumersOf: async () => assert.fail('asked'),
    signal: life,
    time: systemTime,
  });
  assert.deepEqual(started, shards);
});

test('the others follow when they have a consumer, and without one when patience ends', async () => {
  const started: number[] = [];
  const asked: (readonly number[])[] = [];
  const consumersOf = async (others: readonly number[]) => {
    asked.push(others);
    assert.deepEqual(started.slice(0, 3), [0, 2, 4], 'its own share comes first');
    return others.map((shard) => (shard === 3 ? 1 : asked.length > 1 ? null : 0));
  };
  await startShards({
    shards,
    share: { ordinal: 0, replicas: 2 },
    start: (shard) => started.push(shard),
    consumersOf,
    signal: life,
    // A busy machine must not use the patience up: it passes by questions.
    time: { ...systemTime, nowMs: () => asked.length * 100 },
    patienceMs: 300,
  });
  assert.deepEqual(started, [0, 2, 4, 3, 1]);
  assert.deepEqual(asked, [[1, 3], [1], [1]], 'what has been taken is not asked for again');
});

test('a worker that is asked to stop while it waits starts nothing more', async () => {
  const stop = new AbortController();
  const started: number[] = [];
  const consumersOf = async (others: readonly number[]) => {
    stop.abort();
    return others.map(() => 1);
  };
  await startShards({
    shards,
    share: { ordinal: 1, replicas: 5 },
    start: (shard) => started.push(shard),
    consumersOf,
    signal: stop.signal,
    time: systemTime,
  });
  assert.deepEqual(started, [1]);
});

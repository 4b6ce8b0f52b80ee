/** A store that went backwards is noticed: by its counter, and by an epoch that is given out again. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { UnavailableError } from '../../src/errors.ts';
import { createMemoryStore } from '../../src/stores/memory/memory-store.ts';
import { StoreWatch } from '../../src/worker/store-watch.ts';
import { waitFor } from '../support/services.ts';

async function setUp(t: TestContext, intervalMs = 3_600_000) {
  const empty = () => createMemoryStore({ stream: 's', idempotencyTtlSeconds: 60, now: () => 0 });
  let store = empty();
  let isAway = false;
  const asked = <R>(ask: () => Promise<R>) => (isAway ? Promise.reject(new UnavailableError('away')) : ask());
  const backwards: string[] = [];
  const errors: unknown[] = [];
  const watch = new StoreWatch({
    store: { currentEpoch: () => asked(() => store.currentEpoch()), nextEpoch: () => asked(() => store.nextEpoch()) },
    intervalMs,
    onBackwards: (detail) => backwards.push(detail),
    onError: (error) => errors.push(error),
  });
  t.after(() => {
    watch.stop();
    assert.deepEqual(errors, []);
  });
  await store.nextEpoch();
  await watch.begin();
  const lose = () => {
    store = empty();
  };
  return { watch, backwards, lose, setAway: (away: boolean) => (isAway = away) };
}

test('an emptied store that counts up again is noticed by the epoch that it gives out a second time', async (t) => {
  const { watch, backwards, lose } = await setUp(t);
  assert.deepEqual([await watch.nextEpoch(), await watch.nextEpoch()], [2, 3]);
  lose();
  await watch.nextEpoch();
  assert.deepEqual(backwards, ['epoch 3 was given out, and now 1']);
});

test('epochs asked for at the same time are no step back, in whatever order the answers come', async (t) => {
  const { watch, backwards } = await setUp(t);
  assert.deepEqual(await Promise.all([watch.nextEpoch(), watch.nextEpoch(), watch.nextEpoch()]), [2, 3, 4]);
  watch.start();
  watch.lookNow();
  assert.deepEqual(backwards, []);
});

test('a lower counter is noticed in time, and at once when the store was away and is back', async (t) => {
  const patient = await setUp(t);
  patient.watch.start();
  patient.lose();
  patient.watch.lookNow();
  await waitFor(() => patient.backwards.length > 0, { what: 'it being noticed after a reconnect' });
  const frequent = await setUp(t, 1);
  frequent.watch.start();
  frequent.lose();
  await waitFor(() => frequent.backwards.length > 0, { what: 'it being noticed in time' });
  assert.deepEqual([...patient.backwards, ...frequent.backwards], Array(2).fill("epoch 1 was given out, but the store's counter stands at 0"));
});

test('a store that is away says nothing, and is looked at again', async (t) => {
  const { watch, backwards, lose, setAway } = await setUp(t, 1);
  setAway(true);
  watch.start();
  await assert.rejects(watch.nextEpoch(), UnavailableError);
  assert.deepEqual(backwards, []);
  lose();
  setAway(false);
  await waitFor(() => backwards.length > 0, { what: 'the loss being noticed' });
});

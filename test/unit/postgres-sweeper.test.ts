/** How fast expired rows are removed, without a database and without a clock. */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { test, type TestContext } from 'node:test';
import { Sweeper } from '../../src/stores/postgres/sweeper.ts';
import { systemTime } from '../../src/time.ts';
import { waitFor } from '../support/services.ts';

const batchRows = 100;

/** A table with expired rows, and pauses that are over when the test says so. */
function setUp(t: TestContext, expired: number) {
  const state = { expired, batches: 0, atOnce: 0, pausing: [] as (() => void)[], fails: false };
  let running = 0;
  const remove = async (rows: number) => {
    state.atOnce = Math.max(state.atOnce, ++running);
    await turn();
    running--;
    if (state.fails) throw new Error('the store is away');
    const removed = Math.min(rows, state.expired);
    state.expired -= removed;
    state.batches++;
    return removed;
  };
  const after = (ms: number, go: () => void) => {
    if (ms < 60_000) state.pausing.push(go);
    return { cancel: () => undefined };
  };
  const sweeper = new Sweeper({ remove, time: { ...systemTime, after }, batchRows });
  t.after(() => sweeper.close());
  const endPause = async () => {
    await waitFor(() => state.pausing.length > 0, { what: 'a pause' });
    state.pausing.shift()!();
  };
  return { state, sweeper, endPause };
}

test('as many rows go as come, at once, though no time passes: a table never grows for ever', async (t) => {
  const { state, sweeper } = setUp(t, 1_000_000);
  for (let written = 1_000; written <= 20_000; written += 1_000) {
    sweeper.wrote(1_000);
    // That after what was owed before.
    state.pausing.shift()?.();
    await waitFor(() => state.pausing.length > 0, { what: `${written} rows made up for` });
    assert.ok(
      1_000_000 - state.expired > 2 * written - 2 * batchRows,
      `${1_000_000 - state.expired} removed after ${written} were written`,
    );
  }
  assert.ok(1_000_000 - state.expired < 45_000, `${1_000_000 - state.expired} removed`);
  assert.equal(state.atOnce, 1);
});

test('what was left behind goes batch by batch, with a pause after each, until nothing is left', async (t) => {
  const { state, sweeper, endPause } = setUp(t, 1_050);
  sweeper.wrote(batchRows / 2);
  for (let batch = 1; batch <= 11; batch++) await endPause();
  assert.deepEqual([state.expired, state.batches], [0, 11]);
});

test('a failure is made up for by the next', async (t) => {
  const { state, sweeper, endPause } = setUp(t, 150);
  state.fails = true;
  sweeper.wrote(batchRows);
  await endPause();
  state.fails = false;
  await waitFor(
    () => {
      sweeper.wrote(batchRows);
      return state.expired === 0;
    },
    { what: 'what had failed' },
  );
});

test('whoever has written nothing removes nothing, and nothing is removed after the end', async (t) => {
  const { state, sweeper } = setUp(t, 1_000);
  await turn();
  assert.equal(state.batches, 0);
  sweeper.wrote(batchRows);
  await sweeper.close();
  const { batches } = state;
  sweeper.wrote(10 * batchRows);
  await turn();
  await turn();
  assert.ok(batches <= 1 && state.batches === batches);
});

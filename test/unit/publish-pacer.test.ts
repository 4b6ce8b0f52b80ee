import assert from 'node:assert/strict';
import test from 'node:test';
import { Pacer } from '../../src/publishing/publish-input.ts';

/** When each of `count` events leaves, if nothing but the pacer holds it up. */
function departuresMs(rate: number, count: number, startMs = 0): number[] {
  const pacer = new Pacer(rate);
  let nowMs = startMs;
  return Array.from({ length: count }, () => (nowMs += pacer.delayMs(nowMs)) - startMs);
}

test('events leave evenly and not in bursts of a second', () => {
  assert.deepEqual(departuresMs(100, 5), [0, 10, 20, 30, 40]);
  assert.deepEqual(departuresMs(0.5, 3), [0, 2_000, 4_000]);
});

test('a rate above one per millisecond puts as many into each millisecond as belong there', () => {
  const departures = departuresMs(5_000, 5_001);
  assert.equal(departures.at(-1), 1_000);
  const perMs = new Map<number, number>();
  for (const atMs of departures) perMs.set(atMs, (perMs.get(atMs) ?? 0) + 1);
  assert.ok(Math.max(...perMs.values()) <= 6, `${Math.max(...perMs.values())} in one millisecond`);
});

test('a rate that divides no millisecond is kept in the long run', () => {
  const last = departuresMs(333, 3_331, 123_456.789).at(-1)!;
  assert.ok(Math.abs(last - 10_000) <= 5, `${last} ms`);
});

test('what was missed while nothing could leave is not made up for in a burst', () => {
  const pacer = new Pacer(1_000);
  pacer.delayMs(0);
  // Ten seconds later 10,000 events would be overdue.
  let atOnce = 0;
  while (pacer.delayMs(10_000) === 0) atOnce++;
  assert.ok(atOnce > 0 && atOnce <= 25, `${atOnce} at once`);
});

/** What a soak calls wrong, and what not. The soak itself is a script: test/bench/soak.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { grown, median, notBack, type Sample, tableHead, tableRow } from '../bench/soak-report.ts';
import type { Holdings } from '../support/process-probe.ts';

const mib = 2 ** 20;
const base: Holdings = {
  heapBytes: 50 * mib,
  bufferBytes: 2 * mib,
  residentBytes: 200 * mib,
  descriptors: 60,
  sockets: 8,
  emitters: 300,
  listeners: 400,
  timers: 25,
};

function sample(holdings: Partial<Holdings> = {}): Sample {
  const figures = { ended: 1_000, duplicates: 10, deadLettered: 0, reconnects: 2, openGaps: 1_000, held: 2_000 };
  return { atMs: 60_000, published: 1_234_567, ready: 5, figures, memory: { broker: null, store: 20 }, holdings: { ...base, ...holdings } };
}

test('at rest nothing may be more than before but what the garbage collector leaves, and the allocator keeps', () => {
  assert.deepEqual(notBack(base, base), []);
  assert.deepEqual(notBack(base, { ...base, heapBytes: 54 * mib, residentBytes: 300 * mib, timers: 20 }), []);
  for (const what of ['descriptors', 'sockets', 'emitters', 'listeners', 'timers'] as const)
    assert.deepEqual(notBack(base, { ...base, [what]: base[what] + 1 }), [`1 more ${what} than before`]);
  assert.deepEqual(notBack(base, { ...base, heapBytes: 70 * mib }), ['72 MiB of heap and buffers at rest, and 52 before']);
  assert.deepEqual(notBack(base, { ...base, bufferBytes: 20 * mib }), ['70 MiB of heap and buffers at rest, and 52 before']);
});

test('what is more in the whole last third than it ever was in the first goes on growing; one high or low moment does not', () => {
  const flat = Array.from({ length: 9 }, () => sample());
  assert.deepEqual(grown(flat), []);
  assert.deepEqual(grown(flat.with(8, sample({ residentBytes: 900 * mib }))), []);
  assert.deepEqual(grown(flat.with(0, sample({ listeners: 1 }))), []);
  const growing = (what: keyof Holdings) => flat.map((_, at) => sample({ [what]: base[what] * (1 + at / 10) }));
  const named = {
    heapBytes: 'heap and buffers',
    residentBytes: 'resident memory',
    listeners: 'listeners',
    timers: 'timers',
    descriptors: 'descriptors',
  };
  for (const [what, name] of Object.entries(named)) {
    const [found, ...others] = grown(growing(what as keyof Holdings));
    assert.match(found ?? '', new RegExp(`^${name} grew: at most `));
    assert.deepEqual(others, []);
  }
  // Too few to tell.
  assert.deepEqual(grown(growing('listeners').slice(0, 5)), []);
});

test('the columns of the table stand below their titles, and what nobody says is a question mark', () => {
  assert.equal(tableRow(sample()).length, tableHead.length);
  assert.match(tableRow(sample()), /^ +60 +1,234,567 +1,000 +5 +1,000 +50 .* \? +20$/);
});

test('a median is one of the values', () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([]), 0);
});

/** The page's own modules that need no browser: where one is, text as it is shown, rates. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import test from 'node:test';
import { checkout, moduleUrl } from '../support/checkout.ts';

const load = (name: string) => import(moduleUrl(`src/console/page/${name}`).href);
const { hrefOf, parseRoute } = await load('route.js');
const { Rates } = await load('rates.js');
const text = await load('text.js');

test('the page’s modules are what their types say', () => {
  const compiler = `${checkout}node_modules/typescript/bin/tsc`;
  assert.equal(spawnSync(process.execPath, [compiler, '-p', `${checkout}src/console/page`], { encoding: 'utf8' }).stdout, '');
});

test('an address leads back to where it was made, with any id', () => {
  const routes = [
    { page: 'stream' },
    { page: 'parked' },
    { page: 'audit' },
    { page: 'letter', id: '0123456789abcdef0123456789abcdef' },
    { page: 'letters', search: {}, by: 'reason' },
    { page: 'letters', search: { words: 'a b&c=?#/%', reason: 'late', entity_id: '' + '<script>' }, by: 'entity' },
    ...['a', '', ' ', '#', '?', '&id=x', '%', 'ä', '../..', '<b>', '}x', '\u202e'].map((id) => ({
      page: 'entity',
      type: 'order type',
      id,
    })),
  ];
  for (const route of routes) assert.deepEqual(parseRoute(hrefOf(route)), route);
});

test('an address that says nothing leads to the stream, and one with nonsense in it to no harm', () => {
  for (const hash of ['', '#', '#/', '#/nothing', '#javascript:alert(1)', '#/__proto__'])
    assert.deepEqual(parseRoute(hash), { page: 'stream' });
  assert.deepEqual(parseRoute('#/letters?by=constructor&colour=red&reason='), { page: 'letters', search: {}, by: 'reason' });
  assert.deepEqual(parseRoute('#/letters/not-a-fingerprint'), { page: 'letters', search: {}, by: 'reason' });
});

test('what cannot be seen in text from outside is written out', () => {
  assert.equal(text.visible('a\u202Eb\u0000c\nd\u200be'), 'a\\u{202e}b\\u{0}c\\u{a}d\\u{200b}e');
  assert.equal(text.visibleLines('a\nb\tc'), 'a\nb\\u{9}c');
  assert.equal(text.visible('Zürich 東京 <b>'), 'Zürich 東京 <b>');
});

test('numbers, times and ranges', () => {
  assert.deepEqual([text.number(1234567), text.number(null), text.number(undefined), text.number(0)], ['1,234,567', '–', '–', '0']);
  assert.deepEqual([text.rate(null), text.rate(0), text.rate(0.25), text.rate(1234.6)], ['–', '0', '0.3', '1,235']);
  assert.deepEqual(
    [text.duration(-5), text.duration(59_400), text.duration(61_000), text.duration(3_700_000), text.duration(1e9)],
    ['0 s', '59 s', '1 min 01 s', '1 h 01 min', '11 d'],
  );
  assert.deepEqual([text.range(4, 4), text.range(4, 1_000)], ['4', '4–1,000']);
  assert.equal(text.ago('2026-01-01T00:00:00.000Z', Date.parse('2026-01-01T00:03:30Z')), '3 min ago');
  assert.equal(text.time('2026-01-01T02:03:04.567Z'), '2026-01-01 02:03:04');
});

test('the header does not say live of a stream of which a shard does not work', () => {
  const state = { locked: false, silence: null, overview: { problems: [], shards: [{ state: 'consuming' }, { state: 'standby' }] } };
  assert.deepEqual(text.healthOf(state), ['on', 'live']);
  assert.deepEqual(text.healthOf({ ...state, overview: null }), ['on', 'live'], 'nothing is known yet');
  const troubled = ['off', 'not all of it works'];
  assert.deepEqual(
    text.healthOf({ ...state, overview: { problems: [], shards: [{ state: 'consuming' }, { state: 'halted' }] } }),
    troubled,
  );
  assert.deepEqual(text.healthOf({ ...state, overview: { ...state.overview, problems: ['nobody consumes events.shard.001'] } }), troubled);
  assert.deepEqual(text.healthOf({ ...state, silence: 'the server does not answer' }), ['off', 'no answer']);
  assert.deepEqual(text.healthOf({ ...state, locked: true }), ['', 'locked']);
});

const shard = (ended: number, worker = 'w', number = 0) => ({
  shard: number,
  worker,
  totals: { delivered: 0, applied: ended, duplicate: 0, skipped: 0, dead_lettered: 0 },
});

test('a rate is what ended between two moments, over about five seconds', () => {
  const rates = new Rates();
  rates.note(0, [shard(100)]);
  assert.equal(rates.of(0), null);
  rates.note(1_000, [shard(150)]);
  assert.equal(rates.of(0), 50);
  for (let second = 2; second <= 20; second++) rates.note(second * 1_000, [shard(150)]);
  assert.equal(rates.of(0), 0);
  assert.equal(rates.total([{ shard: 0 }, { shard: 1 }]), 0);
  assert.equal(rates.total([{ shard: 1 }]), null);
});

test('a rate begins again when a shard has another worker, or its worker began again', () => {
  const rates = new Rates();
  rates.note(0, [shard(100)]);
  rates.note(1_000, [shard(5_000, 'other')]);
  assert.equal(rates.of(0), null);
  rates.note(2_000, [shard(5_010, 'other')]);
  assert.equal(rates.of(0), 10);
  rates.note(3_000, [shard(3, 'other')]);
  assert.equal(rates.of(0), null);
  rates.note(4_000, [{ shard: 0, worker: null, totals: null }]);
  assert.equal(rates.of(0), null);
});

test('after a while without news a rate is told over the whole while', () => {
  const rates = new Rates();
  rates.note(0, [shard(0)]);
  rates.note(60_000, [shard(600)]);
  assert.equal(rates.of(0), 10);
});

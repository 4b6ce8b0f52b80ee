import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { EventError } from '../../src/errors.ts';
import { encodeCloudEvent, encodeEvent } from '../../src/events/encode.ts';
import { fromAmqpTimestamp, readTime, timeForms, timeText } from '../../src/events/timestamp.ts';
import { readBrokerDeath } from '../../src/dead-letters/dead-letter.ts';
import { commands } from '../../src/cli/run.ts';
import { readReadmes } from '../support/readme.ts';

const [firstMs, lastMs] = [Date.parse('0001-01-01T00:00:00Z'), Date.parse('9999-12-31T23:59:59.999Z')];

test('a time is read as JavaScript reads it, to the millisecond, in every year from 1 to 9999', () => {
  fc.assert(
    fc.property(fc.integer({ min: firstMs, max: lastMs }), (ms) => {
      const text = new Date(ms).toISOString();
      assert.equal(readTime(text), ms);
      assert.equal(readTime(text.replace(/\.\d+Z$/, '')), Math.floor(ms / 1_000) * 1_000);
      assert.equal(timeText(ms), text);
    }),
    { numRuns: 2_000 },
  );
  for (const ms of [firstMs, lastMs]) assert.equal(readTime(new Date(ms).toISOString()), ms);
});

test('offsets of every kind are taken off', () => {
  const noon = Date.UTC(2024, 1, 29, 12);
  for (const [local, offset] of [
    ['14:00', '+02:00'],
    ['14:00:00,0', ' +0200'],
    ['07:00:00.000', '-05'],
    ['12:00', 'z'],
    ['12:00:00', '-00:00'],
    ['17:45', '+05:45'],
  ] as const) {
    assert.equal(readTime(`2024-02-29T${local}${offset}`), noon, local + offset);
  }
  assert.equal(readTime('2024-02-29t12:00:00.123456789Z'), noon + 123);
});

test('a time that is not in the calendar is refused', () => {
  for (const day of ['2026-02-30', '2023-02-29', '1900-02-29', '2026-04-31', '2026-13-01', '2026-00-10', '2026-01-00', '2026-01-32']) {
    for (const text of [day, `${day}T10:00:00Z`, `${day} 10:00`])
      assert.match(String(readTime(text)), /names a day that is not in the calendar/, text);
  }
  for (const time of ['24:00:00', '25:00', '10:60', '10:00:61', '99:99'])
    assert.match(String(readTime(`2026-01-31T${time}Z`)), /names a time that no day has/, time);
  for (const offset of ['+99:99', '+24:00', '-10:60', '+2400'])
    assert.match(String(readTime(`2026-01-31T10:00:00${offset}`)), /offset that no zone has/, offset);
  assert.match(String(readTime('2016-12-31T23:59:60Z')), /leap seconds are not read/);
  assert.equal(readTime('2000-02-29'), Date.UTC(2000, 1, 29));
});

test('a time outside the years 1 to 9999 is refused, also where only its offset leads out of them', () => {
  for (const text of [
    '0000-12-31T23:59:59Z',
    '0001-01-01T00:00:00+00:01',
    '9999-12-31T23:59:59-00:01',
    '+012026-01-01T00:00:00Z',
    '-000001-01-01',
  ]) {
    assert.match(String(readTime(text)), /outside the years 1 to 9999/, text);
  }
  assert.equal(timeText(lastMs + 1), null);
  assert.equal(timeText(firstMs - 1), null);
});

test('the usual mistakes are named, with what to write instead', () => {
  const mistakes: readonly (readonly [unknown, RegExp])[] = [
    [1_714_564_800, /is a number: seconds or milliseconds since 1970 .* ISO 8601/],
    ['1714564800', /is a number: seconds or milliseconds since 1970/],
    ['1714564800000', /is a number: seconds or milliseconds since 1970/],
    ['1714564800.25', /is a number/],
    ['31/01/2026', /day, month and year in an order .* write 2026-01-31/],
    ['1/31/2026 10:00', /day, month and year in an order/],
    ['31.01.26', /day, month and year in an order/],
    ['2026/01/31 10:00', /not written with hyphens: write 2026-01-31/],
    ['2026-01-31 10:00:00 CET', /names its time zone: write the offset/],
    ['2026-01-31T10:00:00+01:00[Europe/Berlin]', /names its time zone/],
    ['20260131', /not written with hyphens: write 2026-01-31/],
    [20_260_131, /not written with hyphens/],
    ['2026', /has no day: write 2026-01-31/],
    ['20260131T080000Z', /without hyphens and colons: write 2026-01-31T08:00:00Z/],
    ['2026-1-5', /a month or a day of one digit: write 2026-01-05/],
    ['2026-01-31 08:00 PM', /a clock of twelve hours/],
    ['2026-01-31T10:00:00Z[UTC]', /behind the offset: leave out what is in brackets/],
    ['2026-01-31T08Z', /an hour without minutes/],
    ['2026-01-31T08:00:00.1234567890Z', /more than nine digits/],
    ['Sat, 31 Jan 2026 08:00:00 GMT', /the month in words/],
    [' 2026-01-31T08:00:00Z', /space around it/],
    ['yesterday', /is not a date and time in ISO 8601, such as 2026-01-31T08:00:00Z/],
    ['', /is not a date and time/],
    [{}, /is not a date and time/],
  ];
  for (const [value, fault] of mistakes) assert.match(String(readTime(value)), fault, String(value));
});

test('an AMQP timestamp in milliseconds is read as such, and one that makes no time is none', () => {
  const noon = Date.UTC(2024, 4, 1, 12);
  assert.equal(fromAmqpTimestamp(noon / 1_000), noon);
  assert.equal(fromAmqpTimestamp(noon), noon);
  for (const value of [0, -1, Number.NaN, 1e300, noon * 1_000, 0.0005, undefined, 'now', Number.POSITIVE_INFINITY])
    assert.equal(fromAmqpTimestamp(value), null, String(value));
  fc.assert(
    fc.property(fc.double(), (value) => {
      const ms = fromAmqpTimestamp(value);
      assert.ok(ms === null || readTime(timeText(ms)) === ms);
    }),
  );
});

test('a time of death that a forged header puts beyond the year 9999 is not printed', () => {
  const deathAt = (value: unknown) =>
    readBrokerDeath({ 'x-death': [{ reason: 'expired', queue: 'q', time: { '!': 'timestamp', value } }] }).at;
  assert.equal(deathAt(1_714_564_800), '2024-05-01T12:00:00.000Z');
  for (const value of [9e14, 1e18, -1e12, 'x', Number.NaN]) assert.equal(deathAt(value), null);
});

test('a publisher refuses what a worker would, also a date that has no text in four digits', () => {
  const event = { entityId: 'a', sequence: 1, type: 'T', id: '1' };
  for (const timestamp of ['2026-02-30T10:00:00Z', new Date(Date.UTC(12_026, 0, 1)), 1_714_564_800 as unknown as string]) {
    const refused = (error: unknown) => error instanceof EventError && /^time(stamp)? (names|lies|is a number)/.test(error.message);
    assert.throws(() => encodeEvent({ ...event, timestamp }), refused, String(timestamp));
    assert.throws(() => encodeCloudEvent({ ...event, timestamp }, 'structured'), refused, String(timestamp));
  }
});

test('the forms that help and README list are read', () => {
  const forms = timeForms.match(/\d{4}-[^,;]+/g) ?? [];
  assert.equal(forms.length, 3);
  const readme = readReadmes();
  for (const form of forms) {
    assert.equal(typeof readTime(form), 'number', form);
    assert.ok(readme.includes(`\`${form}\``), form);
  }
  for (const name of ['publish', 'events append'])
    assert.ok(commands.find((command) => command.name === name)?.description.includes(timeForms), name);
});

/** What is built on the port for time and chance, on a clock that the test moves. */
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import test from 'node:test';
import { UnavailableError } from '../../src/errors.ts';
import { backOffMs, every, isoNow, patiently, sleep, systemTime, timeLimit, within } from '../../src/time.ts';
import { ManualTime } from '../support/manual-time.ts';

const random = (value: number) => ({ random: () => value });

test('a sleep ends when it is over, or at once when it is aborted, and leaves nothing with the signal', async () => {
  const time = new ManualTime();
  const { signal } = new AbortController();
  const whole = sleep(time, 1_000, signal);
  time.advance(1_000);
  await whole;
  assert.equal(getEventListeners(signal, 'abort').length, 0);
  const stop = new AbortController();
  const broken = sleep(time, 1_000, stop.signal);
  stop.abort();
  await broken;
  await sleep(time, 1_000, stop.signal);
  assert.equal(time.atMs, 1_000);
});

test('what is waited for within a bound is its value, null when the bound is over, or its error', async () => {
  const time = new ManualTime();
  assert.equal(await within(time, Promise.resolve('value'), 1_000), 'value');
  await assert.rejects(within(time, Promise.reject(new Error('no')), 1_000), /no/);
  const late = within(time, new Promise(() => undefined), 1_000);
  time.advance(1_000);
  assert.equal(await late, null);
});

test('what is unavailable is asked for again, but not once its signal is aborted', async () => {
  const time = new ManualTime();
  const stop = new AbortController();
  const failures: number[] = [];
  let asked = 0;
  const away = () => {
    asked++;
    throw new UnavailableError('away');
  };
  const asking = patiently(async () => away(), { time, signal: stop.signal, onUnavailable: (_error, count) => failures.push(count) });
  const ended = assert.rejects(asking, /away/);
  for (let pauses = 0; pauses < 2; pauses++) {
    await new Promise(setImmediate);
    time.advance(200);
  }
  await new Promise(setImmediate);
  stop.abort();
  await ended;
  assert.deepEqual([asked, failures], [3, [1, 2, 3]]);
  await assert.rejects(
    patiently(async () => away(), { time, signal: stop.signal, onUnavailable: () => assert.fail('it was aborted') }),
    /away/,
  );
  await assert.rejects(
    patiently(async () => assert.fail('another error'), { time }),
    /another error/,
  );
});

test('what happens every so often does so until it is cancelled, also from within', () => {
  const time = new ManualTime();
  const atMs: number[] = [];
  const timer = every(time, 100, () => atMs.push(time.atMs) === 3 && timer.cancel());
  time.advance(1_000);
  assert.deepEqual(atMs, [100, 200, 300]);
});

test('a limit aborts with what tells a time-out from a stop', () => {
  const time = new ManualTime();
  const signal = timeLimit(time, 1_000);
  time.advance(999);
  assert.equal(signal.aborted, false);
  time.advance(1);
  assert.equal(signal.reason.name, 'TimeoutError');
});

test('a pause doubles up to its limit, and a part of it is left to chance', () => {
  const limits = { initialMs: 100, maxMs: 1_000 };
  assert.deepEqual(
    [1, 2, 3, 4, 5, 1_000].map((failures) => backOffMs(limits, failures, random(1))),
    [100, 200, 400, 800, 1_000, 1_000],
  );
  assert.deepEqual(
    [1, 2, 1_000].map((failures) => backOffMs(limits, failures, random(0))),
    [10, 20, 100],
  );
  assert.equal(backOffMs({ ...limits, leastShare: 0.5 }, 1, random(0)), 50);
  assert.equal(backOffMs({ ...limits, leastShare: 0 }, 1, random(0)), 0);
});

test('the clock of the computer goes on, tells the day, and calls back later what is asked of it', async () => {
  const [startMs, order] = [systemTime.nowMs(), [] as string[]];
  await new Promise<void>((resolve) => {
    systemTime.after(0, () => assert.fail('it was cancelled')).cancel();
    systemTime.afterTick(() => {
      order.push('after the tick');
      systemTime.after(5, () => resolve(void order.push('later')));
    });
    queueMicrotask(() => order.push('in the tick'));
  });
  assert.deepEqual(order, ['in the tick', 'after the tick', 'later']);
  assert.ok(systemTime.nowMs() - startMs >= 4);
  const [before, now, after] = [Date.now(), Date.parse(isoNow(systemTime)), Date.now()];
  assert.ok(before <= now && now <= after);
  assert.notEqual(systemTime.uuid(), systemTime.uuid());
});

import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { PermanentError, UnavailableError } from '../../src/errors.ts';
import { runRelay } from '../../src/event-sourcing/relay.ts';
import { defaultEventLimits } from '../../src/events/event.ts';
import type { PublishableMessage, PublishOutcome } from '../../src/rabbitmq/publisher.ts';
import type { RecordedEvent } from '../../src/stores/event-store.ts';
import { systemTime } from '../../src/time.ts';
import { MemoryRelayLeases } from '../support/memory-relay-leases.ts';
import { KeptLog } from '../support/rabbitmq.ts';
import { waitFor } from '../support/services.ts';

const confirmed: PublishOutcome = { status: 'confirmed' };

/** A log that a test appends to, a publisher whose answers it gives, and as many relays as it starts. */
function setUp(t: TestContext) {
  const log = new KeptLog();
  const leases = new MemoryRelayLeases();
  const events: RecordedEvent[] = [];
  const published: string[] = [];
  const state = { answer: async (_name: string): Promise<PublishOutcome> => confirmed, readFails: false, woken: () => {} };
  const append = (...names: string[]) => {
    for (const name of names) {
      const [entityId = '', sequence] = name.split('/');
      const position = events.length + 1;
      events.push({
        entityType: 'thing',
        entityId,
        sequence: Number(sequence),
        position,
        id: name,
        type: 'Happened',
        timestamp: '2026-01-01T00:00:00Z',
        data: null,
        dataJson: 'null',
        metadata: {},
      });
    }
    state.woken();
  };
  const store = {
    async *readAll({ after = 0, limit = 0 } = {}) {
      if (state.readFails) throw new UnavailableError('the store is away');
      yield* events.slice(after, after + limit);
    },
    waitForMore: (position: number, signal: AbortSignal) =>
      new Promise<void>((resolve) => {
        state.woken = () => events.length > position && resolve();
        state.woken();
        signal.addEventListener('abort', () => resolve());
      }),
  };
  const publisher = {
    async publish({ properties: { messageId = '' } }: PublishableMessage) {
      const outcome = await state.answer(messageId);
      if (outcome.status === 'confirmed') published.push(messageId);
      return outcome;
    },
  };
  const start = (pageSize = 3, limits = defaultEventLimits) => {
    const end = new AbortController();
    const ended = runRelay({ store, leases, publisher, limits, log, time: systemTime, signal: end.signal, pageSize });
    ended.catch(() => undefined);
    t.after(() => end.abort());
    const stop = () => {
      end.abort();
      return ended;
    };
    return { ended, stop };
  };
  const untilPublished = (...names: string[]) =>
    waitFor(() => published.length >= names.length, { what: `${names.length} published` }).then(() => assert.deepEqual(published, names));
  return { log, leases, state, append, start, published, untilPublished };
}

test('what is appended is published in order, page by page, and what comes later as it comes', async (t) => {
  const { append, start, untilPublished } = setUp(t);
  append('a/1', 'b/1', 'a/2', 'a/3', 'b/2');
  const relay = start();
  await untilPublished('a/1', 'b/1', 'a/2', 'a/3', 'b/2');
  append('c/1');
  await untilPublished('a/1', 'b/1', 'a/2', 'a/3', 'b/2', 'c/1');
  await relay.stop();
});

test('the next relay goes on behind what was confirmed, and takes over only when the lease is free', async (t) => {
  const { append, start, untilPublished, published } = setUp(t);
  append('a/1', 'a/2');
  const first = start();
  const second = start();
  await untilPublished('a/1', 'a/2');
  await first.stop();
  append('a/3');
  await untilPublished('a/1', 'a/2', 'a/3');
  await second.stop();
  append('a/4');
  assert.equal(published.length, 3);
});

test('a page of which one event was not confirmed is published again from its beginning', async (t) => {
  const { append, start, state, untilPublished } = setUp(t);
  append('a/1', 'b/1', 'a/2');
  let refuse = true;
  state.answer = async (name) => {
    if (name !== 'b/1' || !refuse) return confirmed;
    refuse = false;
    return { status: 'failed', error: new UnavailableError('the broker is away') };
  };
  const relay = start();
  await untilPublished('a/1', 'a/2', 'a/1', 'b/1', 'a/2');
  await relay.stop();
});

test('no event goes before an earlier one of its entity is confirmed; others do not wait for it', async (t) => {
  const { append, start, state, untilPublished } = setUp(t);
  append('a/1', 'a/2', 'b/1');
  let confirm: (outcome: PublishOutcome) => void = () => undefined;
  const asked: string[] = [];
  state.answer = (name) => {
    asked.push(name);
    return name === 'a/1' ? new Promise((resolve) => (confirm = resolve)) : Promise.resolve(confirmed);
  };
  const relay = start();
  await waitFor(() => asked.includes('b/1'), { what: 'the other entity' });
  assert.deepEqual(asked, ['a/1', 'b/1']);
  confirm(confirmed);
  await untilPublished('b/1', 'a/1', 'a/2');
  await relay.stop();
});

test('a store that is away is asked again, and that is said once', async (t) => {
  const { append, start, state, untilPublished, log } = setUp(t);
  state.readFails = true;
  append('a/1');
  const relay = start();
  await waitFor(() => log.lines.some((line) => JSON.stringify(line).includes('the store is away')), { what: 'the failure logged' });
  state.readFails = false;
  await untilPublished('a/1');
  await relay.stop();
  assert.equal(log.lines.filter((line) => JSON.stringify(line).includes('the store is away')).length, 1);
});

test('an event without a queue holds everything behind it, and says what to do', async (t) => {
  const { append, start, state, published, log } = setUp(t);
  append('a/1', 'b/1', 'b/2', 'c/1');
  state.answer = async (name) => (name === 'b/1' ? { status: 'returned', detail: 'NO_ROUTE' } : confirmed);
  const relay = start();
  await waitFor(() => log.lines.some((line) => JSON.stringify(line).includes('inorder topology check')), { what: 'the remedy' });
  await relay.stop();
  assert.ok(!published.includes('b/2') && !published.includes('c/1'), String(published));
});

test('what keeps events from getting on is told once for each cause, and tried again less and less often', async (t) => {
  const { append, start, state, untilPublished, log } = setUp(t);
  append('a/1');
  let cause = 'its queue is full';
  const triedAtMs: number[] = [];
  state.answer = async () => {
    triedAtMs.push(performance.now());
    return { status: 'failed', error: new UnavailableError(cause) };
  };
  const relay = start();
  await waitFor(() => triedAtMs.length >= 4, { what: 'four attempts', timeoutMs: 60_000 });
  const [, , third = 0, fourth = 0] = triedAtMs;
  assert.ok(fourth - third >= 400, 'no less than half of 800 ms');
  cause = 'it has no exchange';
  await waitFor(() => triedAtMs.length >= 5, { what: 'one more', timeoutMs: 60_000 });
  state.answer = async () => confirmed;
  await waitFor(() => log.lines.some((line) => JSON.stringify(line).includes('relaying again')), {
    what: 'the end of it',
    timeoutMs: 60_000,
  });
  await untilPublished('a/1');
  const said = (text: string) => log.lines.filter((line) => JSON.stringify(line).includes(text)).length;
  assert.deepEqual(['its queue is full', 'it has no exchange', '"relaying"', 'relaying again'].map(said), [1, 1, 1, 1]);
  await relay.stop();
});

test('what is in the log and no worker takes is published as it is, and named once: it stops nothing behind it', async (t) => {
  const { append, start, state, untilPublished, log } = setUp(t);
  append('a/1', `${'b'.repeat(200)}/1`, 'a/2');
  let refuse = true;
  state.answer = async (name) => {
    if (name !== 'a/2' || !refuse) return confirmed;
    refuse = false;
    return { status: 'failed', error: new UnavailableError('the broker is away') };
  };
  const relay = start(3, { ...defaultEventLimits, maxEntityIdBytes: 100 });
  await untilPublished('a/1', `${'b'.repeat(200)}/1`, 'a/1', `${'b'.repeat(200)}/1`, 'a/2');
  const named = log.lines.filter((line) => JSON.stringify(line).includes('no worker takes'));
  assert.equal(named.length, 1);
  assert.match(JSON.stringify(named), /"position":2,.*"reason":"malformed"/);
  await relay.stop();
});

test('an event that AMQP cannot carry ends the relay by its name, with everything before it confirmed', async (t) => {
  const { append, start, untilPublished, leases } = setUp(t);
  append('a/1', 'a/2', `${'x'.repeat(300)}/1`, 'a/3');
  const { ended } = start(10);
  await assert.rejects(
    ended,
    (error: Error) => error instanceof PermanentError && /event 1 of thing "x{300}" .*position 3\) cannot be published/.test(error.message),
  );
  await untilPublished('a/1', 'a/2');
  const lease = await leases.acquire(AbortSignal.timeout(10_000));
  assert.equal(lease?.position, 2, 'and gave the lease back');
});

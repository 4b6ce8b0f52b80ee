/** What processors make of a run of events: which of them are committed, and which one is to blame for the rest. */
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import test from 'node:test';
import { defineAggregate, defineHandler } from '../../src/aggregates/define.ts';
import { refuse, type Processor } from '../../src/aggregates/definition.ts';
import { createProcessors } from '../../src/aggregates/processors.ts';
import { EventError } from '../../src/errors.ts';
import { readAppliedText } from '../../src/events/event.ts';
import { systemTime } from '../../src/time.ts';
import { runHandler, type CommitEffect, prepare, type ProcessingOptions } from '../../src/worker/processing.ts';
import { eventOf } from '../support/event-of.ts';

const life = new AbortController().signal;
const handlerRun = {
  limits: { maxAttempts: 2, initialMs: 1, maxMs: 1, timeoutMs: 10 },
  life,
  time: systemTime,
  inWork: new Set<import('../../src/events/event.ts').Event>(),
  onAttempt: () => undefined,
};

function prepareRun(
  types: readonly string[],
  processors: readonly Processor[],
  {
    eventLog = false,
    skipped = [] as readonly number[],
    state = null as string | null,
    isParsed = true,
    data = null as unknown,
    trials = null as ProcessingOptions['trials'],
  } = {},
) {
  const slots = types.map((type, index) => {
    const sequence = index + 1;
    return {
      delivery: { tag: sequence, event: eventOf({ id: `e-${sequence}`, sequence, type, data }) },
      sequence,
      action: skipped.includes(sequence) ? 'skip' : 'apply',
      versionAfter: sequence,
      holesAfter: '',
    } as const;
  });
  const effect: CommitEffect = {
    kind: 'commit',
    op: 1,
    entity: { entityType: 'thing', entityId: 'a' },
    expectedVersion: 0,
    expectedHoles: '',
    slots,
    adopts: false,
  };
  const before = {
    version: 0,
    holes: '',
    text: state,
    parsed: state === null || !isParsed ? null : { state: JSON.parse(state) as unknown },
  };
  return prepare(effect, '1:1', before, {
    processors: createProcessors(processors),
    maxStateBytes: 60,
    eventLog,
    handlerRun,
    report: { retried: () => {}, within: (_tag, work) => work() },
    trials,
    isolation: null,
    messages: new Map(),
  });
}

const texts = defineAggregate({
  type: 'thing',
  initialState: { count: 0, value: null as unknown },
  evolve: {
    Good: ({ count }) => ({ count: count + 1, value: null }),
    Unwritable: ({ count }) => ({ count: count + 1, value: 1n }),
    Large: ({ count }) => ({ count: count + 1, value: 'x'.repeat(100) }),
  },
});

test('the log gets what is applied, and nothing of what is passed over; without a log nothing is made for it', async () => {
  const prepared = await prepareRun(['Good', 'Good', 'Good'], [texts], { eventLog: true, skipped: [2] });
  const logged = prepared?.commit?.events.map(({ log }) => (log === undefined ? null : readAppliedText(log).sequence));
  assert.deepEqual(logged, [1, null, 3]);
  const unlogged = await prepareRun(['Good'], [texts]);
  assert.deepEqual(
    unlogged?.commit?.events.map(({ log }) => log),
    [undefined],
  );
});

for (const [type, reason] of [
  ['Unwritable', 'handler_failed'],
  ['Large', 'state_too_large'],
] as const) {
  test(`the event after which the state is ${type} is rejected, and not the good ones that were folded with it`, async () => {
    const prepared = await prepareRun(['Good', 'Good', type], [texts]);
    assert.deepEqual([prepared?.done, prepared?.failure?.reason, prepared?.commit?.state], [2, reason, '{"count":2,"value":null}']);
  });

  test(`no handler runs for an event after which the state is ${type}`, async () => {
    const handled: unknown[] = [];
    const prepared = await prepareRun([type], [texts, defineHandler({ type: 'thing', handle: ({ sequence }) => handled.push(sequence) })]);
    assert.deepEqual([prepared?.done, prepared?.failure?.reason, prepared?.commit], [0, reason, null]);
    assert.deepEqual(handled, []);
  });
}

const mutating = defineAggregate({
  type: 'thing',
  initialState: { count: 0 },
  evolve: {
    Good: (state) => {
      state.count += 1;
      return state;
    },
    Refused: (state) => {
      state.count += 100;
      return refuse('not that');
    },
    Throws: (state) => {
      state.count += 100;
      throw new Error('not that either');
    },
  },
});

for (const type of ['Refused', 'Throws']) {
  test(`an evolve that changes the state in place leaves nothing of an event that is ${type}: what was folded before is committed as it was`, async () => {
    const prepared = await prepareRun(['Good', 'Good', type, 'Good'], [mutating]);
    assert.deepEqual([prepared?.done, prepared?.commit?.state], [2, '{"count":2}']);
    assert.deepEqual(prepared?.after.parsed, { state: { count: 2 } });
  });
}

test('a state that says why it cannot be written takes no data with it, of whichever event', async () => {
  const quoting = defineAggregate({
    type: 'thing',
    initialState: {} as { toJSON?: () => never },
    evolve: {
      Good: () => ({
        toJSON: () => {
          throw new Error('not JSON: {"card":"4111-1111"}');
        },
      }),
    },
  });
  const prepared = await prepareRun(['Good'], [quoting], { data: { card: '4111-1111' } });
  assert.equal(prepared?.failure?.detail, 'the state cannot be written: Error: not JSON: [data]');
});

test('an evolve that changes the state in place leaves nothing of an event whose handler fails', async () => {
  const handler = defineHandler({
    type: 'thing',
    handle: () => {
      throw new Error('no');
    },
  });
  const prepared = await prepareRun(['Good', 'Good'], [mutating, handler], { skipped: [1], state: '{"count":5}' });
  assert.deepEqual([prepared?.done, prepared?.failure?.reason, prepared?.commit?.state], [1, 'handler_failed', null]);
  assert.deepEqual(prepared?.after, { version: 1, holes: '', text: '{"count":5}', parsed: { state: { count: 5 } } });
});

test('nothing stays behind with the shard of a handler that never settles', async () => {
  const handler = defineHandler({ type: 'thing', handle: () => new Promise(() => {}) });
  const outcome = await runHandler(handler, eventOf(), { ...handlerRun, headers: {}, onRetry: () => {}, guard: (attempt) => attempt() });
  assert.equal(outcome.kind, 'failed');
  assert.equal(getEventListeners(life, 'abort').length, 0);
});

test('what a handler returns has a limit, and may be nothing that can be printed', async () => {
  const large = defineHandler({ type: 'thing', handle: () => 'x'.repeat(100) });
  const unprintable = defineHandler({
    type: 'thing',
    handle: () => {
      throw Object.create(null);
    },
  });
  for (const [handler, detail] of [
    [large, /^what the handler returned has 102 bytes, MAX_STATE_BYTES allows 60/],
    [unprintable, /^something that cannot be printed \(attempt 2\)$/],
  ] as const) {
    const prepared = await prepareRun(['Good'], [handler]);
    assert.deepEqual([prepared?.done, prepared?.failure?.reason], [0, 'handler_failed']);
    assert.match(prepared?.failure?.detail ?? '', detail);
  }
});

for (const [reason, told] of [
  ['invalid_data', 'invalid_data'],
  ['refused', 'refused'],
  // What a publisher throws within a handler is about another event.
  ['too_large', 'handler_failed'],
] as const) {
  test(`an EventError with the reason ${reason} fails the event at once as ${told}, thrown by a handler or by evolve`, async () => {
    let calls = 0;
    const fail = () => {
      calls++;
      throw new EventError(reason, 'not this one');
    };
    const detail = 'EventError: not this one';
    const byHandler = await prepareRun(['Good'], [defineHandler({ type: 'thing', handle: fail })]);
    assert.deepEqual([byHandler?.failure?.reason, byHandler?.failure?.detail, calls], [told, detail, 1]);
    const byEvolve = await prepareRun(['Bad'], [defineAggregate({ type: 'thing', initialState: {}, evolve: { Bad: fail } })]);
    assert.deepEqual([byEvolve?.failure?.reason, byEvolve?.failure?.detail], [told, `evolve for "Bad" threw ${detail}`]);
  });
}

test('an error that cannot be looked at fails the event after its attempts, and nothing else', async () => {
  const { proxy, revoke } = Proxy.revocable(new Error('gone'), {});
  revoke();
  const handler = defineHandler({ type: 'thing', handle: () => Promise.reject(proxy) });
  const prepared = await prepareRun(['Good'], [handler]);
  assert.deepEqual(
    [prepared?.failure?.reason, prepared?.failure?.detail],
    ['handler_failed', 'something that cannot be printed (attempt 2)'],
  );
});

test('beside a handler, all that an aggregate does with the state is done while its event is on record', async () => {
  let isOnRecord = false;
  const seen: unknown[] = [];
  const sees = <T>(what: string, value: T): T => {
    seen.push([what, isOnRecord]);
    return value;
  };
  const trials: ProcessingOptions['trials'] = {
    verdictOn: () => null,
    together: (slots) => slots.length,
    concerns: () => true,
    async run(_slots, work) {
      isOnRecord = true;
      try {
        return await work();
      } finally {
        isOnRecord = false;
      }
    },
  };
  const aggregate = defineAggregate({
    type: 'thing',
    initialState: { n: 0 },
    evolve: { x: (state: { n: number }) => sees('evolve', { n: state.n + 1 }) },
    serialize: (state) => sees('serialize', JSON.stringify(state)),
    deserialize: (text) => sees('deserialize', JSON.parse(text) as { n: number }),
  });
  const handler = defineHandler({ type: 'thing', handle: () => sees('handle', undefined) });
  const done = await prepareRun(['x'], [aggregate, handler], { state: '{"n":1}', isParsed: false, trials });
  assert.equal(done?.commit?.state, '{"n":2}');
  const first = ['deserialize', 'evolve', 'serialize', 'handle'].map((what) => [what, true]);
  assert.deepEqual(seen.slice(0, 4), first);
});

/** Processors in a thread: what ends it fails, and everything else that was in it is processed. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { createProcessors } from '../../src/aggregates/processors.ts';
import { historyAggregate } from '../../src/aggregates/built-in.ts';
import { systemTime } from '../../src/time.ts';
import { Isolation } from '../../src/worker/isolation.ts';
import { type CommitEffect, prepare, type ProcessingOptions } from '../../src/worker/processing.ts';
import { moduleUrl } from '../support/checkout.ts';
import { eventOf } from '../support/event-of.ts';

/** Threads of a process that runs the sources as they are cannot load them. */
const skip = import.meta.url.endsWith('.ts') && 'it runs compiled: npm test -- test/unit/isolation.test.ts';

/** The thread has the environment that this process had when it began. */
function isolated(t: TestContext, poison: string, where: 'aggregate' | 'handler' = 'aggregate') {
  Object.assign(process.env, { POISON: poison, POISONS: where });
  const warnings: unknown[] = [];
  const isolation = new Isolation({
    choice: { processor: moduleUrl('test/support/poison-processor.ts').href, entityType: 'trace' },
    blockedAfterMs: poison === 'loop' ? 10_000 : 300_000,
    log: { warn: (fields) => void warnings.push(fields) },
    time: systemTime,
    fail: (error) => assert.fail(String(error)),
  });
  const life = new AbortController();
  t.after(() => isolation.stop());
  let attempts = 0;
  const options: ProcessingOptions = {
    processors: createProcessors([historyAggregate()]),
    isolation,
    trials: null,
    maxStateBytes: 10_000,
    eventLog: false,
    handlerRun: {
      limits: { maxAttempts: 1, initialMs: 1, maxMs: 1, timeoutMs: 60_000 },
      life: life.signal,
      time: systemTime,
      inWork: new Set(),
      onAttempt: () => void attempts++,
    },
    report: { retried: () => {}, within: (_tag, work) => work() },
    messages: new Map(),
  };
  const run = async (entityId: string, count = 1) => {
    const entity = { entityType: 'trace', entityId };
    const slots = Array.from({ length: count }, (_, index) => {
      const event = eventOf({ ...entity, sequence: index + 1, id: `${entityId}-${index + 1}`, type: `e${index + 1}` });
      return {
        delivery: { tag: index + 1, event },
        sequence: index + 1,
        action: 'apply' as const,
        versionAfter: index + 1,
        holesAfter: '',
      };
    });
    const effect: CommitEffect = { kind: 'commit', op: 1, entity, expectedVersion: 0, expectedHoles: '', slots, adopts: false };
    const prepared = await prepare(effect, 'token', { version: 0, holes: '', text: null, parsed: null }, options);
    return prepared && [prepared.done, prepared.failure?.reason ?? null, prepared.commit?.state ?? null];
  };
  return { run, life, warnings, attempts: () => attempts };
}

test('what is processed in a thread is prepared as it is here', { skip }, async (t) => {
  const { run, warnings, attempts } = isolated(t, 'none', 'handler');
  assert.deepEqual(await run('a', 2), [1, null, '{"types":["e1"]}'], 'with a handler each event has a commit of its own');
  assert.equal(attempts(), 1, 'attempts are counted');
  assert.deepEqual(warnings, []);
});

for (const [poison, reason] of [
  ['exit', 'process_killed'],
  ['loop', 'process_blocked'],
  ['rejection', 'process_killed'],
] as const) {
  test(`of what was in a thread when it ended (${poison}), only what ends the next one alone fails`, { skip }, async (t) => {
    const { run, warnings } = isolated(t, poison, poison === 'rejection' ? 'handler' : 'aggregate');
    const results = await Promise.all([run('a', 2), run('poison', 3), run('b'), run('poison-2')]);
    const done = '{"types":["e1"]}';
    // Of several events only the first is tried again at once: the rest is asked for as after any commit.
    assert.deepEqual(results.slice(1), [
      [0, reason, null],
      [1, null, done],
      [0, reason, null],
    ]);
    assert.equal(results[0]?.[1], null);
    assert.ok(warnings.length >= 2, 'each end is logged');
    assert.deepEqual(await run('c'), [1, null, done], 'and the next thread serves everything else');
  });
}

test('an event is not at fault for what an earlier one left behind in the thread', { skip }, async (t) => {
  const { run, warnings } = isolated(t, 'late rejection', 'handler');
  assert.deepEqual(await run('poison'), [1, null, '{"types":["e1"]}']);
  assert.deepEqual(await run('slow'), [1, null, '{"types":["e1"]}']);
  assert.equal(warnings.length, 1, 'the thread ended under it');
});

test('a lost shard waits for no thread', { skip }, async (t) => {
  const { run, life } = isolated(t, 'loop');
  const running = run('poison');
  life.abort();
  assert.equal(await running, null);
});

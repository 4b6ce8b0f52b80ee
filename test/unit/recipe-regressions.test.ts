/**
 * What goes wrong in the usual recipe (src/README.md, section 9), one test each, named after it.
 * The two about alerts are tested where the alerts are.
 */
import assert from 'node:assert/strict';
import test from 'node:test';
import { loadConfig } from '../../src/config/load.ts';
import { ConfigError } from '../../src/errors.ts';
import { OrderingDetector, type MiddlewareStrategy, withOrdering } from '../../src/detection/detector.ts';
import { event, ModelStore, SequencerHarness } from '../support/sequencer-harness.ts';

test('a duplicate held twice blocks the buffer for ever: here the copies leave together', () => {
  const harness = new SequencerHarness();
  harness.process(event(3), event(2), event(2), event(2), event(3));
  assert.equal(harness.sequencer.overview().held, 5);
  harness.process(event(1));
  assert.deepEqual(harness.store.applied(), [1, 2, 3]);
  assert.deepEqual(harness.sequences('duplicate'), [2, 2, 3]);
  const { held, unsettled } = harness.sequencer.overview();
  assert.deepEqual({ held, unsettled }, { held: 0, unsettled: 0 });
});

test('an event popped from the heap before its handler fails is lost: here it is dead-lettered with all that follows', () => {
  const harness = new SequencerHarness({}, new ModelStore({ fails: ({ sequence }) => sequence === 2 }));
  harness.process(event(2), event(3));
  harness.process(event(1));
  assert.deepEqual(harness.store.applied(), [1]);
  assert.deepEqual(harness.sequences('handler_failed'), [2]);
  assert.deepEqual(harness.sequences('entity_parked'), [3]);
  assert.equal(harness.unsettledCount, 0);
});

test('an event popped from the heap before its handler fails is lost: here a crash meanwhile brings it back', () => {
  const harness = new SequencerHarness();
  harness.process(event(2));
  harness.arrive(event(1));
  assert.deepEqual(harness.askedKinds, ['commit']);
  const again = harness.loseChannel();
  assert.deepEqual(
    again.map((one) => one?.sequence),
    [2, 1],
  );
  harness.process(event(2), event(1));
  assert.deepEqual(harness.store.applied(), [1, 2]);
});

test('a full buffer drops: here it ends the gap early, and everything held is dead-lettered with its reason', () => {
  const harness = new SequencerHarness({ maxHeldPerEntity: 4 });
  const arrived = [2, 3, 4, 5, 6, 7];
  for (const sequence of arrived) harness.process(event(sequence));
  assert.deepEqual(harness.sequences('buffer_overflow'), [2, 3, 4, 5]);
  assert.deepEqual(harness.sequences('entity_parked'), [6, 7]);
  assert.equal(harness.settled.length, arrived.length);
});

test('the gap clock looks at the lowest sequence instead of the longest wait: here newer, lower ones do not reset it', () => {
  const harness = new SequencerHarness({ gapTimeoutMs: 30_000 });
  for (const sequence of [9, 8, 7, 6, 5, 4, 3]) {
    harness.process(event(sequence));
    harness.pass(4_000);
    harness.answerAll();
  }
  assert.equal(harness.store.parkedFor(), null);
  harness.pass(2_000);
  harness.answerAll();
  assert.equal(harness.nowMs, 30_000);
  assert.deepEqual(harness.sequences('gap_timeout'), [3, 4, 5, 6, 7, 8, 9]);
});

test('check-process-mark is three steps, so a crash between them processes twice: here it is one commit', () => {
  const harness = new SequencerHarness();
  harness.process(event(1));
  harness.arrive(event(2));
  harness.loseReply(0, true);
  harness.loseChannel();
  harness.process(event(2));
  assert.deepEqual(harness.store.applied(), [1, 2]);
  assert.deepEqual(harness.sequences('duplicate'), [2]);
});

test('"last seen" never advances after a violation, so everything after it is one: here it advances', () => {
  const detector = new OrderingDetector();
  const observe = (sequence: number) =>
    detector.observe({ messageId: `m${sequence}`, entityType: 'order', entityId: 'e1', sequence, type: 'Changed', receivedAtMs: sequence });
  assert.deepEqual(
    [1, 3, 4, 5, 6].map((sequence) => observe(sequence).kind),
    ['in-order', 'violation', 'in-order', 'in-order', 'in-order'],
  );
  const harness = new SequencerHarness();
  harness.process(event(1), event(3), event(4), event(5));
  assert.deepEqual(
    harness.effects('violation').map(({ received }) => received),
    [3],
  );
});

test('an unknown strategy silently processes: here nothing starts with it', () => {
  const env = { AMQP_URL: 'amqp://localhost', REDIS_URL: 'redis://localhost', ORDERING_VIOLATION_STRATEGY: 'proces' };
  assert.throws(
    () => loadConfig(env),
    (error) => error instanceof ConfigError && /ORDERING_VIOLATION_STRATEGY/.test(error.message),
  );
  assert.throws(() => withOrdering(new OrderingDetector(), { strategy: 'proces' as MiddlewareStrategy, now: () => 0 }), ConfigError);
});

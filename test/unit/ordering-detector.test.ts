import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ConfigError, EventError } from '../../src/errors.ts';
import {
  type ObservedEvent,
  OrderingDetector,
  type OrderingDetectorOptions,
  type Violation,
  type MiddlewareStrategy,
  withOrdering,
} from '../../src/detection/detector.ts';

const observed = (sequence: number, fields: Partial<ObservedEvent> = {}): ObservedEvent => ({
  messageId: `m${sequence}`,
  entityType: 'order',
  entityId: 'e1',
  sequence,
  type: 'Changed',
  receivedAtMs: 1_000 + sequence,
  ...fields,
});

/** What a detector says of these sequences of one entity. */
function kinds(sequences: readonly number[], options?: OrderingDetectorOptions): readonly string[] {
  const detector = new OrderingDetector(options);
  return sequences.map((sequence) => detector.observe(observed(sequence)).kind);
}

describe('the ordering detector', () => {
  it('finds nothing in 1, 2, 3', () => {
    assert.deepEqual(kinds([1, 2, 3]), ['in-order', 'in-order', 'in-order']);
  });

  it('calls what comes again, or after what follows it, old', () => {
    assert.deepEqual(kinds([1, 1, 3, 2, 3]), ['in-order', 'old', 'violation', 'old', 'old']);
  });

  it('finds a violation in an event that comes before its predecessor, and says everything about it', () => {
    const detector = new OrderingDetector();
    detector.observe(observed(1));
    assert.deepEqual(detector.observe(observed(5)), {
      kind: 'violation',
      violation: { entityType: 'order', entityId: 'e1', expected: 2, received: 5, messageId: 'm5', type: 'Changed', gap: 3, atMs: 1_005 },
    });
  });

  it('finds one in a first event that is not number 1', () => {
    assert.deepEqual(kinds([2]), ['violation']);
  });

  it('expects what follows the early event from then on', () => {
    assert.deepEqual(kinds([1, 4, 5, 6, 9, 10]), ['in-order', 'violation', 'in-order', 'in-order', 'violation', 'in-order']);
  });

  it('tells entities apart by type and id', () => {
    const detector = new OrderingDetector();
    const refs = [
      { entityType: 'a', entityId: 'bc' },
      { entityType: 'ab', entityId: 'c' },
      { entityType: 'a', entityId: 'b' },
    ];
    for (const ref of refs) assert.equal(detector.observe(observed(1, ref)).kind, 'in-order');
  });

  it('counts violations, affected entities, the mean and the largest gap', () => {
    const detector = new OrderingDetector();
    assert.deepEqual(detector.statistics(), { total: 0, affectedEntities: 0, averageGap: 0, maxGap: 0, recent: [] });
    for (const sequence of [1, 3, 10]) detector.observe(observed(sequence));
    detector.observe(observed(2, { entityId: 'e2' }));
    const { total, affectedEntities, averageGap, maxGap } = detector.statistics();
    assert.deepEqual(
      { total, affectedEntities, averageGap, maxGap },
      { total: 3, affectedEntities: 2, averageGap: (1 + 6 + 1) / 3, maxGap: 6 },
    );
  });

  it('keeps the last ten violations, the latest last', () => {
    const detector = new OrderingDetector();
    for (let sequence = 2; sequence <= 30; sequence += 2) detector.observe(observed(sequence));
    assert.deepEqual(
      detector.statistics().recent.map(({ received }) => received),
      [12, 14, 16, 18, 20, 22, 24, 26, 28, 30],
    );
  });

  it('keeps as many as it is told to', () => {
    const detector = new OrderingDetector({ recent: 2 });
    for (const sequence of [2, 4, 6]) detector.observe(observed(sequence));
    assert.deepEqual(
      detector.statistics().recent.map(({ received }) => received),
      [4, 6],
    );
  });

  it('counts what was found elsewhere', () => {
    const detector = new OrderingDetector();
    const violation: Violation = {
      entityType: 'order',
      entityId: 'e9',
      expected: 3,
      received: 7,
      messageId: 'x',
      type: 'Changed',
      gap: 4,
      atMs: 5,
    };
    detector.record(violation);
    assert.deepEqual(detector.statistics(), { total: 1, affectedEntities: 1, averageGap: 4, maxGap: 4, recent: [violation] });
  });

  it('gives statistics that later violations do not change', () => {
    const detector = new OrderingDetector();
    const before = detector.statistics();
    detector.observe(observed(5));
    assert.equal(before.recent.length, 0);
  });

  it('remembers so many entities, forgets the one not seen for longest, and makes no violation of its return', () => {
    const detector = new OrderingDetector({ maxEntities: 2 });
    detector.observe(observed(1, { entityId: 'a' }));
    detector.observe(observed(1, { entityId: 'b' }));
    detector.observe(observed(2, { entityId: 'a' }));
    detector.observe(observed(1, { entityId: 'c' }));
    assert.equal(detector.observe(observed(4, { entityId: 'a' })).kind, 'violation', 'a was seen lately and is remembered');
    assert.equal(detector.observe(observed(7, { entityId: 'b' })).kind, 'in-order', 'b was forgotten');
    assert.equal(detector.observe(observed(9, { entityId: 'b' })).kind, 'violation', 'and is known again');
  });

  it('keeps count of affected entities only up to its bound', () => {
    const detector = new OrderingDetector({ maxEntities: 3 });
    for (const entityId of ['a', 'b', 'c', 'd', 'e']) detector.observe(observed(2, { entityId }));
    assert.equal(detector.statistics().affectedEntities, 3);
  });
});

describe('the ordering middleware', () => {
  function wrapped(strategy: MiddlewareStrategy) {
    const violations: Violation[] = [];
    const handled: number[] = [];
    const detector = new OrderingDetector();
    const handle = withOrdering(detector, { strategy, onViolation: (violation) => violations.push(violation), now: () => 77 })(
      (event: Omit<ObservedEvent, 'receivedAtMs'>, factor: number) => {
        handled.push(event.sequence);
        return event.sequence * factor;
      },
    );
    const give = (sequence: number) => {
      const { receivedAtMs: _, ...event } = observed(sequence);
      return handle(event, 10);
    };
    return { give, violations, handled, detector };
  }

  for (const strategy of ['skip', 'fail', 'log_and_process'] as const) {
    it(`gives the handler what is in order or old, with strategy ${strategy}`, async () => {
      const { give, handled, violations } = wrapped(strategy);
      assert.deepEqual([await give(1), await give(2), await give(1)], [10, 20, 10]);
      assert.deepEqual(handled, [1, 2, 1]);
      assert.deepEqual(violations, []);
    });
  }

  it('does not give the handler an early event with strategy skip', async () => {
    const { give, handled, violations } = wrapped('skip');
    assert.equal(await give(3), undefined);
    assert.deepEqual(handled, []);
    assert.deepEqual(
      violations.map(({ received, atMs }) => [received, atMs]),
      [[3, 77]],
    );
  });

  it('rejects an early event as out_of_order with strategy fail', async () => {
    const { give, handled, violations } = wrapped('fail');
    await assert.rejects(
      give(3),
      (error) => error instanceof EventError && error.reason === 'out_of_order' && /expected sequence 1, received 3/.test(error.message),
    );
    assert.deepEqual(handled, []);
    assert.equal(violations.length, 1);
  });

  it('tells of an early event and processes it with strategy log_and_process', async () => {
    const { give, handled, violations, detector } = wrapped('log_and_process');
    assert.equal(await give(3), 30);
    assert.deepEqual(handled, [3]);
    assert.equal(violations.length, 1);
    assert.equal(detector.statistics().total, 1);
  });

  it('passes on what the handler throws', async () => {
    const handle = withOrdering(new OrderingDetector(), { strategy: 'skip', now: () => 0 })(() => {
      throw new RangeError('mine');
    });
    await assert.rejects(handle(observed(1)), RangeError);
  });

  it('expects sequence 0 first where it is told so', () => {
    const detector = new OrderingDetector({ firstSequence: 0 });
    assert.deepEqual(
      [0, 1, 0].map((sequence) => detector.observe(observed(sequence)).kind),
      ['in-order', 'in-order', 'old'],
    );
    const seen = new OrderingDetector({ firstSequence: 0 }).observe(observed(1));
    assert.equal(seen.kind === 'violation' && seen.violation.expected, 0);
  });

  it('refuses a strategy that there is not, at once', () => {
    for (const strategy of ['buffer', 'ignore', '', 'SKIP']) {
      assert.throws(() => withOrdering(new OrderingDetector(), { strategy: strategy as MiddlewareStrategy, now: () => 0 }), ConfigError);
    }
  });
});

/**
 * The operations of one shard at a store that fails in every way it can: what is reported, what goes out, in which order.
 */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { defineAggregate, defineHandler } from '../../src/aggregates/define.ts';
import type { Processor } from '../../src/aggregates/definition.ts';
import { historyAggregate } from '../../src/aggregates/built-in.ts';
import { createProcessors } from '../../src/aggregates/processors.ts';
import { UnavailableError } from '../../src/errors.ts';
import type { Event } from '../../src/events/event.ts';
import type { Fact, OperationEffect, Rejection } from '../../src/ordering/facts.ts';
import { createMemoryStore } from '../../src/stores/memory/memory-store.ts';
import type { Store } from '../../src/stores/store.ts';
import { systemTime } from '../../src/time.ts';
import { StateMemory } from '../../src/worker/memory.ts';
import { StoreBatches } from '../../src/worker/store-batch.ts';
import { eventOf } from '../support/event-of.ts';
import { ManualTime } from '../support/manual-time.ts';
import { waitFor } from '../support/services.ts';
import { rawMessage } from '../support/raw-message.ts';

const message = rawMessage({ body: Buffer.from('{}'), routingKey: 'a' });

const away = async () => {
  throw new UnavailableError('the store is away');
};

function setUp(
  t: TestContext,
  { store = {}, handlers = [] }: { readonly store?: Partial<Store>; readonly handlers?: readonly Processor[] } = {},
) {
  const life = new AbortController();
  t.after(() => life.abort());
  const facts: Fact[] = [];
  const rejected: number[] = [];
  const remembered: [number, string][] = [];
  const failures: unknown[] = [];
  const stillParked: [string, number][] = [];
  const counted = { parked: 0 };
  const memory = createMemoryStore({ stream: 's', idempotencyTtlSeconds: 60, time: new ManualTime(1_000) });
  const batches = new StoreBatches({
    store: new Proxy(memory, { get: (target, name) => Reflect.get(store, name) ?? Reflect.get(target, name).bind(target) }),
    shard: 0,
    epoch: 1,
    session: 'one',
    states: new StateMemory(1_000_000).newCache(),
    maxStateWorkBytes: 10_000_000,
    processing: {
      processors: createProcessors(handlers.length > 0 ? handlers : [historyAggregate()]),
      maxStateBytes: 10_000,
      handlerRun: {
        limits: { maxAttempts: 1, initialMs: 1, maxMs: 1, timeoutMs: 60_000 },
        life: life.signal,
        time: systemTime,
        inWork: new Set(),
        onAttempt: () => undefined,
      },
      eventLog: false,
      report: { retried: () => {}, within: (_tag, work) => work() },
      trials: null,
      isolation: null,
      messages: new Map(),
    },
    time: { ...systemTime, random: () => 1 },
    messages: new Map(Array.from({ length: 100 }, (_, tag) => [tag, message])),
    done: (result) => {
      facts.push(...result.facts);
      counted.parked += result.parked;
      rejected.push(...result.rejections.map(({ tag }) => tag));
      for (const one of result.results) remembered.push([one.tag, one.result]);
      for (const { entity, version } of result.stillParked) stillParked.push([entity.entityId, version]);
    },
    fail: (error) => void failures.push(error),
  });
  t.after(() => {
    batches.end();
    assert.deepEqual(failures, []);
  });
  const ask = (...operations: readonly OperationEffect[]): void => {
    for (const operation of operations) batches.enqueue(operation);
    batches.run();
  };
  const reported = (count: number) => waitFor(() => facts.length >= count && facts, { what: `${count} facts` });
  return { ask, batches, counted, facts, reported, rejected, remembered, stillParked, memory };
}

function rejectOf(op: number, tag: number): OperationEffect {
  const rejection: Rejection = { tag, reason: 'entity_parked', detail: 'parked', event: eventOf({ sequence: tag }), refusal: null };
  return { kind: 'reject', op, rejections: [rejection] };
}

function loadOf(op: number): OperationEffect {
  return { kind: 'load', op, entity: { entityType: 'thing', entityId: 'a' } };
}

function commitOf(
  op: number,
  fields: Partial<Event> & { readonly entityId: string; readonly sequence: number },
  tag = op,
): OperationEffect {
  const event = eventOf({ id: `${fields.entityId}-${fields.sequence}`, ...fields });
  const { entityType, entityId } = event;
  const sequence = fields.sequence;
  const slot = { delivery: { tag, event }, sequence, action: 'apply', versionAfter: sequence, holesAfter: '' } as const;
  return {
    kind: 'commit',
    op,
    entity: { entityType, entityId },
    expectedVersion: sequence - 1,
    expectedHoles: '',
    slots: [slot],
    adopts: false,
  };
}

describe('a store that is away', () => {
  it('is asked nothing of what gathered meanwhile, so that no rejection overtakes an earlier one', async (t) => {
    let calls = 0;
    const { ask, reported, rejected } = setUp(t, { store: { recordDeadLetters: async () => (++calls === 1 ? away() : undefined) } });
    ask(rejectOf(1, 5));
    ask(rejectOf(2, 6));
    assert.deepEqual(await reported(1), [{ kind: 'storeUnavailable', ops: [1, 2], retryInMs: 100 }]);
    ask(rejectOf(1, 5), rejectOf(2, 6));
    await reported(3);
    assert.deepEqual(rejected, [5, 6]);
  });

  it('is asked again after longer and longer pauses, and after the first when it has answered', async (t) => {
    let isAway = true;
    const { ask, reported, facts } = setUp(t, { store: { recordDeadLetters: async () => (isAway ? away() : undefined) } });
    for (const [index, retryInMs] of [100, 200, 400].entries()) {
      ask(rejectOf(1, 5));
      assert.deepEqual((await reported(index + 1)).at(-1), { kind: 'storeUnavailable', ops: [1], retryInMs });
    }
    isAway = false;
    ask(rejectOf(1, 5));
    await reported(4);
    isAway = true;
    ask(rejectOf(2, 6));
    await reported(5);
    assert.deepEqual(facts.at(-1), { kind: 'storeUnavailable', ops: [2], retryInMs: 100 });
  });
});

describe('a commit of a parked entity', () => {
  it('says so with the version that was reached, unless it ends the parking', async (t) => {
    const { ask, reported, stillParked, memory } = setUp(t);
    const entity = { entityType: 'thing', entityId: 'a' };
    await memory.park([
      { ...entity, shard: 0, epoch: 1, session: 'one', expectedVersion: 0, reason: 'gap_timeout', detail: '', sequence: 3 },
    ]);
    for (const [index, sequence] of [1, 2, 3, 4].entries()) {
      ask(commitOf(sequence, { entityId: 'a', sequence }));
      await reported(index + 1);
    }
    assert.deepEqual(stillParked, [
      ['a', 1],
      ['a', 2],
    ]);
  });
});

describe('an operation', () => {
  it('is carried out also when it is begun at the very moment at which the last batch ends', async (t) => {
    for (let moments = 0; moments < 50; moments++) {
      const later = async () => {
        for (let moment = 0; moment < moments; moment++) await null;
        ask(loadOf(2));
      };
      let calls = 0;
      const load: Store['load'] = async (entities) => {
        if (++calls === 1) void later();
        return entities.map(() => ({ status: 'ok', snapshot: { exists: false, version: 0, state: null, holes: '', parked: null } }));
      };
      const { ask, reported } = setUp(t, { store: { load } });
      ask(loadOf(1));
      await reported(2);
    }
  });
});

describe('an entity whose keys are unusable', () => {
  it('is asked for again after longer and longer pauses, whatever its neighbours do', async (t) => {
    const load: Store['load'] = async (entities) =>
      entities.map(({ entityId }) =>
        entityId === 'bad'
          ? { status: 'failed', error: new Error('wrong type') }
          : { status: 'ok', snapshot: { exists: false, version: 0, state: null, holes: '', parked: null } },
      );
    const { ask, reported } = setUp(t, { store: { load } });
    for (const [index, retryInMs] of [100, 200, 400, 800].entries()) {
      ask(
        { kind: 'load', op: 1, entity: { entityType: 'thing', entityId: 'bad' } },
        { kind: 'load', op: 10 + index, entity: { entityType: 'thing', entityId: 'good' } },
      );
      assert.deepEqual((await reported(2 * index + 2))[2 * index], { kind: 'entityUnavailable', op: 1, retryInMs });
    }
  });
});

describe('a batch', () => {
  it('lets rejections leave as soon as they are on record, and not with the rest of it', async (t) => {
    const { promise, resolve } = withResolvers();
    const { ask, rejected, facts } = setUp(t, { store: { load: () => promise as Promise<never> } });
    ask(rejectOf(1, 5), loadOf(2));
    await waitFor(() => rejected.length === 1, { what: 'the rejection' });
    assert.deepEqual(facts, []);
    resolve([{ status: 'ok', snapshot: { exists: false, version: 0, state: null, holes: '', parked: null } }]);
    await waitFor(() => facts.length === 2, { what: 'the rest' });
    assert.deepEqual(rejected, [5]);
  });

  it('says that it has parked an entity, also when the channel is lost before all of it is answered', async (t) => {
    const { promise, resolve } = withResolvers();
    const { ask, batches, counted, memory } = setUp(t, { store: { load: () => promise as Promise<never> } });
    ask(
      {
        kind: 'park',
        op: 1,
        entity: { entityType: 'thing', entityId: 'a' },
        expectedVersion: 0,
        sequence: 2,
        reason: 'gap_timeout',
        detail: '',
      },
      loadOf(2),
    );
    await waitFor(
      async () =>
        (await memory.load([{ entityType: 'thing', entityId: 'a' }])).some((one) => one.status === 'ok' && one.snapshot.parked !== null),
      { what: 'the parking at the store' },
    );
    batches.end();
    resolve([{ status: 'ok', snapshot: { exists: false, version: 0, state: null, holes: '', parked: null } }]);
    await waitFor(() => counted.parked === 1, { what: 'the parking' });
  });
});

describe('an aggregate whose state cannot be read', () => {
  it('tells why without data of any event of its run', async (t) => {
    const snapshot = { exists: true, version: 0, state: '{"card":"4111-1111"}', holes: '', parked: null };
    const unreadable = defineAggregate({
      type: 'thing',
      initialState: {},
      evolve: { Happened: (state) => state },
      deserialize: (text) => {
        throw new Error(`unknown: ${text}`);
      },
    });
    const { ask, reported } = setUp(t, { handlers: [unreadable], store: { load: async () => [{ status: 'ok', snapshot }] } });
    const [first, second] = [
      commitOf(1, { entityId: 'a', sequence: 1 }),
      commitOf(1, { entityId: 'a', sequence: 2, data: { card: '4111-1111' } }),
    ];
    assert.ok(first.kind === 'commit' && second.kind === 'commit');
    ask({ ...first, slots: [...first.slots, ...second.slots] });
    const [fact] = await reported(1);
    assert.ok(fact?.kind === 'committed');
    assert.equal(fact.failure?.detail, 'the processor failed: Error: unknown: [data]');
    assert.doesNotMatch(fact.failure.stack ?? '', /4111/);
  });
});

describe('a handler', () => {
  it('is said to be running, for the store is not asked meanwhile', async (t) => {
    const { promise, resolve } = withResolvers();
    const { ask, reported } = setUp(t, { handlers: [defineHandler({ type: 'thing', handle: () => promise })] });
    ask(commitOf(1, { entityId: 'a', sequence: 1 }));
    assert.deepEqual(await reported(1), [{ kind: 'processing', op: 1 }]);
    resolve(null);
    assert.deepEqual((await reported(2))[1], { kind: 'committed', op: 1, done: 1, parked: null, failure: null });
  });
});

describe('an event whose id is known under another sequence', () => {
  const idOf = { id: 'the same' };

  it('is given to no handler: its sender gets what was remembered', async (t) => {
    const handled: unknown[] = [];
    const handle = ({ sequence }: Event) => {
      handled.push(sequence);
      return { answer: 42 };
    };
    const { ask, reported, remembered } = setUp(t, { handlers: [defineHandler({ type: 'thing', handle })] });
    ask(commitOf(1, { entityId: 'a', sequence: 1, ...idOf }));
    await reported(2);
    ask(commitOf(2, { entityId: 'a', sequence: 2, ...idOf }));
    const conflicts = [{ index: 0, recordedSequence: 1, samePayload: true }];
    assert.deepEqual((await reported(3))[2], { kind: 'idConflict', op: 2, conflicts });
    assert.deepEqual(handled, [1]);
    assert.deepEqual(remembered, [
      [1, '{"answer":42}'],
      [2, '{"answer":42}'],
    ]);
  });

  it('is given to no handler when its payload is another', async (t) => {
    const handled: unknown[] = [];
    const { ask, reported, remembered } = setUp(t, {
      handlers: [defineHandler({ type: 'thing', handle: ({ sequence }) => handled.push(sequence) })],
    });
    ask(commitOf(1, { entityId: 'a', sequence: 1, ...idOf }));
    await reported(2);
    ask(commitOf(2, { entityId: 'a', sequence: 2, ...idOf, payloadHash: 'another' }));
    assert.deepEqual((await reported(3))[2], {
      kind: 'idConflict',
      op: 2,
      conflicts: [{ index: 0, recordedSequence: 1, samePayload: false }],
    });
    assert.deepEqual(handled, [1]);
    assert.deepEqual(remembered, [[1, '1']]);
  });

  it('is handled on another entity, and where only a failed commit has left the id under its own sequence', async (t) => {
    const lookUp: Store['lookUp'] = async (queries) =>
      queries.map(() => ({ status: 'known', sequence: 1, payloadHash: 'hash-of-16-chars', result: null }));
    const handled: unknown[] = [];
    const { ask, reported } = setUp(t, {
      store: { lookUp },
      handlers: [defineHandler({ type: 'thing', handle: ({ entityId }) => handled.push(entityId) })],
    });
    ask(commitOf(1, { entityId: 'a', sequence: 1, ...idOf }), commitOf(2, { entityId: 'b', sequence: 1, ...idOf }));
    await reported(4);
    assert.deepEqual(handled, ['a', 'b']);
  });

  it('waits while nobody can say what is known, and its handler with it', async (t) => {
    let calls = 0;
    const handled: unknown[] = [];
    const lookUp: Store['lookUp'] = async (queries) => {
      calls++;
      if (calls === 1) return away();
      return queries.map(() => (calls === 2 ? { status: 'failed', error: new Error('wrong type') } : { status: 'unknown' }));
    };
    const { ask, facts, reported } = setUp(t, {
      store: { lookUp },
      handlers: [defineHandler({ type: 'thing', handle: () => handled.push(calls) })],
    });
    for (const count of [1, 2, 4]) {
      ask(commitOf(1, { entityId: 'a', sequence: 1 }));
      await reported(count);
    }
    assert.deepEqual(
      facts.map(({ kind }) => kind),
      ['storeUnavailable', 'entityUnavailable', 'processing', 'committed'],
    );
    assert.deepEqual(handled, [3]);
  });
});

function withResolvers() {
  let resolve: (value: unknown) => void = () => {};
  const promise = new Promise((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

/** One shard on a channel that the test plays: what it settles, logs and gives up. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { Tracer } from '@opentelemetry/api';
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { defineHandler } from '../../src/aggregates/define.ts';
import type { Processor } from '../../src/aggregates/definition.ts';
import { historyAggregate } from '../../src/aggregates/built-in.ts';
import { createProcessors } from '../../src/aggregates/processors.ts';
import type { Event, RawMessage } from '../../src/events/event.ts';
import { createMetrics } from '../../src/observability/metrics.ts';
import { OrderingDetector } from '../../src/detection/detector.ts';
import { defaultSequencerLimits } from '../../src/ordering/facts.ts';
import type { OpenShardChannel, ShardChannelEvents } from '../../src/rabbitmq/shard-channel.ts';
import { createMemoryStore } from '../../src/stores/memory/memory-store.ts';
import type { EpochResult, Store } from '../../src/stores/store.ts';
import { systemTime } from '../../src/time.ts';
import { shareOut } from '../../src/worker/memory.ts';
import { Shard } from '../../src/worker/shard.ts';
import { TrialBench } from '../../src/worker/trials.ts';
import { eventOf } from '../support/event-of.ts';
import { heapBytes } from '../support/heap.ts';
import { ManualTime } from '../support/manual-time.ts';
import { KeptLog } from '../support/rabbitmq.ts';
import { waitFor } from '../support/services.ts';
import { rawMessage } from '../support/raw-message.ts';

interface SetUp {
  readonly processors?: readonly Processor[];
  readonly store?: Partial<Store>;
  readonly tracer?: Tracer;
  readonly random?: () => number;
  readonly budgetBytes?: number;
  readonly redelivered?: boolean;
  readonly bench?: TrialBench;
}

function setUp(
  t: TestContext,
  {
    processors = [historyAggregate()],
    store = {},
    tracer,
    random = () => 0,
    budgetBytes = 64 * 1_048_576,
    redelivered = false,
    bench = new TrialBench(),
  }: SetUp = {},
) {
  const memory = createMemoryStore({ stream: 's', idempotencyTtlSeconds: 60, time: new ManualTime(1_000) });
  const metrics = createMetrics('test');
  const log = new KeptLog();
  const said: string[] = [];
  let channel: OpenShardChannel = {
    generation: 1,
    ack: (acked, multiple) => void said.push(`ack ${acked}${multiple ? ' and before' : ''}`),
    reject: (rejected) => void said.push(`reject ${rejected}`),
    giveBack: (given) => void said.push(`give back ${given}`),
    abandon: (cause) => {
      said.push('abandon 1');
      told[0]?.lost(channel, cause);
    },
    roundTrip: async () => true,
    isAlive: async () => true,
  };
  const told: ShardChannelEvents[] = [];
  let tag = 0;
  const messages: WeakRef<RawMessage>[] = [];
  const delivered = (message: RawMessage) => {
    messages.push(new WeakRef(message));
    return { tag: ++tag, redelivered, message };
  };
  const worker = new Shard({
    shard: 0,
    tracer: tracer ?? null,
    eventLog: false,
    queue: 's.shard.000',
    limits: defaultSequencerLimits,
    // The test's messages name the entity by their routing key and the sequence by their id; the body may say otherwise.
    decode: ({ routingKey, messageId, body }) => {
      const named = { id: `${routingKey}-${messageId}`, entityId: routingKey, sequence: Number(messageId) };
      return { ok: true, event: eventOf({ ...named, ...JSON.parse(Buffer.from(body).toString()) }) };
    },
    time: { ...systemTime, random },
    store: new Proxy(memory, { get: (target, name) => Reflect.get(store, name) ?? Reflect.get(target, name).bind(target) }),
    processors: createProcessors(processors),
    maxStateBytes: 1_000,
    memory: shareOut(budgetBytes, 1),
    bench,
    record: { noteSession: (...note) => (store.noteSession ?? memory.noteSession.bind(memory))(...note) },
    isolation: null,
    inWork: new Set(),
    autoReplay: null,
    retry: { maxAttempts: 3, initialMs: 1, maxMs: 1, timeoutMs: 60_000 },
    detector: new OrderingDetector(),
    metrics,
    shardMetrics: metrics.shard(0),
    log,
    reply: () => {},
    openChannel: (events) => {
      told.push(events);
      return {
        start: () => {},
        stop: async () => {},
      };
    },
    nextEpoch: () => (store.nextEpoch ?? memory.nextEpoch.bind(memory))(0),
    onHalt: async (_cause, error) => void said.push(`halt: ${error.message}`),
  });
  t.after(() => worker.stop(0));
  /** Delivers events of these entities, all in one turn. */
  const deliver = (...of: readonly (readonly [entityId: string, sequence: number])[]) =>
    told[0]?.delivered(
      channel,
      of.map(([entityId, sequence]) => delivered(messageOf(entityId, sequence))),
    );
  const deliverEvents = (...events: readonly Partial<Event>[]) =>
    told[0]?.delivered(
      channel,
      events.map((event) => delivered({ ...messageOf('', 0), body: Buffer.from(JSON.stringify(event)) })),
    );
  const untilSaid = (what: string) => waitFor(() => said.includes(what), { what: `"${what}" among ${said.join(', ')}` });
  told[0]?.opened(channel);
  const lose = () => told[0]?.lost(channel, new Error('gone'));
  const reopen = () => {
    tag = 0;
    channel = { ...channel, generation: 2 };
    told[0]?.opened(channel);
  };
  /** Messages that something still refers to. */
  const keptMessages = () => messages.filter((message) => message.deref() !== undefined).length;
  return { worker, log, metrics, said, deliver, deliverEvents, untilSaid, lose, reopen, keptMessages };
}

function messageOf(entityId: string, sequence: number): RawMessage {
  return rawMessage({ body: Buffer.from('{}'), routingKey: entityId, messageId: String(sequence) });
}

const ofNothing = { exists: true, state: null, holes: '', parked: null };

describe('an owner that was overtaken', () => {
  it('acknowledges what it had committed before it gives the channel up', async (t) => {
    const { deliver, untilSaid, said } = setUp(t, { store: { claim: async (claims) => claims.map(() => ({ status: 'fenced' })) } });
    deliver(['a', 1], ['b', 2]);
    await untilSaid('abandon 1');
    assert.deepEqual(said, ['ack 1', 'abandon 1']);
  });

  for (const [what, store] of [
    ['claim', { claim: async (claims) => claims.map(() => ({ status: 'fenced' })) }],
    ['commit', { commit: async (commits) => commits.map(() => ({ status: 'stale', snapshot: { ...ofNothing, version: 1 } })) }],
  ] satisfies [string, Partial<Store>][]) {
    it(`counts a ${what} that came too late`, async (t) => {
      const { deliver, metrics } = setUp(t, { store });
      deliver(['a', what === 'claim' ? 2 : 1]);
      const counted = async () => (await metrics.render()).includes('inorder_fenced_total{service="test",shard="0"} 1');
      await waitFor(counted, { what: `the ${what} counted` });
    });
  }
});

describe('a shard that waits for what it has given back for want of memory', () => {
  it('does not count as given nothing', async (t) => {
    const { worker, deliver, untilSaid } = setUp(t, { budgetBytes: 3_000 });
    deliver(['a', 1]);
    await untilSaid('ack 1');
    assert.equal(worker.settledDeliveries(), 1);
    deliver(['a', 2], ['a', 3]);
    await untilSaid('give back 3');
    await untilSaid('ack 2');
    assert.equal(worker.settledDeliveries(), null);
  });
});

describe('a session after one that took no leave', () => {
  it('tries what comes again alone, and rejects what was being tried when processes died; an orderly one leaves nothing behind', async (t) => {
    let note = '';
    const runs: string[] = [];
    const left: (string | null)[] = [];
    const begin = (redelivered: boolean) =>
      setUp(t, {
        redelivered,
        processors: [
          defineHandler({
            type: 'thing',
            handle({ entityId }) {
              runs.push(entityId);
              return entityId === 'poison' ? new Promise(() => {}) : undefined;
            },
          }),
        ],
        store: {
          nextEpoch: async () => ({ status: 'ok', epoch: 1, identity: null, unfinished: note }),
          noteSession: async (_shard, _epoch, text) => void left.push(text),
        },
      });
    // On a slow machine the good one is company of the other for some deaths.
    for (let session = begin(true); ; session = begin(true)) {
      const { worker, deliver, untilSaid, said, log } = session;
      runs.length = left.length = 0;
      deliver(['good', 1], ['poison', 1]);
      await waitFor(() => runs.includes('poison') || said.includes('reject 2'), { what: `a run or a verdict, after ${said.join()}` });
      await untilSaid('ack 1');
      if (!said.includes('reject 2')) {
        const isOnRecord = (text: string | null) => text !== null && (JSON.parse(text).alone ?? JSON.parse(text).together[0]) !== undefined;
        note = left.filter(isOnRecord).at(-1) ?? note;
        continue;
      }
      assert.deepEqual(runs, ['good']);
      const letter = log.lines.find(({ message }) => message === 'dead-lettered');
      assert.deepEqual([letter?.fields['reason'], letter?.fields['entity_id']], ['process_killed', 'poison']);
      await worker.stop(1_000);
      break;
    }
    assert.equal(left.at(-1), null, 'it takes its leave');
    const copy = begin(false);
    copy.deliver(['poison', 1]);
    await waitFor(() => runs.includes('poison'), { what: 'a copy being processed' });
  });
});

describe('a session that suspects nobody', () => {
  for (const processor of [defineHandler({ type: 'thing', handle: () => {} }), historyAggregate()]) {
    it(`processes nothing while another shard of the process tries an event alone (${'handle' in processor ? 'handler' : 'aggregate'})`, async (t) => {
      const bench = new TrialBench();
      const { deliver, untilSaid, said } = setUp(t, { bench, processors: [processor] });
      deliver(['known', 1]);
      await untilSaid('ack 1');
      let end = () => {};
      const begun = new Promise<void>((begin) => {
        const run = () => {
          begin();
          return new Promise<void>((resolve) => (end = resolve));
        };
        bench.take({ time: systemTime, life: new AbortController().signal, patienceMs: 0, run });
      });
      await begun;
      deliver(['fresh', 1]);
      for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
      assert.deepEqual(said, ['ack 1']);
      end();
      await untilSaid('ack 2');
    });
  }
});

describe('a session that ends before it has its epoch', () => {
  for (const unfinished of [null, '']) {
    it(`${unfinished === null ? 'takes its leave' : 'leaves what the one before left'} once the store answers`, async (t) => {
      let answer: ((result: EpochResult) => void) | undefined;
      const notes: unknown[] = [];
      const { deliver, lose, worker } = setUp(t, {
        store: {
          nextEpoch: () => new Promise((resolve) => (answer = resolve)),
          noteSession: async (...note) => void notes.push(note),
        },
      });
      deliver(['a', 1]);
      await waitFor(() => answer !== undefined, { what: 'the question' });
      lose();
      answer!({ status: 'ok', epoch: 3, identity: null, unfinished });
      await new Promise(setImmediate);
      assert.deepEqual(notes, unfinished === null ? [[0, 3, null]] : []);
      await worker.stop(0);
    });
  }
});

describe('what was fetched for a gap', () => {
  it('is taken on the channel of the gap, and left when the shard has another one by now', async (t) => {
    const { worker, deliver, lose, reopen } = setUp(t);
    const openGap = async () => {
      deliver(['a', 2]);
      await waitFor(() => worker.gapsOlderThan(0).length === 1, { what: 'a gap' });
      return worker.gapsOlderThan(0)[0]!;
    };
    const before = await openGap();
    assert.equal(worker.deliverMissing(before.channel, []), true);
    lose();
    reopen();
    const after = await openGap();
    assert.equal(worker.deliverMissing(before.channel, []), false);
    assert.equal(worker.deliverMissing(after.channel, []), true);
  });
});

describe('two sessions that were given the same epoch', () => {
  it('commit, claim and park under names of their own', async (t) => {
    const seen: { readonly tokens: string[]; readonly sessions: string[] } = { tokens: [], sessions: [] };
    for (const chance of [0.25, 0.75]) {
      const memory = createMemoryStore({ stream: 's', idempotencyTtlSeconds: 60, time: new ManualTime(1_000) });
      const { deliver, untilSaid, said } = setUp(t, {
        random: () => chance,
        store: {
          nextEpoch: async () => ({ status: 'ok', epoch: 7, identity: null, unfinished: null }),
          commit: (commits) => {
            seen.tokens.push(...commits.map(({ token }) => token));
            return memory.commit(commits);
          },
          claim: (claims) => {
            seen.sessions.push(...claims.map(({ session }) => session));
            return memory.claim(claims);
          },
        },
      });
      deliver(['a', 1], ['b', 2]);
      await untilSaid('ack 1');
      await waitFor(() => seen.sessions.length === seen.tokens.length, { what: `a claim, after ${said.join()}` });
    }
    assert.equal(new Set(seen.tokens).size, 2, seen.tokens.join());
    assert.equal(new Set(seen.sessions).size, 2, seen.sessions.join());
  });
});

describe('handlers', () => {
  it('may run by the dozen without a warning about a leak', async (t) => {
    const warnings: string[] = [];
    const warned = ({ name }: Error) => void warnings.push(name);
    process.on('warning', warned);
    t.after(() => process.off('warning', warned));
    let running = 0;
    const handler = defineHandler({ type: 'thing', handle: () => new Promise(() => void running++) });
    const { deliver } = setUp(t, { processors: [handler] });
    deliver(...Array.from({ length: 12 }, (_, index) => [`e-${index}`, 1] as const));
    await waitFor(() => running === 12, { what: 'twelve handlers' });
    await new Promise(setImmediate);
    assert.deepEqual(warnings, []);
  });

  it('that never end keep no messages of a channel that was lost', async (t) => {
    const ends: (() => void)[] = [];
    const handler = defineHandler({ type: 'thing', handle: () => new Promise<void>((resolve) => void ends.push(resolve)) });
    const { deliver, lose, keptMessages } = setUp(t, { processors: [handler] });
    deliver(...Array.from({ length: 20 }, (_, index) => ['a', index + 1] as const));
    await waitFor(() => ends.length === 1, { what: 'the handler' });
    heapBytes();
    assert.equal(keptMessages(), 20, 'they are needed while the channel lives');
    lose();
    await waitFor(() => heapBytes() > 0 && keptMessages() === 0, { what: 'the messages being let go' });
    assert.equal(ends.length, 1, 'the handler runs all the while');
  });

  it('are tried again when they throw what cannot be printed', async (t) => {
    let attempts = 0;
    const handle = () => {
      if (++attempts === 1) throw Object.create(null);
    };
    const { deliver, untilSaid, log } = setUp(t, { processors: [defineHandler({ type: 'thing', handle })] });
    deliver(['a', 1]);
    await untilSaid('ack 1');
    assert.equal(attempts, 2);
    const retry = log.lines.find(({ message }) => message === 'the processor failed; trying again');
    assert.equal(retry?.fields['cause'], 'something that cannot be printed');
  });
});

describe('spans', () => {
  it('end with the channel: what was not settled has gone back to the broker', async (t) => {
    const exporter = new InMemorySpanExporter();
    const tracer = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }).getTracer('test');
    const { deliver, untilSaid, lose } = setUp(t, { tracer });
    deliver(['a', 1], ['a', 3]);
    await untilSaid('ack 1');
    assert.deepEqual(exporter.getFinishedSpans().length, 1);
    lose();
    const outcomes = exporter.getFinishedSpans().map(({ attributes }) => [attributes['inorder.sequence'], attributes['inorder.outcome']]);
    assert.deepEqual(outcomes, [
      [1, 'applied'],
      [3, 'returned'],
    ]);
  });
});

describe('an id that comes again under another sequence with the same content', () => {
  it('is counted each time and warned of once per entity, and what really was applied is named when its sequence comes with something else', async (t) => {
    const { deliverEvents, untilSaid, log, metrics } = setUp(t);
    const again = (entityId: string, sequence: number, fields = {}) => ({ id: `first of ${entityId}`, entityId, sequence, ...fields });
    deliverEvents(again('a', 1), again('a', 2), again('a', 3), again('b', 1), again('b', 2));
    await waitFor(async () => (await metrics.render()).includes('inorder_repeated_ids_total{service="test",shard="0"} 3'), {
      what: 'three repetitions counted',
    });
    const warnings = log.lines.filter(({ message }) => message.startsWith('an id came again'));
    assert.deepEqual(
      warnings.map(({ fields }) => [fields['entity_id'], fields['sequence'], fields['applied_as']]),
      [
        ['a', 2, 1],
        ['b', 2, 1],
      ],
    );
    deliverEvents({ id: 'other', entityId: 'a', sequence: 2, payloadHash: 'of other content' });
    await untilSaid('reject 6');
    const letters = log.lines.filter(({ message }) => message === 'dead-lettered').map(({ fields }) => fields['detail']);
    assert.deepEqual(letters, [
      'sequence 2 was taken by a repetition of id "first of a", which was applied under sequence 1: nothing was applied here',
    ]);
  });
});

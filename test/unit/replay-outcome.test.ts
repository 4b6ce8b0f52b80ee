import assert from 'node:assert/strict';
import test from 'node:test';
import { awaitOutcomes, isDone } from '../../src/dead-letters/replay.ts';
import { type LetterSummary, type ReplayPlan, statusOf } from '../../src/dead-letters/replay-plan.ts';
import { splitReplayable } from '../../src/dead-letters/inspect.ts';
import { UnavailableError } from '../../src/errors.ts';
import { defaultEventLimits } from '../../src/events/event.ts';
import { createMemoryStore } from '../../src/stores/memory/memory-store.ts';
import type { ViolationStrategy } from '../../src/ordering/facts.ts';
import type { DeadLetterRecord } from '../../src/ordering/entity.ts';
import type { Store } from '../../src/stores/store.ts';
import { systemTime } from '../../src/time.ts';

const entity = { entityType: 'order', entityId: 'o-1' };
const letter = (sequence: number, payloadHash = `p${sequence}`): LetterSummary => ({
  messageId: `m${sequence}`,
  fingerprint: `f${sequence}`,
  ...entity,
  sequence,
  reason: 'gap_timeout',
  copy: { fingerprint: `f${sequence}`, payloadHash, refused: null },
});
const recordOf = ({ fingerprint, sequence }: LetterSummary, over: Partial<DeadLetterRecord> = {}): DeadLetterRecord => ({
  fingerprint,
  id: null,
  ...entity,
  sequence,
  type: 'T',
  reason: 'sequence_conflict',
  detail: 'another payload',
  shard: 0,
  deadLetteredAt: 'later',
  ...over,
});
/** The queue is not reached: what is asked of it fails. */
const nobody = {
  connection: { createChannel: () => Promise.reject(new UnavailableError('there is no broker')) },
  stream: 's',
  decoding: { limits: defaultEventLimits, defaultEntityType: 'order', unsequenced: 'reject' as const },
  time: systemTime,
};

async function storeAt(version: number): Promise<Store> {
  const store = createMemoryStore({ stream: 's', idempotencyTtlSeconds: 3_600 });
  const events = Array.from({ length: version }, (_, index) => ({
    id: `i${index + 1}`,
    recordId: true,
    sequence: index + 1,
    payloadHash: `p${index + 1}`,
    result: null,
    consumed: false,
  }));
  await store.commit([
    { ...entity, token: 't', expectedVersion: 0, expectedHoles: '', newVersion: version, newHoles: '', state: null, events },
  ]);
  return store;
}

function planOf(...letters: LetterSummary[]): ReplayPlan {
  return { entities: [{ entity, version: 3, parked: null, letters, fetched: [], blocked: null }], unordered: [] };
}

test('a letter that was dead-lettered again is told with its reason, although the version has passed it', async () => {
  const store = await storeAt(5);
  const letters = [letter(4, 'other'), letter(5)];
  await store.recordDeadLetters([recordOf(letters[0]!)]);
  const sent = new Map(letters.map((one) => [one, 'before']));
  const outcome = await awaitOutcomes(planOf(...letters), { sent }, { ...nobody, store });
  const [found] = outcome.entities;
  assert.deepEqual(
    [found?.status, found?.again.map(({ letter: { sequence }, reason }) => [sequence, reason])],
    ['dead-lettered-again', [[4, 'sequence_conflict']]],
  );
  assert.equal(isDone(planOf(...letters), { replayed: 2 }, outcome), false);
});

test('a letter in whose place another event was applied is waited for until it is on record', async () => {
  const store = await storeAt(5);
  const late = letter(4, 'other');
  const waiting = awaitOutcomes(planOf(late), { sent: new Map([[late, null]]) }, { ...nobody, store });
  await new Promise((resolve) => setTimeout(resolve, 20));
  await store.recordDeadLetters([recordOf(late)]);
  assert.equal((await waiting).entities[0]?.status, 'dead-lettered-again');
});

test('what is asked for slowly is still progress: the waiting ends when nothing more is processed, not when asking has taken long', async () => {
  const store = await storeAt(3);
  const letters = [letter(4), letter(5)];
  let asked = 0;
  const slow: Pick<Store, 'load' | 'lookUp' | 'findDeadLetters'> = {
    lookUp: (queries) => store.lookUp(queries),
    findDeadLetters: (queries) => store.findDeadLetters(queries),
    async load(entities) {
      const version = 3 + asked++;
      if (version === 4 || version === 5)
        await store.commit([
          {
            ...entity,
            token: `t${version}`,
            expectedVersion: version - 1,
            expectedHoles: '',
            newVersion: version,
            newHoles: '',
            state: null,
            events: [{ id: `i${version}`, recordId: true, sequence: version, payloadHash: `p${version}`, result: null, consumed: false }],
          },
        ]);
      await new Promise((resolve) => setTimeout(resolve, 60));
      return store.load(entities);
    },
  };
  const waiting = awaitOutcomes(
    planOf(...letters),
    { sent: new Map(letters.map((one) => [one, null])) },
    { ...nobody, store: slow, timeoutMs: 30, signal: undefined },
  );
  // It comes as far as the queue, which is asked last.
  await assert.rejects(waiting, /there is no broker/);
  assert.equal(asked, 3);
});

test('a letter that is on record from before it went was not dead-lettered again; nothing is called recovered unless the queue was asked', async () => {
  const store = await storeAt(5);
  const again = letter(5);
  await store.recordDeadLetters([recordOf(again, { deadLetteredAt: 'before' })]);
  const ask = (signal?: AbortSignal) => awaitOutcomes(planOf(again), { sent: new Map([[again, 'before']]) }, { ...nobody, store, signal });
  await assert.rejects(ask(), UnavailableError);
  assert.equal((await ask(AbortSignal.abort())).entities[0]?.status, 'undecided');
});

test('what the version has passed goes as a duplicate only where it is one', async () => {
  const store = await storeAt(5);
  const letters = [letter(2), letter(3, 'other'), letter(6)];
  const [snapshot] = (await store.load([entity])).flatMap((result) => (result.status === 'ok' ? [result.snapshot] : []));
  const { entities, notReplayable } = await splitReplayable(
    [{ entity, matched: letters, others: [], unread: [] }],
    [snapshot!],
    store,
    'buffer',
  );
  assert.deepEqual(
    entities[0]?.matched.map(({ sequence }) => sequence),
    [2, 6],
  );
  assert.deepEqual(
    notReplayable.map(({ letter: { sequence } }) => sequence),
    [3],
  );
  assert.match(notReplayable[0]?.why ?? '', /^another event was applied under its sequence: publish it under the next one/);
});

test('what would fall into a hole stays as late, unless the workers take it', async () => {
  const store = await storeAt(5);
  const snapshot = { exists: true, version: 5, state: null, holes: '3', parked: null };
  const whyItStays = async (strategy: ViolationStrategy, over: Partial<LetterSummary> = {}) => {
    const letters = [{ entity, matched: [{ ...letter(3), ...over }], others: [], unread: [] }];
    return (await splitReplayable(letters, [snapshot], store, strategy)).notReplayable[0]?.why ?? null;
  };
  assert.match((await whyItStays('buffer')) ?? '', /^its sequence was passed over/);
  assert.equal(await whyItStays('log_and_process'), null);
  const taken = { reason: 'message_id_conflict' } as const;
  assert.match((await whyItStays('log_and_process', taken)) ?? '', /^its id was applied with other content/);
  assert.equal(await whyItStays('skip', taken), null);
});

test('where a stream is adopted, a base line that failed stands as what it is: replayable, and those behind it with it', () => {
  const snapshot = {
    exists: false,
    version: 0,
    state: null,
    holes: '',
    parked: { at: 'now', sequence: 5, reason: 'handler_failed', detail: '', replaying: false },
  } as const;
  const base: LetterSummary = { ...letter(5), reason: 'handler_failed' };
  const letters = { entity, matched: [base, letter(6), letter(8)], others: [], unread: [] };
  const texts = letters.matched.map((one) => statusOf(one, letters, snapshot, 'any').text);
  assert.match(texts[0]!, /^is next in line: it can be replayed/);
  assert.match(texts[1]!, /^follows 5, which is itself a dead letter \(handler_failed\): both can be replayed/);
  assert.match(texts[2]!, /^waits for 7, which was never seen; here is 8/);
  assert.match(statusOf(base, letters, snapshot, 1).text, /^waits for 1, which was never seen/);
});

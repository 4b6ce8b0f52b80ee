import assert from 'node:assert/strict';
import test from 'node:test';
import { changeOf } from '../../src/console/api.ts';
import { planFields } from '../../src/console/change-work.ts';
import { isFound, searchOf } from '../../src/console/letter-json.ts';
import { gapRows, type OverviewInput, shardRows } from '../../src/console/stream-view.ts';
import { timelineOf } from '../../src/console/timeline.ts';
import type { DeadLetter } from '../../src/dead-letters/dead-letter.ts';
import type { LetterSummary } from '../../src/dead-letters/replay-plan.ts';
import { ConfigError } from '../../src/errors.ts';
import type { ShardStatus, WorkerStatus } from '../../src/observability/worker-status.ts';
import { rawMessage } from '../support/raw-message.ts';

const totals = { delivered: 0, applied: 0, duplicate: 0, skipped: 0, dead_lettered: 0 };

function reportOf(...shards: (Partial<ShardStatus> & { shard: number })[]): WorkerStatus {
  return {
    service: 's',
    stream: 'events',
    state: 'running',
    not_ready: [],
    shards: shards.map((shard) => ({ state: 'consuming', epoch: 1, held: 0, gaps: 0, totals, open_gaps: [], ...shard })),
  } as unknown as WorkerStatus;
}

const depth = (queue: string, ready: number | null, consumers: number | null) => ({ queue, ready, consumers });
const queues = ['q0', 'q1'];

function rowsOf(input: Partial<OverviewInput>) {
  return shardRows(queues, { workers: [], depths: [depth('q0', 0, 1), depth('q1', 5, 2)], activeConsumers: null, ...input });
}

test('a shard belongs to the worker of the latest epoch', () => {
  const workers = [
    { name: 'stale', report: reportOf({ shard: 0, epoch: 3, held: 7 }) },
    { name: 'owner', report: reportOf({ shard: 0, epoch: 9, held: 2, gaps: 1 }) },
    { name: 'standby', report: reportOf({ shard: 0, epoch: null }) },
    { name: 'gone', report: null },
    { name: 'of other tokens', report: 'refused' as const },
  ];
  const [first, second] = rowsOf({ workers });
  assert.deepEqual([first?.worker, first?.held, first?.gaps, first?.state], ['owner', 2, 1, 'consuming']);
  assert.deepEqual([second?.worker, second?.held, second?.state, second?.ready], [null, null, 'unknown', 5]);
});

test('the only consumer owns a shard of which it was given nothing yet; of several nobody knows', () => {
  const workers = [{ name: 'w', report: reportOf({ shard: 0, epoch: null }, { shard: 1, epoch: null }) }];
  assert.deepEqual(
    rowsOf({ workers }).map(({ worker, state }) => [worker, state]),
    [
      ['w', 'consuming'],
      [null, 'standby'],
    ],
  );
});

test('without the broker depths are not known, and with its management the active consumer is', () => {
  const [row] = rowsOf({ depths: null, activeConsumers: new Map([['q0', '10.0.0.1:5']]) });
  assert.deepEqual([row?.ready, row?.consumers, row?.consumer], [null, null, '10.0.0.1:5']);
});

test('gaps are told by the owner only, those that end soonest first', () => {
  const gap = (entity_id: string, ends_in_ms: number) => ({
    entity_type: 't',
    entity_id,
    version: 1,
    missing_from: 2,
    missing_to: 2,
    held: 1,
    held_sequences: [],
    waiting_ms: 0,
    ends_in_ms,
  });
  const workers = [
    {
      name: 'owner',
      report: reportOf(
        { shard: 0, epoch: 2, gaps: 2, open_gaps: [gap('late', 900), gap('soon', 100)] },
        { shard: 1, gaps: 1, open_gaps: [gap('middle', 500)] },
      ),
    },
    { name: 'stale', report: reportOf({ shard: 0, epoch: 1, gaps: 1, open_gaps: [gap('old', 1)] }) },
  ];
  const { rows, total } = gapRows(rowsOf({ workers }), { workers, depths: null, activeConsumers: null });
  assert.deepEqual([rows.map(({ entity_id, shard }) => `${entity_id} ${shard}`), total], [['soon 0', 'middle 1', 'late 0'], 3]);
});

const letter = (sequence: number | null, reason: LetterSummary['reason'] = 'gap_timeout'): LetterSummary => ({
  messageId: `m${sequence}`,
  fingerprint: `f${sequence}`,
  entityType: 't',
  entityId: 'e',
  sequence,
  reason,
});
const told = (runs: ReturnType<typeof timelineOf>['runs']) => runs.map(({ state, from, to }) => `${state} ${from}-${to}`);

test('a timeline has every sequence once, with what is missing between what is known', () => {
  const { runs, passed } = timelineOf({
    firstSequence: 1,
    version: 6,
    holes: '',
    held: [
      [8, 9],
      [12, 12],
    ],
    letters: [letter(13), letter(10), letter(3), letter(null)],
  });
  assert.deepEqual(told(runs), [
    'applied 1-6',
    'missing 7-7',
    'held 8-9',
    'dead-lettered 10-10',
    'missing 11-11',
    'held 12-12',
    'dead-lettered 13-13',
  ]);
  assert.deepEqual(
    passed.map(({ sequence }) => sequence),
    [3, null],
  );
});

test('holes below the version are told where they are close to it', () => {
  assert.deepEqual(told(timelineOf({ firstSequence: 1, version: 9, holes: '3-5,8', held: [], letters: [] }).runs), [
    'applied 1-2',
    'hole 3-5',
    'applied 6-7',
    'hole 8-8',
    'applied 9-9',
  ]);
  assert.deepEqual(told(timelineOf({ firstSequence: 1, version: 1_000_000, holes: '999999', held: [], letters: [] }).runs), [
    'applied 1-999998',
    'hole 999999-999999',
    'applied 1000000-1000000',
  ]);
});

test('the timeline of a stream that counts from 0 begins with 0', () => {
  const runs = (version: number, holes = '') => told(timelineOf({ firstSequence: 0, version, holes, held: [[2, 2]], letters: [] }).runs);
  assert.deepEqual(
    [runs(-1), runs(0), runs(1, '0')],
    [
      ['missing 0-1', 'held 2-2'],
      ['applied 0-0', 'missing 1-1', 'held 2-2'],
      ['hole 0-0', 'applied 1-1', 'held 2-2'],
    ],
  );
});

test('copies of a dead letter and what is held beside it take one place', () => {
  const { runs } = timelineOf({ firstSequence: 1, version: 0, holes: '', held: [[2, 3]], letters: [letter(2), letter(4), letter(4)] });
  assert.deepEqual(told(runs), ['missing 1-1', 'held 2-3', 'dead-lettered 4-4']);
});

test('thousands of dead letters in a row are one run, and a timeline has an end', () => {
  const many = Array.from({ length: 5_000 }, (_, index) => letter(index + 2));
  assert.deepEqual(told(timelineOf({ firstSequence: 1, version: 0, holes: '', held: [], letters: many }).runs), [
    'missing 1-1',
    'dead-lettered 2-5001',
  ]);
  const { runs, more } = timelineOf({
    firstSequence: 1,
    version: 0,
    holes: '',
    held: [],
    letters: many.filter(({ sequence }) => sequence! % 2 === 0),
  });
  assert.deepEqual([runs.length, more], [400, 4_600]);
});

const found: DeadLetter = {
  messageId: 'ID-7',
  fingerprint: 'abc',
  entityType: 'order',
  entityId: 'A-1',
  sequence: 4,
  type: 'ItemAdded',
  reason: 'refused',
  detail: 'Not in State X',
  stack: null,
  shard: 2,
  deadLetteredAt: null,
  replayedAt: [],
  message: rawMessage({ body: Buffer.from('needle'), routingKey: '', headers: { h: 'needle' } }),
};

test('words are found in any field in any case, but not in headers and body, which are not for everybody', () => {
  for (const words of ['id-7', 'a-1', 'ORDER', 'itemadded', 'refus', 'state x', '', '  '])
    assert.ok(isFound(found, searchOf({ words })), words);
  for (const words of ['needle', 'id-8']) assert.ok(!isFound(found, searchOf({ words })), words);
});

test('fields and words have to be true together', () => {
  assert.ok(isFound(found, searchOf({ words: 'id', reason: 'refused', shard: '2', entity_id: 'A-1', type: 'ItemAdded' })));
  for (const other of [
    { reason: 'late' },
    { shard: '1' },
    { entity_id: 'a-1' },
    { entity_type: 'x' },
    { type: 'x' },
    { message_id: 'x' },
  ]) {
    assert.ok(!isFound(found, searchOf({ words: 'id', ...other })), JSON.stringify(other));
  }
});

test('a search that makes no sense is refused with everything that is wrong with it', () => {
  const problems = (given: Record<string, unknown>) => {
    try {
      searchOf(given);
    } catch (error) {
      return error instanceof ConfigError ? error.problems.length : -1;
    }
    return 0;
  };
  assert.equal(problems({ reason: 'bad luck', shard: '-1', colour: 'red', words: 7, __proto__x: '' }), 5);
  assert.equal(problems({ reason: 'constructor' }), 1);
  assert.equal(problems({ words: 'x'.repeat(5_000) }), 1);
});

const changeBy = (name: string | null, body: Record<string, unknown>) =>
  changeOf({ body, user: { name, role: 'operator' }, address: '10.0.0.7' });

test('a change says who made it, as far as that is known', () => {
  assert.equal(changeBy(null, { action: 'replay', all: true }).who, 'console 10.0.0.7');
  assert.equal(changeBy('alice', { action: 'replay', all: true }).who, 'console alice@10.0.0.7');
});

test('a change says which letters, and a discard why', () => {
  const refused = (body: Record<string, unknown>) => assert.throws(() => changeBy(null, body), ConfigError, JSON.stringify(body));
  assert.equal(changeBy(null, { action: 'discard', entity_id: 'e', why: ' broken ', skip_sequence: true }).reason, 'broken');
  for (const body of [
    {},
    { action: 'replay' },
    { action: 'destroy', all: true },
    { action: 'discard', all: true },
    { action: 'discard', all: true, why: '  ' },
    { action: 'discard', reason: 'late' },
    { action: 'replay', all: true, why: 7 },
    { action: 'discard', ready_only: true, why: 'x' },
    { action: 'replay', all: 'yes' },
    { action: 'replay', entity_id: 7 },
    { action: 'replay', everything: 'x' },
  ])
    refused(body);
});

test('why something is discarded is not mistaken for the reason of what is discarded', () => {
  const { search, reason } = changeBy(null, { action: 'discard', reason: 'late', why: 'malformed' });
  assert.deepEqual([search.filter.reason, reason], ['late', 'malformed']);
  assert.equal(changeBy(null, { action: 'replay', reason: 'late', ready_only: true }).search.filter.reason, 'late');
});

test('how many gaps are open is not known where no worker tells', () => {
  const input = { workers: [{ name: 'w', report: null }], depths: null, activeConsumers: null };
  assert.equal(gapRows(rowsOf(input), input).total, null);
});

test('a plan tells what goes before what stays', () => {
  const entity = (entityId: string, count: number) => ({
    entity: { entityType: 't', entityId },
    version: 1,
    parked: null,
    letters: Array.from({ length: count }, (_, index) => letter(index + 2)),
    fetched: [],
    blocked: count > 0 ? null : { letters: [letter(4), letter(5)], missing: 2, next: 4, isDeadLetter: false, why: '2 has not arrived' },
  });
  const fields = planFields({ action: 'replay', plan: { entities: [entity('stays', 0), entity('goes', 3)], unordered: [letter(null)] } });
  assert.deepEqual(fields, {
    letters: 4,
    blocked: 2,
    unordered: 1,
    entity_count: 2,
    entities: [
      { entity_type: 't', entity_id: 'goes', version: 1, letters: 3, sequences: '2-4', blocked: null },
      {
        entity_type: 't',
        entity_id: 'stays',
        version: 1,
        letters: 0,
        sequences: '',
        blocked: { sequences: '4-5', missing: 2, why: '2 has not arrived' },
      },
    ],
  });
});

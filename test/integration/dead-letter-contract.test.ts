/**
 * The contract of a dead-letter queue of sequences, as Axon's promises it, in the words of this project: letters of an
 * entity form a sequence behind the one that failed, and it is that which is processed, evicted and limited. On the real
 * broker, through the commands that operators use.
 */
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import test, { type TestContext } from 'node:test';
import { keptIo, runHere } from '../support/command-io.ts';
import { moduleUrl } from '../support/checkout.ts';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { readTraces, type TraceEvent } from '../support/trace.ts';

const at = (entityId: string, ...sequences: number[]): TraceEvent[] => sequences.map((sequence) => ({ entityId, sequence }));
const linesOf = (text: string) =>
  text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
const upTo = (last: number, first = 1) => Array.from({ length: last - first + 1 }, (_, index) => first + index);

async function useStream(t: TestContext, name: string, variables: Readonly<Record<string, string>> = {}) {
  const services = await useServices(t);
  const processor = fileURLToPath(moduleUrl('test/support/mendable-processor.ts'));
  const run = new StreamRun(t, name, { ...services, variables: { PROCESSOR: processor, ...variables } });
  const env = { AMQP_URL: run.amqpUrl, REDIS_URL: run.redisUrl, STREAM: run.stream, ENTITY_TYPE: 'trace' };
  const command = async (...words: readonly string[]) => {
    const { io, out } = keptIo({ env });
    return { code: await runHere(['dead-letters', ...words], io), ...out };
  };
  /** The queue from its head: `a3 handler_failed`. */
  const letters = async () =>
    linesOf((await command('list', '--json')).stdout).map(({ entity_id, sequence, reason }) => `${entity_id}${sequence} ${reason}`);
  const lettersOf = async (entityId: string) => (await letters()).filter((letter) => letter.startsWith(entityId));
  const untilDeadLettered = (count: number) =>
    waitFor(async () => (await run.ready(run.deadLetters)) === count, { what: `${count} dead letters`, timeoutMs: 60_000 });
  const applied = async (entityId: string) => (await readTraces(run.redisUrl, run.stream)).get(entityId)?.types.join(' ') ?? '';
  const isParked = async (entityId: string) => (await readTraces(run.redisUrl, run.stream)).get(entityId)?.parked;
  const untilApplied = (entityId: string, types: string) =>
    waitFor(async () => (await applied(entityId)) === types, { what: `${entityId} with ${types}`, timeoutMs: 30_000 });
  return { run, command, letters, lettersOf, untilDeadLettered, applied, isParked, untilApplied };
}

test('enqueue: a letter is kept with its cause; what follows it in its sequence is kept behind it, in order', async (t) => {
  const { run, command, letters, untilDeadLettered, applied } = await useStream(t, 'enqueue');
  await run.worker({ FAILS: 'a/2' });
  await run.publish(at('a', 1, 2, 3, 4));
  await untilDeadLettered(3);
  await run.publish(at('a', 5));
  await untilDeadLettered(4);
  assert.deepEqual(await letters(), ['a2 handler_failed', 'a3 entity_parked', 'a4 entity_parked', 'a5 entity_parked']);
  const shown = (await command('show', 'a/2')).stdout;
  assert.match(shown, /^detail +evolve for "e2" threw PermanentError: the ledger of a is closed$/m);
  assert.match(shown, /^stack +at .*mendable-processor\.[jt]s:\d+:\d+\)?$/m);
  assert.match(linesOf((await command('show', 'a/2', '--json')).stdout)[0].stack, /mendable-processor/);
  assert.deepEqual(
    linesOf((await command('list', '--group-by=detail', '--json')).stdout).map(({ group, count }) => [group, count]),
    [
      ['the entity is parked at version #', 3],
      ['evolve for "…" threw PermanentError: the ledger of a is closed', 1],
    ],
  );
  assert.equal(await applied('a'), 'e1');
});

test('enqueue if present: what belongs to no kept sequence is processed as ever, and several sequences are kept apart', async (t) => {
  const { run, command, lettersOf, untilDeadLettered, untilApplied, applied } = await useStream(t, 'apart');
  await run.worker({ FAILS: 'a/1,b/2' });
  await run.publish([
    ...at('a', 1),
    ...at('b', 1),
    ...at('c', 1),
    ...at('a', 2),
    ...at('b', 2),
    ...at('c', 2),
    ...at('b', 3),
    ...at('c', 3),
  ]);
  await untilDeadLettered(4);
  await untilApplied('c', 'e1 e2 e3');
  assert.deepEqual(
    [await lettersOf('a'), await lettersOf('b')],
    [
      ['a1 handler_failed', 'a2 entity_parked'],
      ['b2 handler_failed', 'b3 entity_parked'],
    ],
  );
  assert.deepEqual([await applied('a'), await applied('b')], ['', 'e1']);
  const groups = linesOf((await command('list', '--group-by=entity', '--json')).stdout);
  assert.deepEqual(groups.map(({ group, count }) => [group, count]).sort(), [
    ['trace a', 2],
    ['trace b', 2],
  ]);
});

test('process: of any sequence, oldest first; each sequence that is recovered leaves the queue', async (t) => {
  const { run, command, untilDeadLettered, applied, isParked } = await useStream(t, 'process');
  const broken = await run.worker({ FAILS: 'a/2,b/1' });
  await run.publish([...at('a', 1, 2, 3, 4), ...at('b', 1, 2)]);
  await untilDeadLettered(5);
  await run.end(broken);
  await run.worker();
  const { code, stdout } = await command('replay', '--all', '--yes');
  assert.deepEqual([code, /5 replayed; 2 of 2 entities recovered/.test(stdout)], [0, true], stdout);
  assert.deepEqual([await applied('a'), await applied('b')], ['e1 e2 e3 e4', 'e1 e2']);
  assert.deepEqual([await isParked('a'), await isParked('b')], [false, false]);
  await run.assertNothingLeft();
});

test('process: of a given sequence, and of no other', async (t) => {
  const { run, command, letters, untilDeadLettered, applied } = await useStream(t, 'given');
  const broken = await run.worker({ FAILS: 'a/1,b/1' });
  await run.publish([...at('a', 1, 2), ...at('b', 1, 2)]);
  await untilDeadLettered(4);
  await run.end(broken);
  await run.worker();
  assert.equal((await command('replay', '--entity=b', '--yes')).code, 0);
  assert.deepEqual([await applied('a'), await applied('b')], ['', 'e1 e2']);
  assert.deepEqual(await letters(), ['a1 handler_failed', 'a2 entity_parked']);
  const none = await command('replay', '--entity=nobody', '--yes');
  assert.deepEqual([none.code, none.stdout], [1, 'no dead letter matches\n']);
});

test('requeue: a letter that fails again is kept with its new cause and the count of its attempts; the rest stays behind it', async (t) => {
  const { run, command, letters, untilDeadLettered, applied } = await useStream(t, 'requeue');
  const broken = await run.worker({ FAILS: 'a/2' });
  await run.publish(at('a', 1, 2, 3, 4, 5));
  await untilDeadLettered(4);
  await run.end(broken);
  await run.worker({ FAILS: 'a/3' });
  const again = await command('replay', '--entity=a', '--yes');
  assert.deepEqual(
    [again.code, /trace a is parked again at version 2: handler_failed at sequence 3/.test(again.stdout)],
    [1, true],
    again.stdout,
  );
  await untilDeadLettered(3);
  assert.deepEqual([await letters(), await applied('a')], [['a3 handler_failed', 'a4 entity_parked', 'a5 entity_parked'], 'e1 e2']);
  const replays = async () => linesOf((await command('list', '--json')).stdout).map((letter) => letter.replays);
  assert.deepEqual(await replays(), [1, 1, 1]);
  await command('replay', '--entity=a', '--yes');
  await untilDeadLettered(3);
  assert.deepEqual(await replays(), [2, 2, 2]);
});

test('one at a time: a sequence that is being processed is processed by nobody else, and what comes for it waits behind it', async (t) => {
  const { run, command, untilDeadLettered, untilApplied, letters } = await useStream(t, 'one-at-a-time');
  const broken = await run.worker({ FAILS: 'a/1' });
  await run.publish(at('a', ...upTo(30)));
  await untilDeadLettered(30);
  await run.end(broken);
  const worker = await run.worker();
  const first = command('replay', '--entity=a', '--rate=15', '--yes');
  await waitFor(async () => (await run.applied()) > 0, { what: 'the first letter applied' });
  const second = command('replay', '--entity=a', '--yes');
  await run.publish(at('a', 31, 32));
  await waitFor(async () => (await worker.metric('inorder_held')) >= 2, { what: 'the live events held' });
  assert.equal((await first).code, 0);
  // It waits for the first one, but not for as long as that may take on a slow machine.
  const { code, stdout, stderr } = await second;
  assert.equal(code, 1);
  assert.match(stdout + stderr, /^no dead letter matches$|somebody else is changing the dead letters/m);
  await untilApplied(
    'a',
    upTo(32)
      .map((sequence) => `e${sequence}`)
      .join(' '),
  );
  assert.deepEqual(await letters(), []);
});

test('evict: a letter goes for good, whoever is not there is no matter, and the others of its sequence stay in order', async (t) => {
  const { run, command, letters, untilDeadLettered, applied, isParked } = await useStream(t, 'evict');
  const broken = await run.worker({ FAILS: 'a/1' });
  await run.publish([...at('a', 1, 2, 3, 4), ...at('b', 1)]);
  await untilDeadLettered(4);
  await run.end(broken);
  const unknown = await command('discard', 'a/9', '--why=test', '--yes');
  assert.deepEqual([unknown.code, unknown.stderr], [1, 'inorder: no dead letter matches\n']);
  assert.equal((await command('discard', 'a/3', '--why=test', '--yes')).code, 0);
  assert.deepEqual(await letters(), ['a1 handler_failed', 'a2 entity_parked', 'a4 entity_parked']);
  // Its place in the sequence is empty now: what is before it goes, what is behind it waits.
  await run.worker();
  await command('replay', '--entity=a', '--yes');
  assert.deepEqual([await applied('a'), await letters(), await isParked('a')], ['e1 e2', ['a4 entity_parked'], true]);
  await run.publish(at('a', 3));
  await waitFor(async () => (await applied('a')) === 'e1 e2 e3', { what: 'the event once more' });
  assert.equal((await command('replay', '--ready', '--yes')).code, 0);
  assert.deepEqual([await applied('a'), await isParked('a')], ['e1 e2 e3 e4', false]);
});

test('evict the first: passed over, it keeps nobody any longer', async (t) => {
  const { run, command, untilDeadLettered, applied, isParked } = await useStream(t, 'evict-first');
  await run.worker({ FAILS: 'a/2' });
  await run.publish(at('a', 1, 2, 3));
  await untilDeadLettered(2);
  assert.equal((await command('discard', 'a/2', '--skip-sequence', '--why=test', '--yes')).code, 0);
  assert.equal((await command('replay', '--entity=a', '--yes')).code, 0);
  assert.equal(await isParked('a'), false);
  await run.publish(at('a', 4));
  await waitFor(async () => (await applied('a')) === 'e1 e3 e4', { what: 'the next event' });
});

test('clear: every letter goes, however many pages they fill, and passed over the sequences go on', async (t) => {
  const { run, command, untilDeadLettered, applied } = await useStream(t, 'clear');
  await run.worker({ FAILS: 'a/1,b/1' });
  await run.publish([...at('a', ...upTo(400)), ...at('b', ...upTo(200))]);
  await untilDeadLettered(600);
  const { code, stdout } = await command('discard', '--all', '--skip-sequence', '--why=test', '--yes');
  assert.deepEqual([code, /^600 discarded$/m.test(stdout)], [0, true], stdout);
  assert.equal(await run.ready(run.deadLetters), 0);
  await run.publish([...at('a', 401), ...at('b', 201)]);
  await waitFor(async () => (await applied('a')) === 'e401' && (await applied('b')) === 'e201', { what: 'the next events' });
});

test('limits: what is held of one sequence is bounded, and nothing is dropped: beyond it all goes behind the first in the queue', async (t) => {
  const { run, lettersOf, untilDeadLettered, untilApplied } = await useStream(t, 'limit-sequence', {
    PREFETCH: '20',
    MAX_BUFFERED_PER_ENTITY: '5',
  });
  const worker = await run.worker();
  await run.publish(at('a', ...upTo(6, 2)));
  await untilDeadLettered(5);
  await run.publish([...at('a', ...upTo(12, 7)), ...at('b', 1, 3, 2)]);
  await untilDeadLettered(11);
  assert.deepEqual(
    await lettersOf('a'),
    upTo(12, 2).map((sequence) => `a${sequence} ${sequence <= 6 ? 'buffer_overflow' : 'entity_parked'}`),
  );
  await untilApplied('b', 'e1 e2 e3');
  assert.equal(await worker.metric('inorder_held'), 0);
});

test('limits: sequences that wait are bounded as well: the oldest gives way, and the missing event still finds room', async (t) => {
  const { run, letters, untilDeadLettered, untilApplied } = await useStream(t, 'limit-sequences', { SHARDS: '1', PREFETCH: '10' });
  await run.worker();
  await run.publish(upTo(12).flatMap((number) => at(`e-${number}`, 2)));
  await untilDeadLettered(5);
  const given = await letters();
  assert.ok(
    given.every((letter) => letter.endsWith('2 buffer_overflow')),
    given.join(),
  );
  assert.ok(!given.includes('e-122 buffer_overflow'), 'the latest is still held');
  await run.publish(at('e-12', 1));
  await untilApplied('e-12', 'e1 e2');
});

test('limits: a sequence of more letters than there are records for is kept, listed and processed whole', async (t) => {
  const { run, command, untilDeadLettered, isParked } = await useStream(t, 'limit-records');
  const count = 10_100;
  const broken = await run.worker({ FAILS: 'a/1' });
  await run.publish(at('a', ...upTo(count)));
  await untilDeadLettered(count);
  await run.end(broken);
  const groups = linesOf((await command('list', '--group-by=reason', '--json')).stdout).map((group): [string, number] => [
    group.group,
    group.count,
  ]);
  assert.ok((new Map(groups).get('unknown') ?? 0) > 0, 'some records had to go');
  assert.equal(
    groups.reduce((sum, [, letters]) => sum + letters, 0),
    count,
  );
  await run.worker();
  const { code, stdout, stderr } = await command('replay', '--all', '--yes');
  assert.deepEqual([code, await isParked('a'), await run.applied()], [0, false, count], stdout + stderr);
  await run.assertNothingLeft();
});

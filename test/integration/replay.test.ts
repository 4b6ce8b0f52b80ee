import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import amqp from 'amqplib';
import { replay } from '../../src/dead-letters/replay.ts';
import { planReplay } from '../../src/dead-letters/inspect.ts';
import { defaultEventLimits } from '../../src/events/event.ts';
import { createConnection } from '../../src/rabbitmq/connection.ts';
import { createAmqpPublisher } from '../../src/rabbitmq/publisher.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import { systemTime } from '../../src/time.ts';
import { moduleUrl } from '../support/checkout.ts';
import { keptIo, runHere } from '../support/command-io.ts';
import { KeptLog } from '../support/rabbitmq.ts';
import { useRabbitNode, useServices, waitFor } from '../support/services.ts';
import { assertAtRest } from '../support/stream-account.ts';
import { StreamRun } from '../support/stream-run.ts';
import { bodyOf, readTraces, type TraceEvent } from '../support/trace.ts';

const variables = { GAP_TIMEOUT_MS: '300' };

async function useStream(t: TestContext, name: string, more: Record<string, string> = {}) {
  const services = await useServices(t);
  const run = new StreamRun(t, name, { ...services, variables: { ...variables, ...more } });
  const command = async (words: string) => {
    const env = { AMQP_URL: run.amqpUrl, REDIS_URL: run.redisUrl, STREAM: run.stream, ...more };
    const { io, out } = keptIo({ env });
    return { code: await runHere(words.split(' '), io), ...out };
  };
  const untilDeadLettered = (count: number) =>
    waitFor(async () => (await run.ready(run.deadLetters)) === count, { what: `${count} dead letters`, timeoutMs: 30_000 });
  const trace = async (entityId: string) => (await readTraces(run.redisUrl, run.stream)).get(entityId);
  return { run, command, untilDeadLettered, trace };
}

const at = (entityId: string, ...sequences: number[]): TraceEvent[] => sequences.map((sequence) => ({ entityId, sequence }));

test('dead letters behind a gap go in order once the missing event has arrived, and the entity is recovered', async (t) => {
  const { run, command, untilDeadLettered, trace } = await useStream(t, 'replay');
  await run.worker();
  await run.publish([...at('a', 1, 2, 5, 4, 7, 6), ...at('b', 1, 2)]);
  await untilDeadLettered(4);
  const blocked = await command('dead-letters replay --all --yes');
  assert.deepEqual(
    [blocked.code, blocked.stdout],
    [
      1,
      '  trace a at version 2: nothing replayable; 4-7 wait for 3: 3 has not arrived\n0 replayable, 4 blocked: replay them when what they wait for has arrived\n',
    ],
  );
  assert.equal(await run.ready(run.deadLetters), 4);
  for (const [meant, code] of [
    ['nobody', 1],
    ['--entity=nobody', 1],
    ['--ready', 0],
  ] as const)
    assert.equal((await command(`dead-letters replay ${meant} --yes`)).code, code, meant);

  await run.publish(at('a', 3));
  await waitFor(async () => (await trace('a'))?.version === 3, { what: 'the missing event' });
  assert.equal((await trace('a'))?.parked, true);
  const plan = await command('dead-letters replay --ready');
  assert.deepEqual([plan.code, plan.stdout], [2, '  trace a at version 3: 4-7 replayable\n4 replayable\n']);
  assert.match(plan.stderr, /nothing was changed; add --yes/);
  assert.equal(await run.ready(run.deadLetters), 4);

  const replayed = await command('dead-letters replay --ready --yes');
  assert.deepEqual([replayed.code, replayed.stdout, replayed.stderr], [0, `${plan.stdout}4 replayed; 1 of 1 entities recovered\n`, '']);
  assert.deepEqual(await trace('a'), { version: 7, types: ['e1', 'e2', 'e3', 'e4', 'e5', 'e6', 'e7'], parked: false });
  await run.publish(at('a', 9, 8));
  await run.untilApplied(11);
  await run.assertNothingLeft();
});

/** As moving messages in the broker's management page: they are published to a queue by name, with only their bytes and headers. */
async function moveDeadLetters(run: StreamRun, count: number): Promise<void> {
  const channel = await run.channel();
  for (let moved = 0; moved < count; moved++) {
    const message = await channel.get(run.deadLetters, { noAck: true });
    assert.ok(message);
    channel.sendToQueue(message.properties.headers?.['x-first-death-queue'] ?? '', message.content, message.properties);
  }
  await channel.waitForConfirms();
}

test('letters that were moved to their queue by hand, and misrouted ones, go under the id of their entity, which recovers', async (t) => {
  const { run, command, untilDeadLettered, trace } = await useStream(t, 'replay-moved');
  const worker = await run.worker();
  await run.publish(at('a', 2, 3));
  await untilDeadLettered(2);
  await run.publish(at('a', 1));
  await waitFor(async () => (await trace('a'))?.version === 1, { what: 'the missing event' });
  await moveDeadLetters(run, 2);
  await waitFor(async () => (await worker.metric('inorder_dead_letters_total', { reason: 'misrouted' })) === 2, {
    what: 'the moved letters',
    timeoutMs: 60_000,
  });
  await untilDeadLettered(2);
  const channel = await run.channel();
  channel.publish(run.stream, 'elsewhere', bodyOf({ entityId: 'b', sequence: 1 }), { contentType: 'application/json' });
  await channel.waitForConfirms();
  await untilDeadLettered(3);
  const replayed = await command('dead-letters replay --all --yes');
  assert.deepEqual([replayed.code, replayed.stderr], [0, '']);
  assert.match(replayed.stdout, /^3 replayed; 2 of 2 entities recovered$/m);
  assert.deepEqual(
    [await trace('a'), await trace('b')],
    [
      { version: 3, types: ['e1', 'e2', 'e3'], parked: false },
      { version: 1, types: ['e1'], parked: false },
    ],
  );
  await run.assertNothingLeft();
});

test('a reason chooses entities: what follows the letter goes with it, and with --only it does not', async (t) => {
  const { run, command, untilDeadLettered, trace } = await useStream(t, 'replay-reason');
  await run.worker();
  await run.publish(at('a', 2));
  await untilDeadLettered(1);
  await run.publish(at('a', 3, 4));
  await untilDeadLettered(3);
  await run.publish(at('a', 1));
  await run.untilApplied(1);
  const alone = await command('dead-letters replay --reason entity_parked --only --yes');
  assert.equal(
    alone.stdout,
    '  trace a at version 1: nothing replayable; 3-4 wait for 2: 2 is itself a dead letter (gap_timeout), and not part of this\n0 replayable, 2 blocked: replay them when what they wait for has arrived\n',
  );
  const replayed = await command('dead-letters replay --reason entity_parked --yes');
  assert.deepEqual(
    [replayed.code, replayed.stdout],
    [0, '  trace a at version 1: 2-4 replayable\n3 replayable\n3 replayed; 1 of 1 entities recovered\n'],
  );
  assert.deepEqual((await trace('a'))?.parked, false);
});

test('what a replay does not mend stays, with what to do instead, and its entity is not called recovered', async (t) => {
  const { run, command, untilDeadLettered } = await useStream(t, 'replay-refused');
  await run.worker();
  const channel = await run.channel();
  const publish = async (entityId: string, body: string | Buffer) => {
    channel.publish(run.stream, entityId, Buffer.from(body), { contentType: 'application/json', persistent: true });
    await channel.waitForConfirms();
  };
  await run.publish([...at('a', 1), ...at('b', 1)]);
  await run.untilApplied(2);
  await publish('a', bodyOf({ entityId: 'a', sequence: 1 }, { other: 'content' }));
  await publish(
    'b',
    JSON.stringify({ id: 'b/1', entity_type: 'trace', entity_id: 'b', sequence: 2, type: 'e2', data: { other: 'content' } }),
  );
  await publish('c', 'not json');
  await untilDeadLettered(3);
  await run.publish([...at('b', 3), ...at('a', 3)]);
  await untilDeadLettered(5);
  await run.publish(at('a', 2));
  await run.untilApplied(3);
  const plan = (await command('dead-letters replay --all')).stdout;
  assert.match(plan, /^  trace a at version 2: 3 replayable$/m);
  assert.match(
    plan,
    /^  trace a: 1 not replayable \(sequence_conflict\): another event was applied under its sequence: publish it under the next one/m,
  );
  assert.match(
    plan,
    /^  trace b: 2 not replayable \(message_id_conflict\): its id was applied with other content: publish it with an id of its own/m,
  );
  assert.match(plan, /^  trace b at version 1: nothing replayable; 3 waits for 2: 2 is itself a dead letter \(message_id_conflict\)/m);
  assert.match(plan, /not replayable \(malformed\): it would be refused again \(malformed\): correct it/);
  assert.match(plan, /^1 replayable, 1 blocked: .*, 3 not replayable$/m);
  const replayed = await command('dead-letters replay --entity a --yes');
  assert.match(replayed.stdout, /^1 replayed; 0 of 1 entities recovered\n  trace a is at version 3, and 1 of its dead letters is left$/m);
  assert.match((await command('dead-letters show b/1')).stdout, /^status +its id was applied with other content/m);
});

test('a letter that is dead-lettered again is reported with its reason, what would follow it stays, and the exit code is 1', async (t) => {
  const processor = fileURLToPath(moduleUrl('test/support/ledger-processor.ts'));
  const { run, command, untilDeadLettered } = await useStream(t, 'replay-again', { PROCESSOR: processor, ENTITY_TYPE: 'growing' });
  await run.worker();
  const channel = await run.channel();
  for (const [sequence, type] of [
    [1, 'Grown'],
    [2, 'Broken'],
    [3, 'Grown'],
  ] as const) {
    const body = JSON.stringify({
      id: `a${sequence}`,
      entity_type: 'growing',
      entity_id: 'a',
      sequence,
      type,
      data: { text: String(sequence) },
    });
    channel.publish(run.stream, 'a', Buffer.from(body), { persistent: true, contentType: 'application/json' });
    await channel.waitForConfirms();
    if (sequence > 1) await untilDeadLettered(sequence - 1);
  }
  const replayed = await command('dead-letters replay --all --yes');
  assert.equal(replayed.code, 1, replayed.stdout);
  assert.match(replayed.stdout, /^  growing a is parked again at version 1: handler_failed at sequence 2 \(/m);
  await untilDeadLettered(2);
  const json = await command('dead-letters replay --all --yes --json');
  const [, outcome] = json.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.deepEqual([json.code, outcome.status, outcome.dead_lettered_again[0].reason], [1, 'parked-again', 'handler_failed']);
});

test('a base line whose handler failed is replayed with its followers once that is mended, where a running stream was adopted', async (t) => {
  const processor = fileURLToPath(moduleUrl('test/support/mendable-processor.ts'));
  const { run, command, untilDeadLettered, trace } = await useStream(t, 'replay-adopted', { PROCESSOR: processor, FIRST_SEQUENCE: 'any' });
  const broken = await run.worker({ FAILS: 'a/57' });
  await run.publish(at('a', 57));
  await untilDeadLettered(1);
  await run.publish(at('a', 59, 58));
  await untilDeadLettered(3);
  assert.deepEqual(await trace('a'), { version: 0, types: [], parked: true });
  await run.end(broken);
  const mended = await run.worker();
  const replayed = await command('dead-letters replay --entity a --yes');
  assert.deepEqual(
    [replayed.code, replayed.stdout, replayed.stderr],
    [0, '  trace a at version 0: 57-59 replayable\n3 replayable\n3 replayed; 1 of 1 entities recovered\n', ''],
  );
  await run.publish(at('a', 60));
  await waitFor(async () => (await trace('a'))?.version === 60, { what: 'what comes after the replay' });
  assert.deepEqual(await trace('a'), { version: 60, types: ['e57', 'e58', 'e59', 'e60'], parked: false });
  await assertAtRest(run, mended, 0);
});

test('a live event that lies in the queue before the copies is held until they have come, long after the replay has ended', async (t) => {
  const { run, untilDeadLettered } = await useStream(t, 'replay-behind');
  const impatient = await run.worker();
  await run.publish(at('a', 2, 3));
  await untilDeadLettered(2);
  await run.publish(at('a', 1));
  await run.untilApplied(1);
  await run.end(impatient);
  await run.publish(at('a', 4));
  const store = createRedisStore({ url: run.redisUrl, stream: run.stream, idempotencyTtlSeconds: 3_600 });
  const connection = await amqp.connect(run.amqpUrl);
  const publishing = createConnection({ urls: [run.amqpUrl], name: 'test', log: new KeptLog(), time: systemTime });
  const publisher = createAmqpPublisher({ connection: publishing, exchange: run.stream, log: new KeptLog() });
  t.after(() => Promise.all([publisher.close(), publishing.close(), connection.close(), store.close()]));
  const decoding = { limits: defaultEventLimits, defaultEntityType: 'trace', unsequenced: 'reject' as const };
  const access = {
    connection,
    publisher,
    stream: run.stream,
    store,
    decoding,
    filter: {},
    firstSequence: 1,
    who: 'test',
    time: systemTime,
  } as const;
  const leaseMs = 50;
  assert.equal((await replay(await planReplay(access), { ...access, leaseMs })).replayed, 2);
  await new Promise((resolve) => setTimeout(resolve, 4 * leaseMs));
  const worker = await run.worker({ GAP_TIMEOUT_MS: '120000' });
  await run.untilApplied(4);
  assert.equal(await worker.metric('inorder_events_total', { outcome: 'dead-lettered' }), 0);
  await run.assertNothingLeft();
});

test('a paced replay outlives a consumer_timeout that is shorter than it: each letter goes once, and none is left', async (t) => {
  const node = await useRabbitNode(t, { configLines: ['consumer_timeout = 2000'] });
  // Of channels that are opened from now on: how often they are looked at for it.
  await node.ctl('eval', 'application:set_env(rabbit, channel_tick_interval, 500).');
  const { redisUrl } = await useServices(t);
  const run = new StreamRun(t, 'replay-paced', { amqpUrl: node.amqpUrl, redisUrl, variables });
  const worker = await run.worker();
  await run.publish(at('a', ...Array.from({ length: 20 }, (_, index) => index + 2)));
  await waitFor(async () => (await run.ready(run.deadLetters)) === 20, { what: '20 dead letters', timeoutMs: 60_000 });
  await run.publish(at('a', 1));
  await run.untilApplied(1);
  const { io, out } = keptIo({ env: { AMQP_URL: run.amqpUrl, REDIS_URL: run.redisUrl, STREAM: run.stream } });
  // Half-way between two looks of the broker, so that no letter is removed while it closes the channel: that one might stay.
  const code = await runHere(['dead-letters', 'replay', '--all', '--yes', '--rate=1.4'], io);
  assert.deepEqual([code, out.stderr], [0, ''], out.stdout);
  assert.match(out.stdout, /^20 replayed; 1 of 1 entities recovered$/m);
  assert.equal(await worker.metric('inorder_events_total', { outcome: 'duplicate' }), 0);
  // Each pause is longer than a reading may last.
  await run.publish(at('b', 2, 3, 4));
  await waitFor(async () => (await run.ready(run.deadLetters)) === 3, { what: '3 dead letters' });
  await run.publish(at('b', 1));
  await run.untilApplied(22);
  const slow = keptIo({ env: { AMQP_URL: run.amqpUrl, REDIS_URL: run.redisUrl, STREAM: run.stream } });
  assert.equal(await runHere(['dead-letters', 'replay', '--all', '--yes', '--rate=0.25'], slow.io), 0, slow.out.stdout);
  assert.match(slow.out.stdout, /^3 replayed; 1 of 1 entities recovered$/m);
  await run.assertNothingLeft();
});

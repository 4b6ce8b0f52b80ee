/**
 * Handlers and aggregates in a real worker: retries, failures that park one entity and no other, results that
 * are remembered and sent to who asked.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { test, type TestContext } from 'node:test';
import amqp from 'amqplib';
import { RabbitNode } from '../../deploy/local/rabbit-node.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import { moduleUrl } from '../support/checkout.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';
import { WorkerProcess } from '../support/worker-process.ts';

const processor = fileURLToPath(moduleUrl('test/support/ledger-processor.ts'));

interface Sent {
  readonly entityType?: string;
  readonly entityId: string;
  readonly sequence?: number;
  readonly type: string;
  readonly data?: unknown;
  readonly id?: string;
}

const directReplyTo = 'amq.rabbitmq.reply-to';

async function setUp(t: TestContext, extra: Readonly<Record<string, string>> = {}, broker?: { readonly amqpUrl: string }) {
  const { redisUrl, ...shared } = await useServices(t);
  const { amqpUrl } = broker ?? shared;
  const stream = uniqueStream('processors');
  const worker = await WorkerProcess.ready(t, {
    AMQP_URL: amqpUrl,
    REDIS_URL: redisUrl,
    STREAM: stream,
    SHARDS: '1',
    PROCESSOR: processor,
    RETRY_INITIAL_MS: '20',
    RETRY_MAX_ATTEMPTS: '3',
    HANDLER_TIMEOUT_MS: '400',
    ...extra,
  });
  const connection = await amqp.connect(amqpUrl);
  t.after(() => connection.close());
  const channel = await connection.createConfirmChannel();
  const { queue: ownQueue } = await channel.assertQueue('', { exclusive: true });
  const replies = new Map<string, unknown[]>();
  const onReply = (message: amqp.ConsumeMessage | null) => {
    const { correlationId } = message?.properties ?? {};
    if (message !== null) replies.set(correlationId, [...(replies.get(correlationId) ?? []), JSON.parse(message.content.toString())]);
  };
  await channel.consume(ownQueue, onReply, { noAck: true });
  await channel.consume(directReplyTo, onReply, { noAck: true });
  const send = (event: Sent, correlationId: string = randomUUID(), replyTo = ownQueue): string => {
    const { entityType = 'job', entityId, sequence, type, data, id } = event;
    const body = JSON.stringify({ id, entity_type: entityType, entity_id: entityId, sequence, type, data: data ?? {} });
    channel.publish(stream, entityId, Buffer.from(body), { persistent: true, contentType: 'application/json', replyTo, correlationId });
    return correlationId;
  };
  const store = createRedisStore({ url: redisUrl, stream, idempotencyTtlSeconds: 3_600 });
  t.after(() => store.close());
  const parkedReason = async (entityId: string, entityType = 'job'): Promise<string | null> => {
    const [loaded] = await store.load([{ entityType, entityId }]);
    return loaded?.status === 'ok' ? (loaded.snapshot.parked?.reason ?? null) : null;
  };
  const reply = (correlationId: string) => waitFor(() => replies.get(correlationId)?.[0], { what: 'a reply', timeoutMs: 20_000 });
  return { worker, stream, send, reply, replies, store, parkedReason, channel };
}

test('a sender that knows no queue of its own is answered by direct reply-to', async (t) => {
  const { send, reply, worker } = await setUp(t);
  const answer = await reply(send({ entityId: 'a', sequence: 1, type: 'works' }, randomUUID(), directReplyTo));
  assert.equal((answer as { type: string }).type, 'works');
  for (const cause of ['no_queue', 'not_allowed']) assert.equal(await worker.metric('inorder_replies_dropped_total', { cause }), 0, cause);
});

test('no result is written into a queue that a message names and that is not its sender’s own', async (t) => {
  const victim = `${uniqueStream('victim')}.dead-letters`;
  const { worker, send, reply, channel } = await setUp(t);
  await channel.assertQueue(victim, { exclusive: true });
  send({ entityId: 'a', sequence: 1, type: 'works' }, randomUUID(), victim);
  await reply(send({ entityId: 'a', sequence: 2, type: 'works' }));
  assert.equal((await channel.checkQueue(victim)).messageCount, 0);
  assert.equal(await worker.metric('inorder_replies_dropped_total', { cause: 'not_allowed' }), 1);
  const warned = worker.output.split('\n').filter((line) => line.includes('a reply was dropped'));
  assert.equal(warned.length, 1);
  assert.match(warned[0] ?? '', /REPLY_QUEUES/);
});

test('REPLY_QUEUES allows queues by their whole name', async (t) => {
  const own = uniqueStream('replies');
  const { worker, send, channel } = await setUp(t, { REPLY_QUEUES: `${own}(\\.a)?` });
  for (const queue of [own, `${own}.a`, `${own}.b`]) await channel.assertQueue(queue, { exclusive: true });
  [`${own}.b`, own, `${own}.a`].forEach((queue, index) => {
    send({ entityId: 'a', sequence: index + 1, type: 'works' }, randomUUID(), queue);
  });
  await waitFor(async () => (await channel.checkQueue(`${own}.a`)).messageCount === 1, { what: 'the last reply' });
  assert.equal((await channel.checkQueue(own)).messageCount, 1);
  assert.equal((await channel.checkQueue(`${own}.b`)).messageCount, 0);
  assert.equal(await worker.metric('inorder_replies_dropped_total', { cause: 'not_allowed' }), 1);
});

test('what a handler returns is sent to replyTo, and a duplicate gets the remembered result without running it again', async (t) => {
  const { send, reply } = await setUp(t);
  const event = { entityId: 'a', sequence: 1, type: 'works', id: 'first' };
  const first = await reply(send(event));
  assert.deepEqual(first, { key: 'job:a:1', attempt: 1, run: 1, type: 'works' });
  assert.deepEqual(await reply(send(event)), first);
});

test('an id that was used under another sequence reaches no handler: the same event is a duplicate, another one is dead-lettered', async (t) => {
  const { send, reply, replies, parkedReason } = await setUp(t);
  const first = await reply(send({ entityId: 'a', sequence: 1, type: 'works', id: 'one' }));
  assert.deepEqual(await reply(send({ entityId: 'a', sequence: 2, type: 'works', id: 'one' })), first);
  const other = send({ entityId: 'a', sequence: 3, type: 'works', id: 'one', data: { other: true } });
  await waitFor(async () => (await parkedReason('a')) === 'message_id_conflict', { what: 'parked' });
  assert.equal(replies.get(other), undefined);
});

test('a handler that fails is tried again with its key, while other entities go on', async (t) => {
  const { send, reply } = await setUp(t);
  const failing = send({ entityId: 'slow', sequence: 1, type: 'fails-twice' });
  assert.deepEqual(await reply(send({ entityId: 'quick', sequence: 1, type: 'works' })), {
    key: 'job:quick:1',
    attempt: 1,
    run: 1,
    type: 'works',
  });
  assert.deepEqual(await reply(failing), { key: 'job:slow:1', attempt: 3, run: 3, type: 'fails-twice' });
});

test('a handler that fails for good parks its entity, and what follows is dead-lettered behind it', async (t) => {
  const { worker, send, reply, parkedReason } = await setUp(t);
  for (const [entityId, type] of [
    ['a', 'always-fails'],
    ['b', 'throws-at-once'],
    ['c', 'never-settles'],
  ] as const) {
    send({ entityId, sequence: 1, type });
    send({ entityId, sequence: 2, type: 'works' });
    await waitFor(async () => (await parkedReason(entityId)) === 'handler_failed', { what: `${type} parked`, timeoutMs: 20_000 });
  }
  await waitFor(async () => (await worker.metric('inorder_dead_letters_total', { reason: 'handler_failed' })) === 3, {
    what: 'three failures',
  });
  await waitFor(async () => (await worker.metric('inorder_dead_letters_total', { reason: 'entity_parked' })) === 3, {
    what: 'three followers',
  });
  await reply(send({ entityId: 'd', sequence: 1, type: 'works' }));
});

test('an UnavailableError is no fault of the event: it is tried beyond the attempts', async (t) => {
  const { send, reply } = await setUp(t);
  const answer = await reply(send({ entityId: 'a', sequence: 1, type: 'away-six-times' }));
  assert.deepEqual(answer, { key: 'job:a:1', attempt: 7, run: 7, type: 'away-six-times' });
});

test('handlers of different entities run at the same time, those of one entity one after the other', async (t) => {
  const { send, reply, replies } = await setUp(t, { HANDLER_TIMEOUT_MS: '20000' });
  const slow = send({ entityId: 'slow', sequence: 1, type: 'slow' });
  const behind = send({ entityId: 'slow', sequence: 2, type: 'works' });
  const quick = send({ entityId: 'quick', sequence: 1, type: 'works' });
  await Promise.all([slow, behind, quick].map(reply));
  assert.deepEqual([...replies.keys()], [quick, slow, behind], 'in the order in which they were answered');
});

test('events without a sequence are processed in order of arrival and once per id when UNSEQUENCED=process', async (t) => {
  const { worker, send, reply } = await setUp(t, { UNSEQUENCED: 'process' });
  const first = await reply(send({ entityId: 'a', type: 'works', id: 'one' }));
  assert.deepEqual(first, { key: 'job:a:one', attempt: 1, run: 1, type: 'works' });
  await reply(send({ entityId: 'a', type: 'works', id: 'two' }));
  assert.deepEqual(await reply(send({ entityId: 'a', type: 'works', id: 'one' })), first, 'a duplicate gets the remembered result');
  await waitFor(async () => (await worker.metric('inorder_events_total', { outcome: 'duplicate' })) === 1, { what: 'a duplicate' });
  assert.equal(await worker.metric('inorder_events_total', { outcome: 'applied' }), 2);
});

test('a state over its limit and a broken evolve are dead-lettered and park only their entity', async (t) => {
  const { send, store, parkedReason } = await setUp(t, { MAX_STATE_BYTES: '1024' });
  const grow = (entityId: string, sequence: number, bytes: number) =>
    send({ entityType: 'growing', entityId, sequence, type: 'Grown', data: { text: 'x'.repeat(bytes) } });
  grow('large', 1, 100);
  grow('large', 2, 900);
  grow('large', 3, 900);
  send({ entityType: 'growing', entityId: 'broken', sequence: 1, type: 'Broken' });
  send({ entityType: 'nobody', entityId: 'unknown', sequence: 1, type: 'Any' });
  await waitFor(async () => (await parkedReason('large', 'growing')) === 'state_too_large', { what: 'the large one parked' });
  await waitFor(async () => (await parkedReason('broken', 'growing')) === 'handler_failed', { what: 'the broken one parked' });
  await waitFor(async () => (await parkedReason('unknown', 'nobody')) === 'no_processor', { what: 'the unknown one parked' });
  const [large] = await store.load([{ entityType: 'growing', entityId: 'large' }]);
  assert.equal(large?.status === 'ok' && large.snapshot.version, 2);
});

test('a memory alarm of the broker stops replies and no acknowledgement', async (t) => {
  const node = await RabbitNode.start();
  const { worker, stream, send, reply } = await setUp(t, { HANDLER_TIMEOUT_MS: '20000' }, node);
  // After the connections to it.
  t.after(() => node.stop());
  const count = 4;
  const firstReply = reply(send({ entityId: 'a', sequence: 1, type: 'slow' }));
  for (let sequence = 2; sequence <= count; sequence++) send({ entityId: 'a', sequence, type: 'slow' });
  await firstReply;
  await node.ctl('set_vm_memory_high_watermark', 'absolute', '1');
  await waitFor(async () => (await worker.metric('inorder_events_total', { outcome: 'applied' })) === count, {
    what: 'all applied',
    timeoutMs: 30_000,
  });
  const kept = async () =>
    (await node.ctl('-q', 'list_queues', '--no-table-headers', 'name', 'messages')).match(
      new RegExp(`^${stream}.shard.000\\s+(\\d+)`, 'm'),
    )?.[1];
  await waitFor(async () => (await kept()) === '0', { what: 'all acknowledged', timeoutMs: 20_000 });
});

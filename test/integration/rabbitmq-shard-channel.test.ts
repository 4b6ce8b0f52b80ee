/** The consumer of one shard on a real broker: generations, batches, and every way in which a channel ends. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import {
  deleteAfterwards,
  KeptLog,
  RecordedChannel,
  sendNumbers,
  shardArguments,
  useConnection,
  useRawChannel,
} from '../support/rabbitmq.ts';
import { uniqueStream, useRabbitNode, useServices, waitFor } from '../support/services.ts';
import { useTcpProxy } from '../support/tcp-proxy.ts';

async function setUp(t: TestContext, url?: string) {
  const amqpUrl = url ?? (await useServices(t)).amqpUrl;
  const queue = `${uniqueStream('channel')}.shard.000`;
  const raw = await useRawChannel(t, amqpUrl);
  await raw.assertQueue(queue, { durable: true, arguments: shardArguments });
  deleteAfterwards(t, amqpUrl, [queue]);
  const log = new KeptLog();
  const connection = useConnection(t, amqpUrl, log, `test ${queue}`);
  return { amqpUrl, queue, raw, log, connection };
}

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index);

test('what lies in the queue arrives in order, in batches, with tags from 1 and its bytes and properties', async (t) => {
  const { queue, raw, log, connection } = await setUp(t);
  raw.sendToQueue(queue, Buffer.from('0'), {
    persistent: true,
    contentType: 'application/json',
    contentEncoding: 'identity',
    messageId: 'm-1',
    type: 'OrderCreated',
    timestamp: 1_700_000_000,
    replyTo: 'answers',
    correlationId: 'c-1',
    headers: { traceparent: '00-1' },
  });
  await sendNumbers(raw, queue, 1, 499);
  const recorded = await RecordedChannel.use(t, connection, queue, log, 1_000);
  await recorded.untilDelivered(500);
  assert.deepEqual(recorded.numbers(), numbers(0, 499));
  assert.deepEqual(
    recorded.deliveries().map(({ tag }) => tag),
    numbers(1, 500),
  );
  assert.ok(recorded.batches.length <= 100, `${recorded.batches.length} batches for 500 deliveries`);
  assert.ok(recorded.batches.every(({ deliveries }) => deliveries.length > 0));
  const { message, redelivered } = recorded.deliveries()[0]!;
  assert.equal(redelivered, false);
  assert.deepEqual(
    { ...message, body: Buffer.from(message.body).toString() },
    {
      body: '0',
      routingKey: queue,
      contentType: 'application/json',
      contentEncoding: 'identity',
      messageId: 'm-1',
      type: 'OrderCreated',
      timestamp: 1_700_000_000,
      replyTo: 'answers',
      correlationId: 'c-1',
      headers: { traceparent: '00-1' },
    },
  );
});

test('a single event on an idle queue is handed on without waiting for company', async (t) => {
  const { queue, raw, log, connection } = await setUp(t);
  const recorded = await RecordedChannel.use(t, connection, queue, log);
  for (const n of [1, 2, 3]) {
    await sendNumbers(raw, queue, n, n);
    await recorded.untilDelivered(n);
    recorded.of(recorded.generation).ack(n, false);
  }
  assert.deepEqual(
    recorded.batches.map(({ deliveries }) => deliveries.length),
    [1, 1, 1],
  );
});

test('no more is delivered than the prefetch allows until something is settled', async (t) => {
  const { queue, raw, log, connection } = await setUp(t);
  await sendNumbers(raw, queue, 1, 10);
  const recorded = await RecordedChannel.use(t, connection, queue, log, 4);
  await recorded.untilDelivered(4);
  assert.equal(await recorded.of(1).isAlive(), true);
  assert.deepEqual(recorded.numbers(), [1, 2, 3, 4]);
  recorded.of(1).ack(3, true);
  await recorded.untilDelivered(7);
  assert.equal(await recorded.of(1).isAlive(), true);
  assert.deepEqual(recorded.numbers(), numbers(1, 7));
});

test('an abandoned generation gives its deliveries to the next one, and nothing said to the old one has an effect', async (t) => {
  const { queue, raw, log, connection } = await setUp(t);
  await sendNumbers(raw, queue, 1, 5);
  const recorded = await RecordedChannel.use(t, connection, queue, log);
  await recorded.untilDelivered(5);
  recorded.of(1).ack(2, true);
  recorded.of(1).abandon(new Error('fenced'));
  assert.deepEqual(
    recorded.lost.map(({ generation, cause }) => [generation, cause.message]),
    [[1, 'fenced']],
  );
  await recorded.untilOpen(2);
  await recorded.untilDelivered(3, 2);
  // Tag 3 of the first channel was event 3; on the second it is event 5.
  recorded.of(1).ack(3, true);
  recorded.of(1).reject(1);
  recorded.of(1).abandon(new Error('late'));
  assert.equal(await recorded.of(1).isAlive(), false);
  assert.equal(await recorded.of(2).isAlive(), true);
  assert.deepEqual(recorded.numbers(2), [3, 4, 5]);
  assert.deepEqual(
    recorded.deliveries(2).map(({ tag, redelivered }) => [tag, redelivered]),
    [
      [1, true],
      [2, true],
      [3, true],
    ],
  );
  await recorded.channel.stop();
  await waitFor(async () => (await raw.checkQueue(queue)).messageCount === 3, { what: 'the three unsettled in the queue' });
  assert.deepEqual(
    recorded.calls.filter((call) => !call.startsWith('delivered')),
    ['opened 1', 'lost 1', 'opened 2'],
  );
});

test('a bad acknowledgement costs its own channel and no other one of the connection', async (t) => {
  const { amqpUrl, queue, raw, log, connection } = await setUp(t);
  const other = `${queue}.other`;
  await raw.assertQueue(other, { durable: true, arguments: shardArguments });
  deleteAfterwards(t, amqpUrl, [other]);
  const bystander = await RecordedChannel.use(t, connection, other, log);
  const recorded = await RecordedChannel.use(t, connection, queue, log);
  recorded.of(1).ack(77, false);
  await recorded.untilOpen(2);
  assert.match(recorded.lost[0]?.cause.message ?? '', /unknown delivery tag 77/);
  await sendNumbers(raw, other, 1, 3);
  await bystander.untilDelivered(3);
  bystander.of(1).ack(3, true);
  assert.equal(await bystander.of(1).isAlive(), true);
  assert.deepEqual(
    bystander.calls.filter((call) => !call.startsWith('delivered')),
    ['opened 1'],
  );
  assert.equal(connection.connected, true);
});

test('a channel that another user of the connection breaks takes none of ours with it', async (t) => {
  const { queue, raw, log, connection } = await setUp(t);
  const recorded = await RecordedChannel.use(t, connection, queue, log);
  const stranger = await (await connection.ready()).createChannel();
  const broken = new Promise((resolve) => stranger.on('error', resolve));
  await stranger.checkQueue(`${queue}.missing`).catch(() => undefined);
  await broken;
  await sendNumbers(raw, queue, 1, 1);
  await recorded.untilDelivered(1);
  assert.deepEqual(recorded.lost, []);
});

test('a queue deleted under its consumer is told once, and consumed again when it is back', async (t) => {
  const { queue, raw, log, connection } = await setUp(t);
  const recorded = await RecordedChannel.use(t, connection, queue, log);
  await raw.deleteQueue(queue);
  await waitFor(() => recorded.lost.length > 0, { what: 'the loss' });
  await waitFor(() => log.text.includes(`there is no queue ${queue}: run`), { what: 'a clear word about the missing queue' });
  assert.deepEqual(recorded.opened, [1], 'a channel that cannot consume does not count as open');
  await raw.assertQueue(queue, { durable: true, arguments: shardArguments });
  await recorded.untilOpen(2);
  await sendNumbers(raw, queue, 1, 1);
  await recorded.untilDelivered(1);
  assert.equal(recorded.lost.length, 1);
  assert.match(recorded.lost[0]!.cause.message, /cancelled the consumer/);
  assert.equal(recorded.batches[0]?.generation, recorded.opened[1]);
});

test('acknowledging while the channel is being closed by the broker throws nothing', async (t) => {
  const { queue, raw, log, connection } = await setUp(t);
  await sendNumbers(raw, queue, 1, 50);
  const recorded = await RecordedChannel.use(t, connection, queue, log, 50);
  await recorded.untilDelivered(50);
  recorded.of(1).ack(99, false);
  // Every turn of the loop until the loss is told and beyond it: some of them meet a channel that is closing.
  for (let tag = 1; tag <= 50; tag++) {
    recorded.of(1).ack(tag, false);
    recorded.of(1).reject(tag);
    await new Promise(setImmediate);
  }
  await recorded.untilOpen(2);
  assert.equal(recorded.lost.length, 1);
});

test('a round trip ends behind everything that the broker had sent before its answer', async (t) => {
  const { amqpUrl, queue, raw, log } = await setUp(t);
  const proxy = await useTcpProxy(t, amqpUrl);
  const recorded = await RecordedChannel.use(t, useConnection(t, proxy.through(amqpUrl), log), queue, log);
  let last = 0;
  for (const sliceBytes of [Infinity, 7]) {
    proxy.slice(sliceBytes);
    proxy.hold('toClient', true);
    await sendNumbers(raw, queue, last + 1, last + 50);
    await waitFor(async () => (await raw.checkQueue(queue)).messageCount === 0, { what: 'everything on its way' });
    const turn = recorded.of(1).roundTrip();
    proxy.hold('toClient', false);
    assert.equal(await turn, true);
    await new Promise(setImmediate);
    last += 50;
    assert.deepEqual(recorded.numbers(), numbers(1, last));
  }
});

test('a round trip over a channel that is lost, before or meanwhile, says so', async (t) => {
  const { amqpUrl, queue, log } = await setUp(t);
  const proxy = await useTcpProxy(t, amqpUrl);
  const recorded = await RecordedChannel.use(t, useConnection(t, proxy.through(amqpUrl), log), queue, log);
  proxy.hold('toClient', true);
  const cutOff = recorded.of(1).roundTrip();
  proxy.cut();
  await proxy.heal();
  assert.equal(await cutOff, false);
  await recorded.untilOpen(2);
  assert.equal(await recorded.of(1).roundTrip(), false);
  const abandoned = recorded.of(2).roundTrip();
  recorded.of(2).abandon(new Error('fenced'));
  assert.equal(await abandoned, false);
});

test('stopping gives what is unsettled to the standby, from the head and in order, before anything new', async (t) => {
  const { amqpUrl, queue, raw, log, connection } = await setUp(t);
  await sendNumbers(raw, queue, 1, 8);
  const active = await RecordedChannel.use(t, connection, queue, log, 5);
  await active.untilDelivered(5);
  const standby = await RecordedChannel.use(t, useConnection(t, amqpUrl, log), queue, log, 100);
  assert.deepEqual(standby.numbers(), []);
  active.of(1).ack(2, true);
  await active.untilDelivered(7);
  const stopped = active.channel.stop();
  await sendNumbers(raw, queue, 9, 12);
  await stopped;
  await standby.untilDelivered(10);
  assert.deepEqual(standby.numbers(), numbers(3, 12));
  assert.deepEqual(
    active.calls.filter((call) => !call.startsWith('delivered')),
    ['opened 1'],
    'stopping is no loss',
  );
});

test('stopping right after starting, and twice, leaves no consumer behind', async (t) => {
  const { queue, raw, log, connection } = await setUp(t);
  await connection.ready();
  const recorded = new RecordedChannel(connection, queue, log);
  recorded.channel.start();
  await recorded.channel.stop();
  await recorded.channel.stop();
  assert.equal((await raw.checkQueue(queue)).consumerCount, 0);
  assert.deepEqual(recorded.calls, []);
});

test('a closed connection is one loss, and its deliveries come again in order on a new generation', async (t) => {
  const node = await useRabbitNode(t);
  const { queue, raw, log, connection } = await setUp(t, node.amqpUrl);
  await sendNumbers(raw, queue, 1, 6);
  const recorded = await RecordedChannel.use(t, connection, queue, log);
  await recorded.untilDelivered(6);
  recorded.of(1).ack(2, true);
  assert.equal(await recorded.of(1).isAlive(), true);
  await node.ctl('close_all_connections', 'maintenance');
  await recorded.untilDelivered(4, 2);
  assert.deepEqual(recorded.numbers(2), [3, 4, 5, 6]);
  assert.deepEqual(
    recorded.lost.map(({ generation }) => generation),
    [1],
  );
  assert.match(log.text, /maintenance/);
});

test('a broker that is stopped and started again, and one that is killed, come back to every unsettled delivery', async (t) => {
  const node = await useRabbitNode(t);
  const { queue, raw, log, connection } = await setUp(t, node.amqpUrl);
  await sendNumbers(raw, queue, 1, 6);
  const recorded = await RecordedChannel.use(t, connection, queue, log);
  await recorded.untilDelivered(6);
  recorded.of(1).ack(1, false);
  assert.equal(await recorded.of(1).isAlive(), true);
  await node.restart();
  await recorded.untilOpen(2, 60_000);
  await recorded.untilDelivered(5, recorded.generation);
  assert.deepEqual(recorded.numbers(recorded.generation), [2, 3, 4, 5, 6]);
  await node.kill();
  await waitFor(() => !connection.connected, { what: 'the loss noticed' });
  const before = recorded.generation;
  await node.restart();
  await waitFor(() => recorded.generation > before, { what: 'a new generation', timeoutMs: 60_000 });
  await recorded.untilDelivered(5, recorded.generation);
  assert.deepEqual(recorded.numbers(recorded.generation), [2, 3, 4, 5, 6]);
  assert.equal(recorded.lost.length, recorded.opened.length - 1);
});

test('a channel on a connection that answers nothing any more is not alive', async (t) => {
  const node = await useRabbitNode(t);
  const { queue, log, connection } = await setUp(t, node.amqpUrl);
  const recorded = await RecordedChannel.use(t, connection, queue, log);
  assert.equal(await recorded.of(recorded.generation).isAlive(), true);
  const before = recorded.generation;
  await node.suspend();
  t.after(() => node.resume());
  assert.equal(await recorded.of(before).isAlive(), false);
  node.resume();
  await waitFor(() => recorded.of(recorded.generation).isAlive(), { what: 'an answer again', timeoutMs: 60_000 });
});

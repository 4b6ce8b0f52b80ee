/** The publisher on a real broker: order over every loss, and one outcome for each event whatever happens. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type amqp from 'amqplib';
import { createAmqpPublisher, type AmqpPublisher, type PublishOutcome, type PublisherOptions } from '../../src/rabbitmq/publisher.ts';
import { KeptLog, RecordedChannel, sendNumbers, useConnection, useRawChannel } from '../support/rabbitmq.ts';
import { uniqueStream, useRabbitNode, useServices, waitFor } from '../support/services.ts';
import { useTcpProxy } from '../support/tcp-proxy.ts';

interface Bench {
  readonly publisher: AmqpPublisher;
  readonly raw: amqp.ConfirmChannel;
  readonly exchange: string;
  readonly queue: string;
  readonly log: KeptLog;
}

/** A topic exchange with one quorum queue bound to `entity.#`, and a publisher that reaches it by `through`. */
async function setUp(
  t: TestContext,
  options: Partial<PublisherOptions> & { readonly through?: string; readonly url?: string } = {},
): Promise<Bench> {
  const url = options.url ?? (await useServices(t)).amqpUrl;
  const exchange = uniqueStream('publisher');
  const queue = `${exchange}.queue`;
  const raw = await useRawChannel(t, url);
  await raw.assertExchange(exchange, 'topic', { durable: true });
  await raw.assertQueue(queue, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  await raw.bindQueue(queue, exchange, 'entity.#');
  const log = new KeptLog();
  const connection = useConnection(t, options.through ?? url, log);
  const publisher = createAmqpPublisher({ connection, exchange, log, ...options });
  t.after(() => publisher.close(0));
  return { publisher, raw, exchange, queue, log };
}

const event = (n: number, routingKey = `entity.${n % 7}`) => ({
  routingKey,
  body: Buffer.from(String(n)),
  properties: { messageId: `m-${n}`, headers: {} },
});

const statuses = async (outcomes: readonly Promise<PublishOutcome>[]) => (await Promise.all(outcomes)).map(({ status }) => status);
const range = (count: number) => Array.from({ length: count }, (_, n) => n);

/** Takes everything out of the queue: the numbers in their order. */
async function drain(raw: amqp.Channel, queue: string, untilDistinct: number): Promise<number[]> {
  const numbers: number[] = [];
  const distinct = new Set<number>();
  const onMessage = (message: amqp.ConsumeMessage | null) => {
    if (message === null) return;
    numbers.push(Number(message.content.toString()));
    distinct.add(numbers.at(-1)!);
    raw.ack(message);
  };
  const { consumerTag } = await raw.consume(queue, onMessage);
  const what = `${untilDistinct} distinct events in ${queue}`;
  await waitFor(async () => distinct.size >= untilDistinct && (await raw.checkQueue(queue)).messageCount === 0, {
    what,
    timeoutMs: 30_000,
  });
  await raw.cancel(consumerTag);
  return numbers;
}

function firstOccurrences(numbers: readonly number[]): number[] {
  return [...new Set(numbers)];
}

test('every event is confirmed, persistent, unchanged, and in the queue once and in order', async (t) => {
  const { publisher, raw, queue } = await setUp(t);
  const outcomes = range(3_000).map((n) => publisher.publish(event(n)));
  assert.deepEqual(new Set(await statuses(outcomes)), new Set(['confirmed']));
  assert.equal(publisher.outstanding, 0);
  const first = await raw.get(queue);
  assert.ok(first !== false);
  assert.equal(first.properties.deliveryMode, 2);
  assert.equal(first.properties.messageId, 'm-0');
  const { 'x-delivery-count': _, ...headers } = first.properties.headers ?? {};
  assert.deepEqual(headers, {}, 'nothing of the publisher is added to a message');
  raw.ack(first);
  assert.deepEqual(await drain(raw, queue, 2_999), range(3_000).slice(1));
});

test('over connections that are lost again and again, what is sent again never overtakes', async (t) => {
  const { amqpUrl } = await useServices(t);
  const proxy = await useTcpProxy(t, amqpUrl);
  // A loss is no refusal: otherwise the first would make events fail here.
  const { publisher, raw, queue } = await setUp(t, { through: proxy.through(amqpUrl), maxOutstanding: 200, maxRefusals: 1 });
  const total = 6_000;
  const outcomes: Promise<PublishOutcome>[] = [];
  let cuts = 0;
  for (let n = 0; n < total; n++) {
    await publisher.room();
    outcomes.push(publisher.publish(event(n)));
    // Alternately in the middle of a frame to the broker, and of the confirms that come back.
    if (n % 1_000 === 500) proxy.cutAfterBytes(cuts++ % 2 === 0 ? 'toServer' : 'toClient', 37);
  }
  assert.deepEqual(new Set(await statuses(outcomes)), new Set(['confirmed']));
  assert.ok(proxy.acceptedConnections >= cuts, `${proxy.acceptedConnections} connections for ${cuts} cuts`);
  const numbers = await drain(raw, queue, total);
  assert.ok(numbers.length > total, 'some were sent again although the broker had them');
  assert.deepEqual(firstOccurrences(numbers), range(total));
});

test('confirms that are lost with the connection cost a second sending and no outcome', async (t) => {
  const { amqpUrl } = await useServices(t);
  const proxy = await useTcpProxy(t, amqpUrl);
  const { publisher, raw, queue } = await setUp(t, { through: proxy.through(amqpUrl) });
  assert.deepEqual(await publisher.publish(event(0)), { status: 'confirmed' });
  proxy.hold('toClient', true);
  const outcomes = range(50).map((n) => publisher.publish(event(n + 1)));
  await waitFor(async () => (await raw.checkQueue(queue)).messageCount === 51, { what: 'all in the queue' });
  assert.equal(publisher.outstanding, 50);
  proxy.cut();
  await proxy.heal();
  assert.deepEqual(new Set(await statuses(outcomes)), new Set(['confirmed']));
  assert.deepEqual(firstOccurrences(await drain(raw, queue, 51)), range(51));
});

test('connections closed by an operator, and a broker that restarts, are survived under load', async (t) => {
  const node = await useRabbitNode(t);
  const { publisher, queue, log } = await setUp(t, { url: node.amqpUrl, maxOutstanding: 100 });
  const outcomes: Promise<PublishOutcome>[] = [];
  let stop = false;
  const load = (async () => {
    for (let n = 0; !stop; n++) {
      await publisher.room();
      outcomes.push(publisher.publish(event(n)));
    }
  })();
  await waitFor(() => outcomes.length > 1_000, { what: 'load' });
  await node.ctl('close_all_connections', 'maintenance');
  const before = outcomes.length;
  await waitFor(() => outcomes.length > before + 500, { what: 'load after the connections were closed', timeoutMs: 30_000 });
  await node.restart();
  const afterwards = outcomes.length;
  await waitFor(() => outcomes.length > afterwards + 500, { what: 'load after the restart', timeoutMs: 60_000 });
  stop = true;
  await load;
  assert.deepEqual(new Set(await statuses(outcomes)), new Set(['confirmed']));
  const numbers = await drain(await useRawChannel(t, node.amqpUrl), queue, outcomes.length);
  assert.deepEqual(firstOccurrences(numbers), range(outcomes.length));
  assert.match(log.text, /maintenance/);
});

test('events that no queue takes are told apart from those around them, also when bodies and keys repeat', async (t) => {
  const { publisher, raw, queue } = await setUp(t);
  const outcomes = range(300).map((n) => {
    if (n % 3 === 0) return publisher.publish(event(n, 'nobody'));
    return publisher.publish({ routingKey: n % 3 === 1 ? 'nobody' : 'entity.1', body: Buffer.from('same'), properties: {} });
  });
  const found = await statuses(outcomes);
  assert.deepEqual(
    found,
    range(300).map((n) => (n % 3 === 2 ? 'confirmed' : 'returned')),
  );
  assert.deepEqual(await outcomes[0], { status: 'returned', detail: 'NO_ROUTE' });
  assert.equal((await raw.checkQueue(queue)).messageCount, 100);
});

test('a memory alarm makes publishing wait and acknowledgements on another connection flow; its end lets all through', async (t) => {
  const node = await useRabbitNode(t);
  const proxy = await useTcpProxy(t, node.amqpUrl);
  const { publisher, raw, queue, log } = await setUp(t, { url: node.amqpUrl, through: proxy.through(node.amqpUrl) });
  assert.deepEqual(await publisher.publish(event(0)), { status: 'confirmed' });
  const shard = `${queue}.shard`;
  await raw.assertQueue(shard, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  await sendNumbers(raw, shard, 1, 3);
  const consumer = await RecordedChannel.use(t, useConnection(t, node.amqpUrl, log), shard, log);
  await consumer.untilDelivered(3);
  await node.ctl('set_vm_memory_high_watermark', 'absolute', '1');
  const outcomes = [publisher.publish(event(1))];
  await waitFor(() => log.text.includes('takes no publishes'), { what: 'the broker blocking the publisher' });
  const sentBytes = proxy.forwardedBytes('toServer');
  outcomes.push(...range(200).map((n) => publisher.publish(event(n + 2))));
  consumer.of(1).ack(3, true);
  await waitFor(async () => Number(await unacked(node.ctl.bind(node), shard)) === 0, { what: 'the acknowledgement' });
  assert.ok(publisher.outstanding >= 200, 'at most the event that met the alarm has come through');
  assert.ok(proxy.forwardedBytes('toServer') - sentBytes < 100, 'nothing but heartbeats is sent to a broker that does not read');
  await node.ctl('set_vm_memory_high_watermark', '0.6');
  assert.deepEqual(new Set(await statuses(outcomes)), new Set(['confirmed']));
  const reader = await useRawChannel(t, node.amqpUrl);
  assert.deepEqual(firstOccurrences(await drain(reader, queue, 202)), range(202));
});

async function unacked(ctl: (...args: string[]) => Promise<string>, queue: string): Promise<string | undefined> {
  const lines = (await ctl('list_queues', 'name', 'messages')).split('\n').map((line) => line.split('\t'));
  return lines.find(([name]) => name === queue)?.[1];
}

test('the outbox has room below its limits only, in events and in bytes, and no more than that is in flight', async (t) => {
  const { amqpUrl } = await useServices(t);
  const proxy = await useTcpProxy(t, amqpUrl);
  const { publisher, raw, queue } = await setUp(t, { through: proxy.through(amqpUrl), maxOutstanding: 10, maxOutboxBytes: 1_000 });
  assert.deepEqual(await publisher.publish(event(0)), { status: 'confirmed' });
  proxy.hold('toClient', true);
  let accepted = 0;
  const outcomes: Promise<PublishOutcome>[] = [];
  const producer = (async () => {
    for (let n = 1; n <= 30; n++) {
      await publisher.room();
      outcomes.push(publisher.publish(event(n)));
      accepted = n;
    }
  })();
  await waitFor(async () => (await raw.checkQueue(queue)).messageCount === 11, { what: 'ten more in the queue' });
  assert.equal(accepted, 10);
  // What comes without waiting for room is kept and not sent before its turn.
  outcomes.push(publisher.publish({ ...event(31), body: Buffer.alloc(2_000, '7') }));
  proxy.hold('toClient', false);
  await producer;
  await statuses(outcomes);
  proxy.hold('toClient', true);
  const large = publisher.publish({ ...event(32), body: Buffer.alloc(1_000, '8') });
  let hasRoom = false;
  const room = publisher.room().then(() => (hasRoom = true));
  await waitFor(async () => (await raw.checkQueue(queue)).messageCount === 33, { what: 'the large one in the queue' });
  assert.equal(hasRoom, false);
  proxy.hold('toClient', false);
  await Promise.all([large, room]);
});

test('a full queue that refuses is asked again until it takes, and every event gets through', async (t) => {
  const { publisher, raw, exchange, log } = await setUp(t);
  const small = `${exchange}.small`;
  await raw.assertQueue(small, { durable: true, arguments: { 'x-max-length': 2, 'x-overflow': 'reject-publish' } });
  await raw.bindQueue(small, exchange, 'small.#');
  const outcomes = range(6).map((n) => publisher.publish(event(n, 'small.1')));
  await waitFor(() => log.text.includes('refused what was published'), { what: 'a refusal' });
  const numbers = await drain(raw, small, 6);
  assert.deepEqual(await statuses(outcomes), Array(6).fill('confirmed'));
  // After the refusal nothing overtakes the first that was refused any more.
  assert.deepEqual(firstOccurrences(numbers), range(6));
});

test('an event that is refused too often fails alone, with what the broker said', async (t) => {
  const { publisher, raw, exchange, queue } = await setUp(t, { maxRefusals: 2 });
  const full = `${exchange}.full`;
  await raw.assertQueue(full, { durable: true, arguments: { 'x-max-length': 1, 'x-overflow': 'reject-publish' } });
  await raw.bindQueue(full, exchange, 'full.#');
  const outcomes = [event(0, 'full.1'), event(1, 'full.1'), event(2), event(3)].map((each) => publisher.publish(each));
  assert.deepEqual(await statuses(outcomes), ['confirmed', 'failed', 'confirmed', 'confirmed']);
  const failed = await outcomes[1]!;
  assert.match(failed.status === 'failed' ? failed.error.message : '', /^the broker refused the event 2 times \(nack\)/);
  assert.deepEqual(firstOccurrences(await drain(raw, queue, 2)), [2, 3]);
});

test('of many in flight the one event that is too large for the broker is found, and fails alone', async (t) => {
  const node = await useRabbitNode(t, { configLines: ['max_message_size = 10000'] });
  const { publisher, raw, queue } = await setUp(t, { url: node.amqpUrl });
  const outcomes = range(60).map((n) => publisher.publish(n === 30 ? { ...event(n), body: Buffer.alloc(20_000) } : event(n)));
  assert.deepEqual(
    await statuses(outcomes),
    range(60).map((n) => (n === 30 ? 'failed' : 'confirmed')),
  );
  const failed = await outcomes[30]!;
  assert.match(failed.status === 'failed' ? failed.error.message : '', /message size 20000 is larger than configured max size 10000/);
  assert.deepEqual(
    firstOccurrences(await drain(raw, queue, 59)),
    range(60).filter((n) => n !== 30),
  );
});

test('what cannot be put into frames fails at once, and what comes after it does not wait', async (t) => {
  const { publisher } = await setUp(t);
  const outcomes = [
    publisher.publish(event(0)),
    publisher.publish(event(1, `entity.${'x'.repeat(300)}`)),
    publisher.publish({ ...event(2), properties: { headers: { h: Symbol('x') } } }),
    publisher.publish({ ...event(3), properties: { headers: { h: 'x'.repeat(200_000) } } }),
    publisher.publish(event(4)),
  ];
  assert.deepEqual(await statuses(outcomes), ['confirmed', 'failed', 'failed', 'failed', 'confirmed']);
});

test('an exchange that is deleted is waited for, and all is there when it comes back in time', async (t) => {
  const { publisher, raw, exchange, queue, log } = await setUp(t);
  assert.deepEqual(await publisher.publish(event(0)), { status: 'confirmed' });
  await raw.deleteExchange(exchange);
  const outcomes = range(20).map((n) => publisher.publish(event(n + 1)));
  await waitFor(() => log.text.includes(`no exchange '${exchange}'`), { what: 'a word about the exchange' });
  await raw.assertExchange(exchange, 'topic', { durable: true });
  await raw.bindQueue(queue, exchange, 'entity.#');
  // Between the two an event may have met the exchange without its binding.
  assert.ok((await statuses(outcomes)).every((status) => status !== 'failed'));
});

test('an exchange that stays away fails everything that waits, after the given number of attempts', async (t) => {
  const { publisher, raw, exchange } = await setUp(t, { maxRefusals: 2 });
  await raw.deleteExchange(exchange);
  const outcomes = range(20).map((n) => publisher.publish(event(n)));
  assert.deepEqual(new Set(await statuses(outcomes)), new Set(['failed']));
  const failed = await outcomes[19]!;
  assert.match(failed.status === 'failed' ? failed.error.message : '', /no exchange/);
});

test('closing waits for what is outstanding, gives up what is not confirmed in time, and takes nothing more', async (t) => {
  const { amqpUrl } = await useServices(t);
  const proxy = await useTcpProxy(t, amqpUrl);
  const first = await setUp(t, { through: proxy.through(amqpUrl) });
  const outcomes = range(100).map((n) => first.publisher.publish(event(n)));
  assert.deepEqual(await first.publisher.close(10_000), { unconfirmed: 0 });
  assert.deepEqual(new Set(await statuses(outcomes)), new Set(['confirmed']));
  assert.equal((await first.publisher.publish(event(100))).status, 'failed');

  const second = await setUp(t, { through: proxy.through(amqpUrl) });
  assert.deepEqual(await second.publisher.publish(event(0)), { status: 'confirmed' });
  await proxy.refuse(true);
  proxy.cut();
  const lost = range(5).map((n) => second.publisher.publish(event(n)));
  const closing = second.publisher.close(50);
  assert.deepEqual(await closing, { unconfirmed: 5 });
  assert.deepEqual(await second.publisher.close(), { unconfirmed: 5 }, 'a second call says the same');
  assert.deepEqual(new Set(await statuses(lost)), new Set(['failed']));
});

test('a publisher that is created while the broker is away sends everything, in order, once it is there', async (t) => {
  const { amqpUrl } = await useServices(t);
  const proxy = await useTcpProxy(t, amqpUrl);
  await proxy.refuse(true);
  const { publisher, raw, queue } = await setUp(t, { through: proxy.through(amqpUrl) });
  const outcomes = range(50).map((n) => publisher.publish(event(n)));
  await proxy.refuse(false);
  assert.deepEqual(new Set(await statuses(outcomes)), new Set(['confirmed']));
  assert.deepEqual(await drain(raw, queue, 50), range(50));
});

/**
 * What RabbitMQ 4 does otherwise than 3, and what both do alike because the topology says it (src/README.md, section 7). Each test has
 * the expectation of either version and runs on whichever is there; `test/support/in-debian-root.sh` brings the other one.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Channel, ConsumeMessage } from 'amqplib';
import { planTopology } from '../../src/rabbitmq/topology-plan.ts';
import { applyTopology } from '../../src/rabbitmq/topology.ts';
import { createAmqpPublisher } from '../../src/rabbitmq/publisher.ts';
import { runCommand } from '../support/command-process.ts';
import {
  deleteAfterwards,
  KeptLog,
  sendNumbers,
  shardArguments,
  useConnection,
  useRawChannel,
  useRawConnection,
} from '../support/rabbitmq.ts';
import { uniqueStream, useRabbitNode, useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { bodyOf } from '../support/trace.ts';

const quorum = { 'x-queue-type': 'quorum' };
const mebibyte = 1_048_576;

interface Reading {
  readonly channel: Channel;
  readonly tag: string;
  readonly messages: readonly ConsumeMessage[];
  /** Waits until so many have come. */
  until(count: number): Promise<void>;
  numbers(): readonly number[];
}

async function useBroker(t: TestContext, url?: string) {
  const amqpUrl = url ?? (await useServices(t)).amqpUrl;
  const connection = await useRawConnection(t, amqpUrl);
  const version = String(connection.connection.serverProperties.version).split('.').map(Number) as [number, number, number];
  const raw = await connection.createConfirmChannel();
  const name = uniqueStream('version');
  return {
    amqpUrl,
    version,
    isFour: version[0] >= 4,
    raw,
    name,
    ready: async (queue: string) => (await raw.checkQueue(queue)).messageCount,
    /** A queue with the numbers 1…count. */
    async filled(more: Readonly<Record<string, unknown>>, count: number): Promise<string> {
      await raw.assertQueue(name, { durable: true, arguments: { ...more } });
      deleteAfterwards(t, amqpUrl, [name]);
      await sendNumbers(raw, name, 1, count);
      return name;
    },
    async read(queue: string, { prefetch = 100, priority = 0 } = {}): Promise<Reading> {
      const channel = await connection.createChannel();
      channel.on('error', () => undefined);
      const messages: ConsumeMessage[] = [];
      await channel.prefetch(prefetch);
      const { consumerTag: tag } = await channel.consume(queue, (message) => void (message !== null && messages.push(message)), {
        priority,
      });
      return {
        channel,
        tag,
        messages,
        until: (count) => waitFor(() => messages.length >= count, { what: `${count} messages` }).then(() => undefined),
        numbers() {
          return messages.map(({ content }) => Number(content.toString()));
        },
      };
    },
  };
}

type Broker = Awaited<ReturnType<typeof useBroker>>;

async function useTopology(t: TestContext, { amqpUrl }: Pick<Broker, 'amqpUrl'>, shards = 1) {
  const stream = uniqueStream('version');
  const connection = useConnection(t, amqpUrl, new KeptLog());
  await applyTopology(connection, planTopology({ stream, shards, queueType: 'quorum', exchangeType: 'x-consistent-hash' }));
  return { stream, connection };
}

/**
 * Consumes all and closes the channel, again and again, as workers do that crash. Whether the messages were still there after so many
 * times; a queue that gave them up has dead-lettered them.
 */
async function surviveReturns({ raw, read, ready, name }: Broker, declared: Readonly<Record<string, unknown>>): Promise<boolean> {
  const [count, times] = [3, 25];
  const dead = `${name}.dead`;
  await raw.assertQueue(dead, { durable: true });
  await raw.assertQueue(name, {
    durable: true,
    arguments: { ...declared, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead },
  });
  await sendNumbers(raw, name, 1, count);
  for (let time = 1; time <= times; time++) {
    const reading = await read(name);
    await reading.until(count);
    assert.deepEqual(reading.numbers(), [1, 2, 3]);
    await reading.channel.close();
    const isGone = async () => (await ready(dead)) === count;
    await waitFor(async () => (await isGone()) || (await ready(name)) === count, { what: 'the messages, back or dead-lettered' });
    if (await isGone()) return false;
  }
  return true;
}

test('a queue that declares no delivery limit keeps what comes back on 3, and on 4 has dead-lettered it after twenty returns', async (t) => {
  const broker = await useBroker(t);
  deleteAfterwards(t, broker.amqpUrl, [broker.name, `${broker.name}.dead`]);
  assert.equal(await surviveReturns(broker, quorum), !broker.isFour);
});

test('the queues of a topology keep in order what comes back, however often, on every version', async (t) => {
  const broker = await useBroker(t);
  deleteAfterwards(t, broker.amqpUrl, [broker.name, `${broker.name}.dead`]);
  assert.equal(await surviveReturns(broker, shardArguments), true);
});

test('what is given back one by one goes behind all others on 3 where no delivery limit is declared, and to the head on 4', async (t) => {
  const broker = await useBroker(t);
  const queue = await broker.filled(quorum, 6);
  const reading = await broker.read(queue, { prefetch: 3 });
  await reading.until(3);
  for (const message of reading.messages.slice(0, 3)) reading.channel.nack(message);
  await reading.until(6);
  assert.deepEqual(reading.numbers().slice(3), broker.isFour ? [1, 2, 3] : [4, 5, 6]);
});

test('what is given back comes behind whatever else came back, and before what was never delivered, on every version', async (t) => {
  const broker = await useBroker(t);
  const queue = await broker.filled(shardArguments, 6);
  const before = await broker.read(queue, { prefetch: 4 });
  await before.until(4);
  await before.channel.close();
  await waitFor(async () => (await broker.ready(queue)) === 6, { what: 'all back' });
  const reading = await broker.read(queue, { prefetch: 2 });
  await reading.until(2);
  reading.channel.nack(reading.messages[0]!);
  await reading.until(3);
  reading.channel.ack(reading.messages[2]!, true);
  await reading.until(5);
  assert.deepEqual(reading.numbers(), [1, 2, 3, 4, 1]);
  reading.channel.ack(reading.messages[4]!, true);
  await reading.until(7);
  assert.deepEqual(reading.numbers().slice(5), [5, 6]);
});

test('a dead letter that nobody has read is marked as redelivered on 4, where it brings the count of its shard along', async (t) => {
  const broker = await useBroker(t);
  const { stream } = await useTopology(t, broker);
  const [shard, deadLetters] = [`${stream}.shard.000`, `${stream}.dead-letters`];
  broker.raw.publish(stream, 'a', Buffer.from('1'), { persistent: true });
  const consumer = await broker.read(shard);
  await consumer.until(1);
  assert.equal(consumer.messages[0]!.fields.redelivered, false);
  consumer.channel.reject(consumer.messages[0]!, false);
  const first = await broker.read(deadLetters);
  await first.until(1);
  assert.equal(first.messages[0]!.fields.redelivered, broker.isFour);
  await first.channel.close();
  const second = await broker.read(deadLetters);
  await second.until(1);
  const { fields, properties } = second.messages[0]!;
  assert.deepEqual([fields.redelivered, properties.headers?.['x-acquired-count'] ?? properties.headers?.['x-delivery-count']], [true, 1]);
});

test('messages of a priority above 4 overtake others in a queue that declares none on 4, and not on 3', async (t) => {
  const broker = await useBroker(t);
  const queue = await broker.filled(shardArguments, 4);
  for (const n of [5, 6]) broker.raw.sendToQueue(queue, Buffer.from(String(n)), { persistent: true, priority: 9 });
  for (const n of [7, 8]) broker.raw.sendToQueue(queue, Buffer.from(String(n)), { persistent: true, priority: 4 });
  await broker.raw.waitForConfirms();
  const reading = await broker.read(queue);
  await reading.until(8);
  const numbers = reading.numbers();
  const [place5, place1] = [numbers.indexOf(5), numbers.indexOf(1)];
  assert.equal(place5 < place1, broker.isFour, numbers.join(' '));
  assert.deepEqual(
    numbers.filter((n) => n !== 5 && n !== 6),
    [1, 2, 3, 4, 7, 8],
  );
});

test('events that overtake others by their priority are put in order, and so are their dead letters in a replay', async (t) => {
  const run = new StreamRun(t, 'priority', { ...(await useServices(t)), variables: { GAP_TIMEOUT_MS: '1000' } });
  await run.end(await run.worker());
  const channel = await run.channel();
  const publish = async (entityId: string, from: number, to: number) => {
    for (let sequence = from; sequence <= to; sequence++)
      channel.publish(run.stream, entityId, bodyOf({ entityId, sequence }), { persistent: true, priority: sequence % 3 === 0 ? 9 : 0 });
    await channel.waitForConfirms();
  };
  await publish('whole', 1, 60);
  await publish('broken', 2, 10);
  await run.worker();
  await run.untilApplied(60);
  await waitFor(async () => (await run.ready(run.deadLetters)) === 9, { what: 'what waits for the first event' });
  await publish('broken', 1, 1);
  await run.untilApplied(61);
  const replayed = await runCommand(['dead-letters', 'replay', '--all', '--yes'], {
    AMQP_URL: run.amqpUrl,
    REDIS_URL: run.redisUrl,
    STREAM: run.stream,
  });
  assert.equal(replayed.code, 0, replayed.stderr);
  await run.untilApplied(70);
  await run.assertNothingLeft();
});

test('a consumer of a higher priority takes a shard over on 4 once all is acknowledged, and waits its turn on 3', async (t) => {
  const broker = await useBroker(t);
  const queue = await broker.filled(shardArguments, 6);
  const first = await broker.read(queue, { prefetch: 3 });
  await first.until(3);
  const preferred = await broker.read(queue, { prefetch: 3, priority: 10 });
  first.channel.ack(first.messages[2]!, true);
  await (broker.isFour ? preferred : first).until(broker.isFour ? 3 : 6);
  assert.deepEqual(
    [first.numbers(), preferred.numbers()],
    broker.isFour
      ? [
          [1, 2, 3],
          [4, 5, 6],
        ]
      : [[1, 2, 3, 4, 5, 6], []],
  );
});

test('after a cancel the next consumer has what is unacknowledged behind it, and on a classic queue before 3.10.13 nothing at all', async (t) => {
  for (const type of ['quorum', 'classic']) {
    const broker = await useBroker(t);
    const queue = await broker.filled(
      { ...(type === 'quorum' ? shardArguments : { 'x-queue-type': type, 'x-single-active-consumer': true }) },
      6,
    );
    const [major, minor, patch] = broker.version;
    const isStuck = type === 'classic' && major === 3 && (minor < 10 || (minor === 10 && patch < 13));
    const first = await broker.read(queue, { prefetch: 3 });
    await first.until(3);
    const next = await broker.read(queue);
    await first.channel.cancel(first.tag);
    if (!isStuck) await next.until(3);
    await first.channel.close();
    await next.until(6);
    assert.deepEqual(next.numbers(), isStuck ? [1, 2, 3, 4, 5, 6] : [4, 5, 6, 1, 2, 3], type);
  }
});

test('a message beyond 16 MiB is refused by name on 4, where that is the default, and costs no other; 3 takes it', async (t) => {
  const broker = await useBroker(t, (await useRabbitNode(t)).amqpUrl);
  const { stream, connection } = await useTopology(t, broker);
  const publisher = createAmqpPublisher({ connection, exchange: stream, log: new KeptLog() });
  t.after(() => publisher.close());
  const publish = (bytes: number) => publisher.publish({ routingKey: 'a', body: Buffer.alloc(bytes), properties: {} });
  const outcomes = await Promise.all([1, 16 * mebibyte, 16 * mebibyte + 1, 1].map(publish));
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['confirmed', 'confirmed', broker.isFour ? 'failed' : 'confirmed', 'confirmed'],
  );
  const [, , beyond] = outcomes;
  if (beyond?.status === 'failed') assert.match(beyond.error.message, /size 16777217 is larger than configured max size 16777216/);
});

/** The shard that each of 200 keys is routed to; nothing is left in the queues. */
async function shardsOfKeys(t: TestContext, amqpUrl: string, stream: string, shards: number): Promise<ReadonlyMap<string, number>> {
  const channel = await useRawChannel(t, amqpUrl);
  const found = new Map<string, number>();
  for (let shard = 0; shard < shards; shard++) {
    const note = (message: ConsumeMessage | null) => void (message !== null && found.set(message.fields.routingKey, shard));
    await channel.consume(`${stream}.shard.00${shard}`, note, { noAck: true });
  }
  for (let key = 0; key < 200; key++) channel.publish(stream, `key-${key}`, Buffer.from('x'));
  await waitFor(() => found.size === 200, { what: 'every key to be routed' });
  await channel.close();
  return found;
}

test('a restart leaves every key a shard, perhaps another one; under Khepri, which has the ring on disk, all keep theirs', async (t) => {
  const shards = 8;
  const node = await useRabbitNode(t);
  const { isFour } = await useBroker(t, node.amqpUrl);
  const { stream } = await useTopology(t, node, shards);
  const before = await shardsOfKeys(t, node.amqpUrl, stream, shards);
  assert.equal(new Set(before.values()).size, shards);
  if (isFour) {
    // Its name for what is not stable has changed.
    const enable = (how: string) => node.ctl('enable_feature_flag', how, 'khepri_db');
    await enable('--experimental').catch(() => enable('--opt-in'));
    assert.match(await node.ctl('list_feature_flags'), /^khepri_db\s+enabled$/m);
    assert.deepEqual(await shardsOfKeys(t, node.amqpUrl, stream, shards), before, 'the ring moves to Khepri as it is');
  }
  await node.restart();
  const after = await shardsOfKeys(t, node.amqpUrl, stream, shards);
  t.diagnostic(`${[...after].filter(([key, shard]) => before.get(key) !== shard).length} of ${after.size} keys have another shard`);
  if (isFour) assert.deepEqual(after, before);
  assert.equal(new Set(after.values()).size, shards);
});

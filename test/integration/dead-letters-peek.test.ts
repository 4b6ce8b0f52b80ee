import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import amqp, { type ChannelModel, type ConfirmChannel, type ConsumeMessage } from 'amqplib';
import { peek, readQueue } from '../../src/dead-letters/queue-reading.ts';
import { UnavailableError } from '../../src/errors.ts';
import { systemTime, type Time } from '../../src/time.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';

interface Queue {
  readonly name: string;
  readonly connection: ChannelModel;
  readonly channel: ConfirmChannel;
  put(from: number, to: number): Promise<void>;
  ready(): Promise<number>;
  /** Takes everything out. */
  drain(): Promise<ConsumeMessage[]>;
}

/** A queue like the dead-letter queue: quorum, durable, with a delivery limit that no reader reaches. */
async function useQueue(t: TestContext): Promise<Queue> {
  const { amqpUrl } = await useServices(t);
  const name = uniqueStream('peek');
  const connection = await amqp.connect(amqpUrl);
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue(name, { durable: true, arguments: { 'x-queue-type': 'quorum', 'x-delivery-limit': 1_000_000 } });
  t.after(async () => {
    await channel.deleteQueue(name);
    await connection.close();
  });
  const ready = async () => (await channel.checkQueue(name)).messageCount;
  return {
    name,
    connection,
    channel,
    ready,
    async put(from, to) {
      for (let n = from; n <= to; n++) channel.publish('', name, Buffer.from(String(n)), { persistent: true });
      await channel.waitForConfirms();
    },
    async drain() {
      const count = await ready();
      const messages: ConsumeMessage[] = [];
      const draining = await connection.createChannel();
      await draining.consume(name, (message) => void (message !== null && messages.push(message)), { noAck: true });
      await waitFor(() => messages.length >= count, { what: `${count} messages` });
      await draining.close();
      return messages;
    },
  };
}

const numbersOf = (messages: readonly ConsumeMessage[]) => messages.map(({ content }) => Number(content.toString()));
const upTo = (last: number) => Array.from({ length: last }, (_, index) => index + 1);

async function readAll(queue: Queue, options: { limit?: number; pageSize?: number } = {}): Promise<number[]> {
  const read: number[] = [];
  for await (const page of peek(queue.connection, { time: systemTime, queue: queue.name, patienceMs: 100, ...options }))
    read.push(...numbersOf(page));
  return read;
}

test('5,000 dead letters are read oldest first, and again, and lie there as before: same order, same count', async (t) => {
  const queue = await useQueue(t);
  await queue.put(1, 5_000);
  assert.deepEqual(await readAll(queue), upTo(5_000));
  assert.equal(await queue.ready(), 5_000);
  assert.deepEqual(await readAll(queue), upTo(5_000));
  assert.equal(await queue.ready(), 5_000);
  const messages = await queue.drain();
  assert.deepEqual(numbersOf(messages), upTo(5_000));
  // What cannot be hidden, and is documented: the flag, and the count of deliveries.
  assert.ok(messages.every(({ fields, properties }) => fields.redelivered && properties.headers?.['x-delivery-count'] === 2));
});

test('a reading never holds more than a page in memory', async (t) => {
  const queue = await useQueue(t);
  await queue.put(1, 100);
  const pages: number[] = [];
  for await (const page of peek(queue.connection, { time: systemTime, queue: queue.name, pageSize: 30 })) {
    pages.push(page.length);
    assert.equal(await queue.ready(), 100 - pages.reduce((sum, length) => sum + length, 0));
  }
  assert.deepEqual(pages, [30, 30, 30, 10]);
});

test('a reading that is broken off, by the reader or by its limit, gives everything back in order', async (t) => {
  const queue = await useQueue(t);
  await queue.put(1, 1_000);
  for await (const page of peek(queue.connection, { time: systemTime, queue: queue.name, pageSize: 50 }))
    if (numbersOf(page).includes(500)) break;
  assert.equal(await queue.ready(), 1_000);
  // Shorter than the one before it: the broker keeps what was returned apart from the rest.
  assert.deepEqual(await readAll(queue, { limit: 120, pageSize: 50 }), upTo(120));
  assert.deepEqual(await readAll(queue, { limit: 600, pageSize: 70 }), upTo(600));
  assert.deepEqual(await readAll(queue, { limit: 1 }), [1]);
  assert.equal(await queue.ready(), 1_000);
  assert.deepEqual(numbersOf(await queue.drain()), upTo(1_000));
});

test('of what is removed while the queue is read nothing is passed over, and the rest lies in its order', async (t) => {
  const queue = await useQueue(t);
  await queue.put(1, 1_000);
  const read: number[] = [];
  for await (const { messages, remove } of readQueue(queue.connection, { time: systemTime, queue: queue.name, pageSize: 90 })) {
    const numbers = numbersOf(messages);
    read.push(...numbers);
    // Some at once, some one by one and against the order of the page.
    for (const message of messages.toReversed()) {
      const number = numbersOf([message])[0]!;
      if (number % 3 === 0) remove(message);
      else if (number > 500 && number <= 600) remove(message);
      if (number % 30 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
  }
  assert.deepEqual(read, upTo(1_000));
  const kept = upTo(1_000).filter((number) => number % 3 !== 0 && (number <= 500 || number > 600));
  await waitFor(async () => (await queue.ready()) >= kept.length, { what: 'the rest' });
  assert.deepEqual(numbersOf(await queue.drain()), kept);
});

test('messages that arrive during a reading are not waited for and stay behind those that were there', async (t) => {
  const queue = await useQueue(t);
  await queue.put(1, 600);
  const read: number[] = [];
  let next = 601;
  for await (const page of peek(queue.connection, { time: systemTime, queue: queue.name, pageSize: 100 })) {
    read.push(...numbersOf(page));
    await queue.put(next, next + 49);
    next += 50;
  }
  assert.deepEqual(read, upTo(600));
  assert.deepEqual(numbersOf(await queue.drain()), upTo(next - 1));
});

test('an empty queue ends at once, and what another reader holds is passed over', async (t) => {
  const queue = await useQueue(t);
  assert.deepEqual(await readAll(queue), []);
  await queue.put(1, 10);
  const other = peek(queue.connection, { time: systemTime, queue: queue.name, limit: 4 });
  await other.next();
  assert.deepEqual(await readAll(queue), [5, 6, 7, 8, 9, 10]);
  await other.return();
  assert.deepEqual(
    (await readAll(queue)).sort((a, b) => a - b),
    upTo(10),
  );
});

test('messages that another reader takes in the same moment do not keep a reading waiting', async (t) => {
  const queue = await useQueue(t);
  await queue.put(1, 10);
  // The count is taken, and then a rival is there first.
  const rival = await queue.connection.createChannel();
  const stolen: ConsumeMessage[] = [];
  const connection = {
    async createChannel() {
      const channel = await queue.connection.createChannel();
      const prefetch = channel.prefetch.bind(channel);
      channel.prefetch = async (count, global) => {
        await rival.prefetch(3);
        await rival.consume(queue.name, (message) => void (message !== null && stolen.push(message)));
        await waitFor(() => stolen.length === 3, { what: 'the rival' });
        return prefetch(count, global);
      };
      return channel;
    },
  };
  const read: number[] = [];
  for await (const page of peek(connection, { time: systemTime, queue: queue.name, patienceMs: 50 })) read.push(...numbersOf(page));
  assert.deepEqual(read, [4, 5, 6, 7, 8, 9, 10]);
  await rival.close();
});

test('a queue that is not there, or is deleted meanwhile, is one readable error', async (t) => {
  const queue = await useQueue(t);
  const missing = peek(queue.connection, { time: systemTime, queue: 'nowhere.dead-letters' });
  await assert.rejects(missing.next(), (error: unknown) => {
    return error instanceof UnavailableError && error.message.startsWith('there is no queue nowhere.dead-letters');
  });
  await queue.put(1, 10);
  const reading = peek(queue.connection, { time: systemTime, queue: queue.name, pageSize: 5 });
  await reading.next();
  await queue.channel.deleteQueue(queue.name);
  await assert.rejects(reading.next(), UnavailableError);
});

test('a reading whose reader is slower than it may last goes on in others: every message once, and the queue as it was', async (t) => {
  const queue = await useQueue(t);
  await queue.put(1, 40);
  const read: number[] = [];
  const maxReadingMs = 3_600_000;
  let isOver: () => void = () => assert.fail('nothing limits the reading');
  // The limit comes when the reader has a page, however slow the machine is.
  const after: Time['after'] = (ms, go) => {
    if (ms !== maxReadingMs) return systemTime.after(ms, go);
    isOver = go;
    return { cancel: () => undefined };
  };
  const time = { ...systemTime, after };
  for await (const page of peek(queue.connection, { time, queue: queue.name, patienceMs: 100, pageSize: 10, maxReadingMs })) {
    read.push(...numbersOf(page));
    isOver();
    // Given back meanwhile, although the reader does not ask for more.
    await waitFor(async () => (await queue.ready()) === 40, { what: 'what was read to be back', timeoutMs: 60_000 });
  }
  assert.deepEqual(read, upTo(40));
  assert.deepEqual(numbersOf(await queue.drain()), upTo(40));
});

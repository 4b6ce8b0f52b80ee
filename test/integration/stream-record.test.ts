/** The broker's side of which store a stream has, at a real broker: many change it, some are lost, and what counts is the newest. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import amqp from 'amqplib';
import { beginRecord, type StreamRecord, StreamRecordKeeper } from '../../src/rabbitmq/stream-record.ts';
import { recordName } from '../../src/rabbitmq/topology-plan.ts';
import { lookForHalts } from '../../src/stores/store.ts';
import { createMemoryStore } from '../../src/stores/memory/memory-store.ts';
import { systemTime } from '../../src/time.ts';
import { commitOne, commitTo, order } from '../conformance/builders.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';

async function setUp(t: TestContext) {
  const { amqpUrl } = await useServices(t);
  const stream = uniqueStream('record');
  const connection = await amqp.connect(amqpUrl);
  const channel = await connection.createConfirmChannel();
  const name = recordName(stream);
  await channel.assertExchange(name, 'fanout');
  const makeQueue = async () => {
    await channel.assertQueue(name, { arguments: { 'x-queue-type': 'quorum' } });
    await channel.bindQueue(name, name, '');
    return true;
  };
  t.after(async () => {
    await channel.deleteQueue(name);
    await channel.deleteExchange(name);
    await connection.close();
  });
  const source = { ready: async () => connection, time: systemTime };
  await beginRecord(source, stream, false, makeQueue);
  const put = async (record: StreamRecord) => {
    channel.publish(name, '', Buffer.from(JSON.stringify(record)), { persistent: true });
    await channel.waitForConfirms();
  };
  const count = async () => (await channel.checkQueue(name)).messageCount;
  const purge = () => channel.purgeQueue(name);
  return { keeper: (patienceMs?: number) => new StreamRecordKeeper({ source, stream, patienceMs }), put, count, purge };
}

test('of many that change the record at once none takes back what another one wrote', async (t) => {
  const { keeper, count } = await setUp(t);
  const shards = Array.from({ length: 12 }, (_, shard) => shard);
  const halt = (shard: number) =>
    keeper().change((known) => ({ ...known!, halts: [...known!.halts, { shard, detail: 'test', at: 'now' }] }));
  await Promise.all(shards.map(halt));
  const found = await keeper().read();
  assert.deepEqual(
    found?.halts.map(({ shard }) => shard).sort((a, b) => a! - b!),
    shards,
  );
  await waitFor(async () => (await count()) === 1, { what: 'one record' });
});

test('a halt from before an operator ended it does not come back, also where both records are left', async (t) => {
  const { keeper, put, count } = await setUp(t);
  const ended: StreamRecord = { generation: 1, isOlder: false, identity: 'new', epoch: 3, halts: [] };
  await keeper().change(() => ended);
  await put({ generation: 0, isOlder: false, identity: 'old', epoch: 9, halts: [{ shard: null, detail: 'gone', at: 'then' }] });
  assert.deepEqual(await keeper().read(), ended);
  await keeper().change((known) => ({ ...known!, epoch: 4 }));
  await waitFor(async () => (await count()) === 1, { what: 'one record' });
  assert.deepEqual(await keeper().read(), { ...ended, epoch: 4 });
});

test('a record that was purged counts as that of a stream that was there before: an empty store is refused, a used one is not', async (t) => {
  const { keeper, purge } = await setUp(t);
  await purge();
  const known = await keeper(100).read();
  const store = createMemoryStore({ stream: 's', idempotencyTtlSeconds: 60 });
  const { halts } = await lookForHalts(store, known, systemTime);
  assert.deepEqual(
    halts.map(({ detail }) => detail),
    ['the store knows nothing of this stream, which was there before'],
  );
  await commitOne(store, commitTo(order, 0, 1));
  assert.deepEqual((await lookForHalts(store, known, systemTime)).halts, []);
});

test('what somebody else has put in its place is no record, and leaves with the next change', async (t) => {
  const { keeper, put, count } = await setUp(t);
  await put({ hello: 'world' } as unknown as StreamRecord);
  const next: StreamRecord = { generation: 0, isOlder: false, identity: 'ours', epoch: 1, halts: [] };
  await keeper().change(() => next);
  await waitFor(async () => (await count()) === 1, { what: 'one record' });
  assert.deepEqual(await keeper().read(), next);
});

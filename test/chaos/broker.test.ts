/**
 * A broker that drops connections, restarts and dies under the workers: once it is back everything drains,
 * in order and once.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import amqp from 'amqplib';
import { uniqueStream, useRabbitNode, useServices, waitFor } from '../support/services.ts';
import { interleaved, publishTrace, readTraces, readyCount, shuffled, untilApplied } from '../support/trace.ts';
import { WorkerProcess } from '../support/worker-process.ts';

const entities = 100;
const length = 20;

async function setUp(t: TestContext, name: string, configLines: readonly string[] = []) {
  const { redisUrl } = await useServices(t);
  const node = await useRabbitNode(t, { configLines });
  const stream = uniqueStream(name);
  const variables = {
    AMQP_URL: node.amqpUrl,
    MANAGEMENT_URL: node.managementUrl,
    REDIS_URL: redisUrl,
    STREAM: stream,
    SHARDS: '2',
    PROCESSOR: 'history',
    GAP_TIMEOUT_MS: '120000',
  };
  return { node, redisUrl, stream, variables };
}

async function untilSomeApplied(redisUrl: string, stream: string): Promise<void> {
  await waitFor(async () => (await readTraces(redisUrl, stream)).size > 0, { what: 'the first events applied', timeoutMs: 30_000 });
}

test('connections closed by an operator come back, and nothing is lost or reordered', async (t) => {
  const { node, redisUrl, stream, variables } = await setUp(t, 'closed');
  const worker = await WorkerProcess.ready(t, variables);
  await WorkerProcess.ready(t, variables);
  for (const half of [interleaved(entities, length, 'a'), interleaved(entities, length, 'b')]) {
    await publishTrace(node.amqpUrl, stream, shuffled(half, 200));
    await untilSomeApplied(redisUrl, stream);
    await node.ctl('close_all_connections', 'test');
  }
  await untilApplied(redisUrl, stream, 2 * entities, length);
  await worker.untilReady();
});

test('a broker that restarts, and one that is killed, come back to everything unsettled', async (t) => {
  const { node, redisUrl, stream, variables } = await setUp(t, 'restart');
  await WorkerProcess.ready(t, variables);
  await publishTrace(node.amqpUrl, stream, shuffled(interleaved(entities, length, 'a'), 200));
  await untilSomeApplied(redisUrl, stream);
  await node.restart();
  await publishTrace(node.amqpUrl, stream, shuffled(interleaved(entities, length, 'b'), 200));
  await node.kill();
  await node.restart();
  await untilApplied(redisUrl, stream, 2 * entities, length);
});

test('a queue deleted under the consumer is consumed again once it is back', async (t) => {
  const { node, redisUrl, stream, variables } = await setUp(t, 'deleted');
  const worker = await WorkerProcess.ready(t, variables);
  const connection = await amqp.connect(node.amqpUrl);
  const channel = await connection.createChannel();
  await channel.deleteQueue(`${stream}.shard.000`);
  await connection.close();
  await waitFor(async () => (await worker.get('/readyz')).status === 503, { what: 'a worker that is not ready' });
  assert.match((await worker.get('/readyz')).body, /shard 0/);
  const other = await WorkerProcess.ready(t, { ...variables, WORKER_SHARDS: '1' });
  await other.kill();
  await worker.untilReady();
  await publishTrace(node.amqpUrl, stream, shuffled(interleaved(entities, length), 200));
  await untilApplied(redisUrl, stream, entities, length);
});

test('a consumer timeout closes the channel of a held event, which waits on and is applied', async (t) => {
  const { node, redisUrl, stream, variables } = await setUp(t, 'consumer-timeout', ['consumer_timeout = 10000']);
  const worker = await WorkerProcess.ready(t, variables);
  await publishTrace(node.amqpUrl, stream, [{ entityId: 'entity-0', sequence: 2 }]);
  await waitFor(async () => (await worker.metric('inorder_held')) === 1, { what: 'the early event held' });
  await waitFor(() => worker.output.includes('the channel is lost'), { what: 'the broker closing the channel', timeoutMs: 120_000 });
  await publishTrace(node.amqpUrl, stream, [{ entityId: 'entity-0', sequence: 1 }]);
  await untilApplied(redisUrl, stream, 1, 2);
  assert.equal(await readyCount(node.amqpUrl, `${stream}.dead-letters`), 0);
});

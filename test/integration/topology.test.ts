/** Making a stream's topology on a real broker, and refusing to make it over something else. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { test, type TestContext } from 'node:test';
import type amqp from 'amqplib';
import { ConfigError, UnavailableError } from '../../src/errors.ts';
import { checkTopology } from '../../src/rabbitmq/topology-check.ts';
import { planTopology, type TopologyOptions } from '../../src/rabbitmq/topology-plan.ts';
import { applyTopology, verifyTopology } from '../../src/rabbitmq/topology.ts';
import { ScratchChannel } from '../../src/rabbitmq/channels.ts';
import { systemTime } from '../../src/time.ts';
import { KeptLog, useConnection, useRawChannel, useRawConnection } from '../support/rabbitmq.ts';
import { uniqueStream, useRabbitNode, useServices } from '../support/services.ts';
import { useTcpProxy } from '../support/tcp-proxy.ts';

async function setUp(t: TestContext, options: Partial<TopologyOptions> = {}) {
  const { amqpUrl, managementUrl } = await useServices(t);
  const stream = uniqueStream('topology');
  const plan = planTopology({ stream, shards: 3, queueType: 'quorum', exchangeType: 'x-consistent-hash', ...options });
  const connection = useConnection(t, amqpUrl, new KeptLog());
  const raw = await useRawChannel(t, amqpUrl);
  return { amqpUrl, managementUrl, stream, plan, connection, raw };
}

async function problemsOf(promise: Promise<unknown>): Promise<readonly string[]> {
  const error = await promise.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof ConfigError, `a ConfigError instead of ${String(error)}`);
  return error.problems;
}

async function exists(
  connection: { ready(): Promise<amqp.ChannelModel> },
  look: (channel: amqp.Channel) => Promise<unknown>,
): Promise<boolean> {
  const channel = await (await connection.ready()).createChannel();
  channel.on('error', () => undefined);
  return look(channel).then(
    () => true,
    () => false,
  );
}

for (const queueType of ['quorum', 'classic'] as const) {
  test(`a topology of ${queueType} queues is made, made again without a change, verified and found to be right`, async (t) => {
    const { amqpUrl, managementUrl, plan, connection } = await setUp(t, { queueType });
    await applyTopology(connection, plan);
    await applyTopology(connection, plan);
    await verifyTopology(connection, plan);
    const findings = await checkTopology({ plan, connection, broker: { urls: [amqpUrl], managementUrl }, gapTimeoutMs: 30_000 });
    assert.deepEqual(
      findings.filter(({ level }) => level !== 'ok'),
      [],
    );
    assert.equal(findings.length, 2 + plan.exchanges.length + plan.queues.length + plan.exchanges.length + 2);
  });
}

test('events of an entity stay together, spread over all shards, and arrive nowhere else', async (t) => {
  const { stream, plan, connection, raw } = await setUp(t);
  await applyTopology(connection, plan);
  for (let event = 0; event < 600; event++) raw.publish(stream, `entity-${event % 300}`, Buffer.from('x'), { mandatory: true });
  await raw.waitForConfirms();
  const counts = await Promise.all(plan.queues.map(async ({ name }) => (await raw.checkQueue(name)).messageCount));
  assert.equal(
    counts.reduce((sum, count) => sum + count),
    600,
  );
  assert.deepEqual(counts.slice(0, 2), [0, 0], 'nothing is unrouted or dead-lettered');
  assert.ok(
    counts.slice(2).every((count) => count > 60 && count % 2 === 0),
    `pairs stay together, spread as ${counts.join(', ')}`,
  );
});

test('a rejected event is in the dead-letter queue with its own routing key, and an unroutable one in the unrouted queue', async (t) => {
  const { stream, plan, connection, raw } = await setUp(t, { shards: 1 });
  await applyTopology(connection, plan);
  raw.publish(stream, 'entity-7', Buffer.from('x'), {});
  await raw.waitForConfirms();
  await new Promise<void>((resolve, reject) => {
    const onMessage = (message: amqp.ConsumeMessage | null) => {
      if (message === null) return;
      raw.nack(message, false, false);
      resolve();
    };
    raw.consume(`${stream}.shard.000`, onMessage).catch(reject);
  });
  const dead = await new Promise<amqp.ConsumeMessage | null>((resolve, reject) => {
    raw.consume(`${stream}.dead-letters`, resolve, { noAck: true }).catch(reject);
  });
  assert.equal(dead?.fields.routingKey, 'entity-7');
  await raw.unbindQueue(`${stream}.shard.000`, stream, '1');
  let returned = 0;
  raw.on('return', () => returned++);
  raw.publish(stream, 'entity-8', Buffer.from('x'), { mandatory: true });
  await raw.waitForConfirms();
  assert.equal(returned, 0);
  assert.equal((await raw.checkQueue(`${stream}.unrouted`)).messageCount, 1);
});

test('what exists with other arguments is named with what differs, all of it at once, and nothing is made', async (t) => {
  const { stream, plan, connection, raw } = await setUp(t);
  await raw.assertQueue(`${stream}.shard.001`, { durable: true, arguments: { ...plan.queues[2]!.arguments, 'x-delivery-limit': 5 } });
  await raw.assertExchange(`${stream}.dlx`, 'topic', { durable: true });
  const problems = await problemsOf(applyTopology(connection, plan));
  assert.equal(problems.length, 2);
  assert.match(problems[0]!, new RegExp(`^exchange ${stream}\\.dlx exists with type topic instead of fanout; it was not touched: drain`));
  assert.match(
    problems[1]!,
    new RegExp(`^queue ${stream}\\.shard\\.001 exists with x-delivery-limit 5 instead of 1000000; it was not touched: drain`),
  );
  assert.equal(await exists(connection, (channel) => channel.checkExchange(stream)), false);
  assert.equal(await exists(connection, (channel) => channel.checkQueue(`${stream}.shard.000`)), false);
  assert.equal(await exists(connection, (channel) => channel.checkQueue(`${stream}.shard.001`)), true);
  assert.equal(connection.connected, true);
});

test('a queue that lacks an argument, and one that another connection owns, are refused in clear words', async (t) => {
  const { stream, plan, connection, raw } = await setUp(t);
  const { 'x-single-active-consumer': _, ...rest } = plan.queues[2]!.arguments;
  await raw.assertQueue(`${stream}.shard.000`, { durable: true, arguments: rest });
  await raw.assertQueue(`${stream}.shard.002`, { exclusive: true });
  const problems = await problemsOf(applyTopology(connection, plan));
  assert.match(problems.join('\n'), /shard\.000 exists with x-single-active-consumer none instead of true/);
  assert.match(problems.join('\n'), /shard\.002: another connection owns it exclusively/);
});

test('a queue that is gone before it is bound is no fault of the configuration: whoever tries again makes the topology', async (t) => {
  const { stream, plan, connection, raw } = await setUp(t, { shards: 2 });
  const lost = `${stream}.lost`;
  const losing = { ...plan, bindings: [...plan.bindings, { ...plan.bindings[0]!, queue: lost }] };
  await assert.rejects(applyTopology(connection, losing), (error) => {
    assert.ok(error instanceof UnavailableError, String(error));
    assert.match(error.message, new RegExp(`^binding of queue ${lost} to exchange .*no queue '${lost}'.*although it was declared`));
    return true;
  });
  await raw.assertQueue(lost, { durable: true });
  await applyTopology(connection, losing);
  await raw.deleteQueue(lost);
});

test('verifying names everything that is missing, and makes nothing', async (t) => {
  const { stream, plan, connection } = await setUp(t, { shards: 2 });
  const problems = await problemsOf(verifyTopology(connection, plan));
  assert.equal(problems.length, plan.exchanges.length + plan.queues.length);
  assert.ok(problems.includes(`queue ${stream}.shard.001 does not exist: run \`inorder topology apply\``));
  assert.equal(await exists(connection, (channel) => channel.checkExchange(`${stream}.dlx`)), false);
});

test('a process with fewer shards than the stream has is refused; one with more adds them at the end', async (t) => {
  const { stream, plan, connection } = await setUp(t, { shards: 2 });
  await applyTopology(connection, plan);
  const more = planTopology({ ...plan, shards: 3 });
  await applyTopology(connection, more);
  for (const act of [applyTopology, verifyTopology]) {
    const problems = await problemsOf(act(connection, plan));
    assert.equal(problems.length, 1);
    assert.match(
      problems[0]!,
      new RegExp(`^queue ${stream}\\.shard\\.002 exists, but SHARDS is 2: every process of a stream needs the same`),
    );
  }
});

test('a broker without the plugin says which command enables it, although it closes the connection over it', async (t) => {
  const node = await useRabbitNode(t);
  const file = JSON.parse(await node.ctl('eval', 'element(2, application:get_env(rabbit, enabled_plugins_file)).')) as string;
  await writeFile(file, '[rabbitmq_management].\n');
  await node.ctl('eval', `rabbit_plugins:ensure(${JSON.stringify(file)}).`);
  const connection = useConnection(t, node.amqpUrl, new KeptLog());
  const plan = planTopology({ stream: 'events', shards: 1, queueType: 'quorum', exchangeType: 'x-consistent-hash' });
  const problems = await problemsOf(applyTopology(connection, plan));
  assert.deepEqual(problems, [
    'the broker knows no exchange type x-consistent-hash: run `rabbitmq-plugins enable rabbitmq_consistent_hash_exchange` on every node',
  ]);
  const broker = { urls: [node.amqpUrl], managementUrl: node.managementUrl };
  const findings = await checkTopology({ plan, connection, broker, gapTimeoutMs: 30_000 });
  const plugin = findings.find(({ subject }) => subject === 'plugin');
  assert.equal(plugin?.level, 'failure');
  assert.match(plugin?.remedy ?? '', /rabbitmq-plugins enable/);
});

test('a user without permission to configure is told so', async (t) => {
  const node = await useRabbitNode(t);
  await node.ctl('add_user', 'reader', 'secret-word');
  await node.ctl('set_permissions', 'reader', '^$', '.*', '.*');
  const connection = useConnection(t, node.amqpUrl.replace('guest:guest', 'reader:secret-word'), new KeptLog());
  const plan = planTopology({ stream: 'events', shards: 1, queueType: 'quorum', exchangeType: 'x-consistent-hash' });
  const problems = await problemsOf(applyTopology(connection, plan));
  assert.match(
    problems[0]!,
    /^exchange events\.unrouted: no access to exchange 'events\.unrouted' in virtual host '\/': add \^events\\\.unrouted\$ to the configure /,
  );
  assert.match(problems[0]!, /; a worker with TOPOLOGY=verify needs no such right$/);
});

test('a broker that is away is unavailable, and not a wrong configuration', async (t) => {
  const connection = useConnection(t, 'amqp://guest:guest@127.0.0.1:1', new KeptLog());
  const plan = planTopology({ stream: 'events', shards: 1, queueType: 'quorum', exchangeType: 'x-consistent-hash' });
  await assert.rejects(applyTopology({ ready: () => connection.ready(100), time: systemTime }, plan), UnavailableError);
});

test('a connection that is lost while the last channel closes keeps nobody waiting', async (t) => {
  const { amqpUrl } = await useServices(t);
  const proxy = await useTcpProxy(t, amqpUrl);
  const model = await useRawConnection(t, proxy.through(amqpUrl));
  const lost = new Promise<void>((resolve) => model.once('close', () => resolve()));
  await ScratchChannel.use({ ready: async () => model, time: systemTime }, async (scratch) => {
    assert.equal(await scratch.attempt((channel) => channel.checkExchange('amq.direct')), null);
    // The close is sent behind this, and has no answer.
    proxy.blackHole(true);
    setImmediate(() => proxy.cut());
  });
  await lost;
});

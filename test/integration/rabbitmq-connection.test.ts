/** Connections to a real broker: what they say, what they never say, and that they come back. */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test } from 'node:test';
import type { ChannelModel } from 'amqplib';
import { UnavailableError } from '../../src/errors.ts';
import { createConnection } from '../../src/rabbitmq/connection.ts';
import { createReplier } from '../../src/rabbitmq/replies.ts';
import { freePort } from '../../deploy/local/free-port.ts';
import { systemTime } from '../../src/time.ts';
import { KeptLog, useConnection, useRawChannel } from '../support/rabbitmq.ts';
import { uniqueStream, useRabbitNode, useServices, waitFor } from '../support/services.ts';
import { useTcpProxy } from '../support/tcp-proxy.ts';

function withLogin(url: string, user: string, password: string): string {
  const changed = new URL(url);
  changed.username = user;
  changed.password = password;
  return changed.href;
}

test('a refused login is said at once, in clear words and without the password', async (t) => {
  const { amqpUrl } = await useServices(t);
  const log = new KeptLog();
  const connection = useConnection(t, withLogin(amqpUrl, 'guest', 'top-secret-word'), log);
  const startMs = performance.now();
  await assert.rejects(connection.ready(20_000), (error: unknown) => {
    assert.ok(error instanceof UnavailableError);
    assert.match(error.message, /^the broker at 127\.0\.0\.1:\d+ refuses the user name or the password$/);
    return true;
  });
  assert.ok(performance.now() - startMs < 20_000, 'it does not wait for the whole time');
  assert.equal(connection.connected, false);
  assert.match(connection.trouble ?? '', /refuses the user name/);
  assert.match(log.text, /refuses the user name or the password/);
  assert.ok(!log.text.includes('top-secret-word'));
});

test('a virtual host that does not exist is named', async (t) => {
  const { amqpUrl } = await useServices(t);
  const log = new KeptLog();
  const connection = useConnection(t, `${amqpUrl}/no%2Fwhere`, log);
  await assert.rejects(
    connection.ready(20_000),
    /does not open the virtual host "no\/where": it does not exist, or the user has no access/,
  );
});

test('a broker that is away is tried again with growing pauses, and one line tells of it', async (t) => {
  const { amqpUrl } = await useServices(t);
  const proxy = await useTcpProxy(t, amqpUrl);
  await proxy.refuse(true);
  const attempts: number[] = [];
  const port = proxy.port;
  const listener = createServer((socket) => {
    attempts.push(performance.now());
    socket.destroy();
  });
  await new Promise<void>((resolve) => listener.listen(port, '127.0.0.1', resolve));
  const log = new KeptLog();
  const connection = useConnection(t, proxy.through(amqpUrl), log);
  await waitFor(() => attempts.length >= 5, { what: 'five attempts', timeoutMs: 20_000 });
  const pauses = attempts.slice(1).map((at, index) => at - attempts[index]!);
  assert.ok(pauses[0]! < 500, `the first pause is short: ${pauses.join(', ')}`);
  assert.ok(pauses[3]! > 700, `the fourth is longer: ${pauses.join(', ')}`);
  assert.equal(log.lines.filter(({ level }) => level === 'warn').length, 1);
  await new Promise((resolve) => listener.close(resolve));
  await proxy.refuse(false);
  await connection.ready(20_000);
  assert.equal(connection.trouble, null);
});

test('of several nodes the first that answers is used', async (t) => {
  const { amqpUrl } = await useServices(t);
  const log = new KeptLog();
  const urls = [`amqp://guest:hidden-word@127.0.0.1:${await freePort()}`, amqpUrl];
  const connection = createConnection({ urls, name: 'test', time: systemTime, log });
  t.after(() => connection.close());
  await connection.ready(20_000);
  assert.match(log.text, /ECONNREFUSED/);
  assert.ok(!log.text.includes('hidden-word'));
});

test('a lost connection is told to each listener, comes back as another one, and counts as reconnected', async (t) => {
  const { amqpUrl } = await useServices(t);
  const proxy = await useTcpProxy(t, amqpUrl);
  const log = new KeptLog();
  let reconnected = 0;
  const connection = createConnection({
    urls: [proxy.through(amqpUrl)],
    name: 'test',
    time: systemTime,
    log,
    onReconnected: () => reconnected++,
  });
  t.after(() => connection.close());
  const told: string[] = [];
  const models = new Set<ChannelModel>();
  const failing = connection.listen({
    up: () => {
      throw new Error('a listener with a bug');
    },
    lost: () => {},
  });
  const stop = connection.listen({
    up: (model) => {
      told.push('up');
      models.add(model);
    },
    lost: () => told.push('lost'),
  });
  await connection.ready(20_000);
  proxy.cut();
  await waitFor(() => told.length === 3, { what: 'the connection back', timeoutMs: 20_000 });
  assert.deepEqual(told, ['up', 'lost', 'up']);
  assert.equal(models.size, 2);
  assert.equal(reconnected, 1);
  assert.match(log.text, /a listener of the connection failed/);
  assert.equal(proxy.acceptedConnections, 2, 'the failing listener makes nobody connect once more');
  failing();
  stop();
  proxy.cut();
  await waitFor(() => reconnected === 2, { what: 'the connection back', timeoutMs: 20_000 });
  assert.equal(told.length, 3, 'who has stopped listening is told nothing');
});

test('a peer that says nothing any more is given up after two heartbeats', async (t) => {
  const { amqpUrl } = await useServices(t);
  const proxy = await useTcpProxy(t, amqpUrl);
  const log = new KeptLog();
  const connection = createConnection({ urls: [proxy.through(amqpUrl)], name: 'test', time: systemTime, log, heartbeatSeconds: 1 });
  t.after(() => connection.close());
  await connection.ready(20_000);
  proxy.blackHole(true);
  await waitFor(() => !connection.connected, { what: 'the silence noticed', timeoutMs: 20_000 });
  assert.match(log.text, /Heartbeat timeout/);
});

test('closing is quick also when the connection breaks meanwhile, and bounded when the broker does not answer', async (t) => {
  const { amqpUrl } = await useServices(t);
  const proxy = await useTcpProxy(t, amqpUrl);
  const breaking = useConnection(t, proxy.through(amqpUrl), new KeptLog());
  await breaking.ready(20_000);
  const startMs = performance.now();
  proxy.cut();
  await breaking.close();
  assert.ok(performance.now() - startMs < 5_000, 'it does not wait for an answer that cannot come');
  const silent = useConnection(t, proxy.through(amqpUrl), new KeptLog());
  await silent.ready(20_000);
  proxy.drop('toServer', true);
  await silent.close();
  await waitFor(() => proxy.openConnections === 0, { what: 'the socket gone', timeoutMs: 20_000 });
});

test('a memory alarm is known while it lasts to the connection that publishes', async (t) => {
  const node = await useRabbitNode(t);
  const log = new KeptLog();
  const connection = useConnection(t, node.amqpUrl, log);
  const told: (string | null)[] = [];
  connection.listen({ up: () => {}, lost: () => {}, blocked: (reason) => told.push(reason) });
  const channel = await (await connection.ready(20_000)).createChannel();
  await node.ctl('set_vm_memory_high_watermark', 'absolute', '1');
  channel.publish('', 'nowhere', Buffer.from('x'));
  await waitFor(() => connection.blocked !== null, { what: 'the block', timeoutMs: 20_000 });
  assert.match(connection.blocked ?? '', /memory/);
  await node.ctl('set_vm_memory_high_watermark', '0.6');
  await waitFor(() => connection.blocked === null, { what: 'the release', timeoutMs: 20_000 });
  assert.deepEqual(
    told.map((reason) => reason === null),
    [false, true],
  );
});

test('a reply reaches the queue that asked, with its correlation id; one for a queue that is gone harms nothing', async (t) => {
  const { amqpUrl } = await useServices(t);
  const raw = await useRawChannel(t, amqpUrl);
  const { queue } = await raw.assertQueue('', { exclusive: true });
  const answers: string[] = [];
  const onAnswer = (message: { content: Buffer; properties: { correlationId?: unknown } } | null) => {
    if (message !== null) answers.push(`${String(message.properties.correlationId)} ${message.content.toString()}`);
  };
  await raw.consume(queue, onAnswer, { noAck: true });
  const log = new KeptLog();
  const connection = useConnection(t, amqpUrl, log);
  const causes: string[] = [];
  const metrics = { replyDropped: (cause: string) => void causes.push(cause) };
  const replier = createReplier({ connection, log, metrics, allowed: /^gone-/ });
  replier.send(queue, 'early', '{}');
  await connection.ready(20_000);
  await waitFor(
    () => {
      replier.send(uniqueStream('gone'), 'c-0', '{}');
      replier.send(queue, 'c-1', '{"ok":true}');
      return answers.length > 0;
    },
    { what: 'an answer' },
  );
  assert.equal(answers[0], 'c-1 {"ok":true}');
  await waitFor(() => causes.includes('no_queue'), { what: 'the return of what went nowhere' });
  await replier.close();
  replier.send(queue, 'late', '{}');
  assert.ok(answers.every((answer) => answer.startsWith('c-1')));
  assert.equal(causes.at(-1), 'no_connection', 'what is sent after the end is counted as well');
  const warned = log.lines.filter(({ message }) => message.startsWith('a reply was dropped')).length;
  assert.equal(warned, new Set(causes).size, 'one warning for each cause');
});

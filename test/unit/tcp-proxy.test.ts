import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import test, { type TestContext } from 'node:test';
import { waitFor } from '../support/services.ts';
import { reset, useTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';

/** A server that answers every byte with the same byte, and keeps what it got. */
async function useEcho(t: TestContext): Promise<{ proxy: TcpProxy; received: Buffer[]; sockets: ReadonlySet<Socket> }> {
  const received: Buffer[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('data', (bytes: Buffer) => {
      received.push(bytes);
      socket.write(bytes);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const proxy = await useTcpProxy(t, `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`);
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { proxy, received, sockets };
}

interface Client {
  readonly socket: Socket;
  text: string;
  error: string | null;
}

async function useClient(t: TestContext, proxy: TcpProxy): Promise<Client> {
  const socket = connect({ port: proxy.port, host: '127.0.0.1', noDelay: true });
  t.after(() => socket.destroy());
  const client: Client = { socket, text: '', error: null };
  socket.on('data', (bytes) => (client.text += bytes.toString()));
  socket.on('error', (error: NodeJS.ErrnoException) => (client.error = error.code ?? error.message));
  await once(socket, 'connect');
  return client;
}

const hears = (client: Client, text: string): Promise<unknown> => waitFor(() => client.text === text, { what: `the echo of ${text}` });

test('bytes pass in both directions and are counted', async (t) => {
  const { proxy } = await useEcho(t);
  const client = await useClient(t, proxy);
  client.socket.write('hello');
  await hears(client, 'hello');
  assert.deepEqual([proxy.forwardedBytes('toServer'), proxy.forwardedBytes('toClient')], [5, 5]);
  client.socket.end();
  await waitFor(() => proxy.openConnections === 0, { what: 'the end to pass through' });
  assert.equal(client.error, null);
});

test('cut resets every connection; a new one works', async (t) => {
  const { proxy } = await useEcho(t);
  const client = await useClient(t, proxy);
  client.socket.write('a');
  await hears(client, 'a');
  proxy.cut();
  await waitFor(() => client.error, { what: 'the reset' });
  assert.equal(client.error, 'ECONNRESET');
  const next = await useClient(t, proxy);
  next.socket.write('b');
  await hears(next, 'b');
  assert.equal(proxy.acceptedConnections, 2);
});

test('a black hole closes nothing and passes nothing until it ends', async (t) => {
  const { proxy, received } = await useEcho(t);
  const client = await useClient(t, proxy);
  client.socket.write('a');
  await hears(client, 'a');
  proxy.blackHole(true);
  client.socket.write('b');
  // Another proxy shows that time enough has passed for a byte to go through.
  const other = await useEcho(t);
  const witness = await useClient(t, other.proxy);
  witness.socket.write('w');
  await hears(witness, 'w');
  assert.deepEqual([client.text, Buffer.concat(received).toString(), client.error], ['a', 'a', null]);
  proxy.blackHole(false);
  await hears(client, 'ab');
});

test('a connection that is reset while its end is being sent is closed', async (t) => {
  const { proxy, sockets } = await useEcho(t);
  const client = await useClient(t, proxy);
  await waitFor(() => sockets.size === 1, { what: 'the connection' });
  const closed = once(client.socket, 'close');
  client.socket.end();
  // By now the shutdown has begun.
  await Promise.resolve();
  reset(client.socket);
  await closed;
  assert.equal(client.error, null);
});

test('in a black hole not even the end or the reset of a connection is heard of before it ends', async (t) => {
  const { proxy, sockets } = await useEcho(t);
  const clients = [await useClient(t, proxy), await useClient(t, proxy)];
  const heard: string[] = [];
  for (const { socket } of clients) socket.on('end', () => heard.push('end')).on('close', () => heard.push('close'));
  await waitFor(() => sockets.size === 2, { what: 'both connections' });
  proxy.blackHole(true);
  const [ended, cut] = [...sockets];
  ended!.end();
  reset(cut!);
  const other = await useEcho(t);
  const witness = await useClient(t, other.proxy);
  witness.socket.write('w');
  await hears(witness, 'w');
  assert.deepEqual(heard, []);
  proxy.blackHole(false);
  await waitFor(() => heard.length === 3, { what: 'one end and two closed connections' });
  assert.deepEqual(heard.toSorted(), ['close', 'close', 'end']);
  assert.deepEqual(clients.map(({ error }) => error).toSorted(), ['ECONNRESET', null]);
});

test('dropping one direction loses its bytes and only those', async (t) => {
  const { proxy, received } = await useEcho(t);
  const client = await useClient(t, proxy);
  proxy.drop('toClient', true);
  client.socket.write('lost reply');
  await waitFor(() => proxy.droppedBytes('toClient') === 'lost reply'.length, { what: 'the reply to be thrown away' });
  assert.equal(Buffer.concat(received).toString(), 'lost reply');
  proxy.drop('toClient', false);
  await waitFor(
    () => {
      client.socket.write('.');
      return client.text.includes('.');
    },
    { what: 'replies again' },
  );
  assert.doesNotMatch(client.text, /lost/);
});

test('refuse turns new connections away at the same port, and lets the old ones be', async (t) => {
  const { proxy } = await useEcho(t);
  const client = await useClient(t, proxy);
  await proxy.refuse(true);
  await assert.rejects(useClient(t, proxy), { code: 'ECONNREFUSED' });
  client.socket.write('a');
  await hears(client, 'a');
  await proxy.refuse(false);
  const next = await useClient(t, proxy);
  next.socket.write('b');
  await hears(next, 'b');
});

for (const count of [0, 1, 7, 10]) {
  test(`exactly ${count} bytes pass before the cut that was ordered after ${count}`, async (t) => {
    const { proxy, received } = await useEcho(t);
    const client = await useClient(t, proxy);
    proxy.cutAfterBytes('toServer', count);
    client.socket.write('0123456789');
    await waitFor(() => client.error, { what: 'the cut' });
    await waitFor(() => proxy.openConnections === 0, { what: 'the connection to go' });
    assert.equal(proxy.forwardedBytes('toServer'), count);
    assert.equal(Buffer.concat(received).toString(), '0123456789'.slice(0, count));
    const next = await useClient(t, proxy);
    next.socket.write('again');
    await hears(next, 'again');
  });
}

test('slices arrive one by one and in order', async (t) => {
  const { proxy, received } = await useEcho(t);
  const client = await useClient(t, proxy);
  proxy.slice(1);
  client.socket.write('0123456789');
  await hears(client, '0123456789');
  assert.ok(received.length > 1, 'everything came in one piece');
});

test('delay is latency: many chunks take little longer than one, and keep their order', async (t) => {
  const { proxy } = await useEcho(t);
  const client = await useClient(t, proxy);
  proxy.delay(150, 50);
  const startedMs = performance.now();
  let sent = '';
  for (let number = 0; number < 10; number += 1) {
    client.socket.write(`${number}`);
    sent += number;
    await new Promise(setImmediate);
  }
  await hears(client, sent);
  const tookMs = performance.now() - startedMs;
  assert.ok(tookMs >= 299, `two ways of at least 150 ms took ${tookMs}`);
  assert.ok(tookMs < 2_990, `ten chunks of 300 to 400 ms took ${tookMs}, as if one after the other`);
});

test('a throttle limits the rate', async (t) => {
  const { proxy } = await useEcho(t);
  const client = await useClient(t, proxy);
  proxy.throttle(10_000);
  proxy.slice(100);
  const startedMs = performance.now();
  client.socket.write('x'.repeat(2_000));
  await hears(client, 'x'.repeat(2_000));
  assert.ok(performance.now() - startedMs >= 190, 'faster than 10 kB a second');
});

test('half-open: the server is gone and the client hears nothing of it', async (t) => {
  const { proxy } = await useEcho(t);
  const client = await useClient(t, proxy);
  client.socket.write('a');
  await hears(client, 'a');
  proxy.halfOpen();
  const next = await useClient(t, proxy);
  next.socket.write('b');
  await hears(next, 'b');
  client.socket.write('into the void');
  next.socket.write('c');
  await hears(next, 'bc');
  assert.deepEqual([client.text, client.error, client.socket.destroyed], ['a', null, false]);
});

test('heal ends every condition', async (t) => {
  const { proxy } = await useEcho(t);
  proxy.delay(60_000);
  proxy.slice(1);
  proxy.throttle(1);
  proxy.cutAfterBytes('toClient', 1);
  proxy.blackHole(true);
  await proxy.refuse(true);
  await proxy.heal();
  const client = await useClient(t, proxy);
  client.socket.write('well again');
  await hears(client, 'well again');
});

test('a URL leads through the proxy with all its other parts', async (t) => {
  const { proxy } = await useEcho(t);
  assert.equal(proxy.through('amqp://me:secret@broker:5672'), `amqp://me:secret@127.0.0.1:${proxy.port}`);
  assert.equal(proxy.through('amqp://broker:5672/%2Fv?heartbeat=5'), `amqp://127.0.0.1:${proxy.port}/%2Fv?heartbeat=5`);
  assert.equal(proxy.through('redis://:pw@store:6379/2'), `redis://:pw@127.0.0.1:${proxy.port}/2`);
});

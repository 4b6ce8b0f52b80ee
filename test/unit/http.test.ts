import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { connect, type Socket } from 'node:net';
import test, { type TestContext } from 'node:test';
import { loadConfig } from '../../src/config/load.ts';
import { ConfigError } from '../../src/errors.ts';
import { Gate, longestDelayMs } from '../../src/observability/gate.ts';
import { everybody, json, type Route, serveHttp, type WorkerSource, workerRoutes } from '../../src/observability/http.ts';
import { askWorkerAt, type GapStatus, type WorkerStatus } from '../../src/observability/worker-status.ts';
import { systemTime, type Time } from '../../src/time.ts';
import { ConsoleClient } from '../support/console-client.ts';
import { ManualTime } from '../support/manual-time.ts';

const token = 'correct-horse-battery';
const gap = { entity_type: 'order', entity_id: 'o-1' } as GapStatus;
const status = {
  not_ready: [],
  shards: [{ shard: 3, gaps: 1, open_gaps: [gap], trials: { accused: 2, on_trial: [gap] } }],
  violations: { total: 1, recent: [gap] },
} as unknown as WorkerStatus;

/** Listens on loopback, and is guarded as if it listened on `host`. */
async function serve(t: TestContext, source: Partial<WorkerSource> = {}, host = '127.0.0.1', time = systemTime) {
  const metrics = { render: async () => 'up 1\n', contentType: 'text/plain; version=0.0.4; charset=utf-8' };
  const gate = new Gate(loadConfig({ HTTP_HOST: host, READ_TOKEN: token }).http, time);
  const routes = workerRoutes(metrics, { notReady: () => [], status: () => status, ...source }, gate);
  const server = await serveHttp({ host: '127.0.0.1', port: 0 }, routes);
  t.after(() => server.close());
  const ask = (path: string, init?: RequestInit) => fetch(`http://127.0.0.1:${server.port}${path}`, init);
  return { server, ask };
}

test('port 0 takes a free port and says which', async (t) => {
  const { server, ask } = await serve(t);
  assert.ok(server.port > 0);
  assert.equal((await ask('/healthz')).status, 200);
});

test('/metrics has the content type of Prometheus', async (t) => {
  const { ask } = await serve(t);
  const response = await ask('/metrics');
  assert.equal(response.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
  assert.equal(await response.text(), 'up 1\n');
});

test('/readyz is 503 with the reasons while there are any, and /healthz does not care', async (t) => {
  let reasons = ['the broker is not connected'];
  const { ask } = await serve(t, { notReady: () => reasons });
  const response = await ask('/readyz');
  assert.equal(response.status, 503);
  assert.deepEqual(await response.json(), { ready: false, reasons });
  assert.equal((await ask('/healthz')).status, 200);
  reasons = [];
  assert.equal((await ask('/readyz')).status, 200);
});

test('/status is JSON, with a query or without', async (t) => {
  const { ask } = await serve(t);
  assert.deepEqual(await (await ask('/status')).json(), status);
  assert.deepEqual(await (await ask('/status?x=1')).json(), status);
});

test('beyond loopback nothing names an entity without a token, and everything else is said', async (t) => {
  const reason = 'shard 3 is halted, for the store went backwards: order o-1 is at version 1, but 2 was committed';
  const source = { notReady: () => [reason], status: () => ({ ...status, not_ready: [reason] }) };
  const { ask } = await serve(t, source, '0.0.0.0');
  const headers = { authorization: `Bearer ${token}` };
  const open = await (await ask('/status')).text();
  assert.doesNotMatch(open, /o-1/);
  assert.match(open, /"gaps":1,"open_gaps":\[\],"trials":{"accused":2,"on_trial":\[\]}.*"total":1,"recent":\[\].*withheld.*READ_TOKEN/);
  const unready = await ask('/readyz');
  assert.deepEqual(
    [unready.status, await unready.json()],
    [503, { ready: false, reasons: ['shard 3 is halted, for the store went backwards'] }],
  );
  assert.deepEqual(await (await ask('/status', { headers })).json(), { ...status, not_ready: [reason] });
  assert.deepEqual(await (await ask('/readyz', { headers })).json(), { ready: false, reasons: [reason] });
  assert.equal((await ask('/status', { headers: { authorization: 'Bearer wrong' } })).status, 401);
  for (const path of ['/metrics', '/healthz']) assert.equal((await ask(path)).status, 200, path);
});

test('a name that was rebound to loopback reads neither status nor metrics, and a probe is answered under every name', async (t) => {
  const { server } = await serve(t, { notReady: () => ['it is so: and this is why'] });
  const client = new ConsoleClient(`http://127.0.0.1:${server.port}`);
  const asked = async (path: string) => client.ask(path, { headers: { host: `evil.example:${server.port}` } });
  for (const path of ['/status', '/metrics']) assert.equal((await asked(path)).status, 403, path);
  assert.equal((await asked('/healthz')).status, 200);
  const { status: unready, body } = await asked('/readyz');
  assert.deepEqual([unready, body.reasons], [503, ['it is so']]);
});

test('other paths are 404, other methods 405, and HEAD has no body', async (t) => {
  const { ask } = await serve(t);
  assert.equal((await ask('/')).status, 404);
  assert.equal((await ask('/metrics/')).status, 404);
  const post = await ask('/metrics', { method: 'POST', body: 'x' });
  assert.equal(post.status, 405);
  assert.equal(post.headers.get('allow'), 'GET, HEAD');
  const head = await ask('/metrics', { method: 'HEAD' });
  assert.equal(head.headers.get('content-length'), '5');
  assert.equal(await head.text(), '');
});

test('a path that does not exist is answered with those that do, and of two routes for a path each has its method', async (t) => {
  const { ask } = await serve(t);
  assert.deepEqual(await (await ask('/nothing')).json(), {
    error: 'there is nothing here: there are /metrics, /healthz, /readyz, /status',
  });
  const row = (method: Route['method'], path: string): Route => ({
    method,
    path,
    guard: everybody,
    answer: ({ id }) => json(200, { method, id }),
  });
  const server = await serveHttp({ host: '127.0.0.1', port: 0 }, [
    row('GET', '/things/:id'),
    row('POST', '/things/:id'),
    row('GET', '/a.b'),
  ]);
  t.after(() => server.close());
  const reach = (path: string, method: string) => fetch(`http://127.0.0.1:${server.port}${path}`, { method });
  assert.deepEqual(await (await reach('/things/x%2Fy', 'GET')).json(), { method: 'GET', id: 'x%2Fy' });
  const refused = await reach('/things/x', 'DELETE');
  assert.deepEqual([refused.status, refused.headers.get('allow')], [405, 'GET, POST']);
  for (const path of ['/things', '/things/', '/things/x/y', '/axb', '/a.b/']) assert.equal((await reach(path, 'GET')).status, 404, path);
});

test('an answer that cannot be made is a 500 without its cause, and the server goes on', async (t) => {
  let broken = true;
  const { ask } = await serve(t, {
    status() {
      if (broken) throw new Error('secret cause');
      return status;
    },
  });
  const response = await ask('/status');
  assert.equal(response.status, 500);
  assert.ok(!(await response.text()).includes('secret'));
  broken = false;
  assert.equal((await ask('/status')).status, 200);
});

test('a port in use is a configuration error that names the variable', async (t) => {
  const { server } = await serve(t);
  const again = serveHttp({ host: '127.0.0.1', port: server.port }, []);
  await assert.rejects(again, (error) => error instanceof ConfigError && new RegExp(`^HTTP_PORT is ${server.port}:`).test(error.message));
});

test('closing ends idle connections too', async (t) => {
  const { server } = await serve(t);
  const socket = connect(server.port, '127.0.0.1');
  await new Promise((resolve) => socket.once('connect', resolve));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.resume();
  await server.close();
  await closed;
});

test('garbage and oversized headers are answered with an error and nothing else happens', async (t) => {
  const { server, ask } = await serve(t);
  for (const request of ['\u0000\u0001garbage\r\n\r\n', `GET /healthz HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(12_000)}\r\n\r\n`]) {
    const socket = connect(server.port, '127.0.0.1', () => socket.write(request));
    let answer = '';
    socket.on('data', (chunk) => (answer += chunk));
    socket.on('error', () => undefined);
    await new Promise((resolve) => socket.once('close', resolve));
    assert.match(answer, /^HTTP\/1\.1 4/);
  }
  assert.equal((await ask('/healthz')).status, 200);
});

/** Opens so many connections, each from this loopback address, and sends `text` on each. */
async function hold(t: TestContext, port: number, count: number, localAddress: string, text: string): Promise<readonly Socket[]> {
  const sockets = Array.from({ length: count }, () =>
    connect({ port, host: '127.0.0.1', localAddress }, function (this: Socket) {
      this.write(text);
    }),
  );
  for (const socket of sockets) socket.on('error', () => undefined).resume();
  t.after(() => sockets.forEach((socket) => socket.destroy()));
  await Promise.all(sockets.map((socket) => Promise.race([once(socket, 'connect'), once(socket, 'close')])));
  return sockets;
}

for (const [what, text] of [
  ['say nothing', ''],
  ['send a request slowly', 'GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: '],
  ['keep their connection', 'GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n'],
] as const) {
  test(`health and metrics are answered while hundreds of others ${what}, of one address or of many`, async (t) => {
    const { server, ask } = await serve(t);
    for (const address of ['127.0.0.1', '127.0.0.2', '127.0.0.3']) {
      await hold(t, server.port, 150, address, text);
      for (const path of ['/healthz', '/metrics', '/readyz'])
        assert.equal((await ask(path, { headers: { connection: 'close' } })).status, 200, `${address} ${path}`);
    }
  });
}

test('a request that is being answered is not dropped for those who only hold connections', async (t) => {
  const turns = new EventEmitter();
  const [asked, answered] = [once(turns, 'asked'), once(turns, 'answered')];
  const slow: Route = {
    method: 'GET',
    path: '/slow',
    guard: everybody,
    answer: async () => {
      turns.emit('asked');
      await answered;
      return json(200, { late: true });
    },
  };
  const server = await serveHttp({ host: '127.0.0.1', port: 0 }, [slow]);
  t.after(() => server.close());
  const answer = fetch(`http://127.0.0.1:${server.port}/slow`);
  await asked;
  await hold(t, server.port, 200, '127.0.0.1', '');
  // Connections are taken in their order: this one comes after them.
  assert.equal((await fetch(`http://127.0.0.1:${server.port}/none`)).status, 404);
  turns.emit('answered');
  assert.deepEqual(await (await answer).json(), { late: true });
});

test('a connection on which no request comes is closed after seconds', async (t) => {
  const { server } = await serve(t);
  const began = performance.now();
  const [silent] = await hold(t, server.port, 1, '127.0.0.1', '');
  await once(silent!, 'close');
  // Node by itself looks for it every 30 s.
  assert.ok(performance.now() - began < 25_000);
});

test('a worker that refuses READ_TOKEN is known as such, however late it says so', async (t) => {
  const clock = new ManualTime();
  const delaysMs: number[] = [];
  // The delay passes as soon as the worker makes it.
  const after: Time['after'] = (ms, go) => {
    delaysMs.push(ms);
    setImmediate(() => clock.advance(ms));
    return clock.after(ms, go);
  };
  const { server } = await serve(t, {}, '0.0.0.0', { ...systemTime, nowMs: () => clock.nowMs(), after });
  const config = loadConfig({ READ_TOKEN: 'another-than-it-has' });
  const answers = new Set<unknown>();
  while (!delaysMs.includes(longestDelayMs)) answers.add(await askWorkerAt(`http://127.0.0.1:${server.port}`, config, clock));
  assert.deepEqual([...answers], ['refused']);
});

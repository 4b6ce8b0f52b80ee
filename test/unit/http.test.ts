import assert from 'node:assert/strict';
import { connect } from 'node:net';
import test, { type TestContext } from 'node:test';
import { ConfigError } from '../../src/errors.ts';
import { everybody, json, type Route, serveHttp, type WorkerSource, workerRoutes } from '../../src/observability/http.ts';

async function serve(t: TestContext, source: Partial<WorkerSource> = {}) {
  const metrics = { render: async () => 'up 1\n', contentType: 'text/plain; version=0.0.4; charset=utf-8' };
  const routes = workerRoutes(metrics, { notReady: () => [], status: () => ({ shards: [] }), ...source });
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
  const { ask } = await serve(t, { status: () => ({ held: 3 }) });
  assert.deepEqual(await (await ask('/status')).json(), { held: 3 });
  assert.deepEqual(await (await ask('/status?x=1')).json(), { held: 3 });
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
  const status = () => {
    if (broken) throw new Error('secret cause');
    return {};
  };
  const { ask } = await serve(t, { status });
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

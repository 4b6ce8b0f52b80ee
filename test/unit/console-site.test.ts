import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { posix } from 'node:path';
import test, { type TestContext } from 'node:test';
import { loadConfig } from '../../src/config/load.ts';
import { createConsole, loadPageFiles, pageRoutes } from '../../src/console/console.ts';
import { UnavailableError } from '../../src/errors.ts';
import { Gate } from '../../src/observability/gate.ts';
import { everybody, json, type Route, serveHttp } from '../../src/observability/http.ts';
import { createLog } from '../../src/observability/log.ts';
import { systemTime } from '../../src/time.ts';
import { checkout } from '../support/checkout.ts';

const token = 'correct-horse-battery';
const pageFolder = `${checkout}src/console/page/`;
const pageModules = readdirSync(pageFolder)
  .filter((name) => name.endsWith('.js'))
  .map((name) => ({ name, text: readFileSync(pageFolder + name, 'utf8') }));

function routesOf(gate: Gate): readonly Route[] {
  const { viewers, operators } = gate;
  const api = '/console/api';
  const elsewhere = (path: string): Route => ({ method: 'GET', path, guard: everybody, answer: () => json(418, {}) });
  return [
    ...pageRoutes(gate),
    { method: 'GET', path: `${api}/things`, guard: viewers, answer: ({ query }) => json(200, { words: query.get('words') }) },
    { method: 'GET', path: `${api}/secret`, guard: operators, answer: ({ user }) => json(200, { role: user?.role }) },
    { method: 'POST', path: `${api}/things/:id`, guard: operators, answer: ({ id, body, address }) => json(200, { id, body, address }) },
    {
      method: 'GET',
      path: `${api}/broken`,
      guard: viewers,
      answer: ({ query }) => {
        throw query.has('away')
          ? new UnavailableError('the broker at amqp://user:pass@host is away, token=pass')
          : new Error('secret cause');
      },
    },
    ...['/metrics', '/status', '/consoles', '/index.html'].map(elsewhere),
  ];
}

async function serve(t: TestContext) {
  const gate = new Gate(loadConfig({ ADMIN_TOKEN: token }).http, systemTime);
  const server = await serveHttp({ host: '127.0.0.1', port: 0 }, routesOf(gate), gate.viewers);
  t.after(() => server.close());
  const ask = (path: string, init: RequestInit = {}) =>
    fetch(`http://127.0.0.1:${server.port}${path}`, { ...init, headers: { connection: 'close', ...init.headers } });
  const post = (body: string, headers: Record<string, string> = {}) =>
    ask('/console/api/things/a1', {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}`, ...headers },
    });
  return { ask, post };
}

test('every answer forbids frames, foreign content and markup made from text, also a refusal', async (t) => {
  const { ask } = await serve(t);
  for (const path of [
    '/',
    '/console/main.js',
    '/console/none',
    '/console/api/things',
    '/console/api/secret',
    '/console/api/none',
    '/console/api/broken',
  ]) {
    const { headers } = await ask(path);
    const policy = headers.get('content-security-policy') ?? '';
    for (const rule of [
      "default-src 'none'",
      "script-src 'self';",
      "style-src 'self';",
      "frame-ancestors 'none'",
      "form-action 'none'",
      "base-uri 'none'",
      "require-trusted-types-for 'script'",
    ]) {
      assert.ok(policy.includes(rule), `${path}: ${rule}`);
    }
    assert.ok(!policy.includes('unsafe'), path);
    assert.equal(headers.get('x-content-type-options'), 'nosniff');
    assert.equal(headers.get('referrer-policy'), 'no-referrer');
    assert.equal(headers.get('cache-control'), 'no-store');
    assert.equal(headers.get('access-control-allow-origin'), null);
    assert.equal(headers.get('set-cookie'), null);
  }
});

test('the console answers at / and below /console/ and leaves other paths alone', async (t) => {
  const { ask } = await serve(t);
  assert.match(await (await ask('/')).text(), /<script type="module" src="console\/main\.js">/);
  for (const path of ['/metrics', '/status', '/consoles', '/index.html']) assert.equal((await ask(path)).status, 418, path);
  for (const path of [
    '/console/../package.json',
    '/console/%2e%2e/gate.ts',
    '/console/vendor/preact.d.ts',
    '/console/tsconfig.json',
    '/console/__proto__',
  ]) {
    assert.ok([404, 418].includes((await ask(path)).status), path);
  }
});

test('HEAD has no body, other methods are refused', async (t) => {
  const { ask } = await serve(t);
  const head = await ask('/', { method: 'HEAD' });
  assert.deepEqual([head.status, await head.text()], [200, '']);
  assert.equal((await ask('/', { method: 'POST' })).status, 405);
  assert.equal((await ask('/console/api/things', { method: 'POST' })).headers.get('allow'), 'GET');
});

test('who must not know a path is not told whether it is there, or what it takes', async (t) => {
  const { ask } = await serve(t);
  const headers = { authorization: 'Bearer wrong' };
  const statuses = async (init: RequestInit) =>
    Promise.all(['/console/api/secret', '/nothing'].map(async (path) => (await ask(path, { method: 'PUT', ...init })).status));
  assert.deepEqual(await statuses({ headers }), [401, 401]);
  assert.deepEqual(await statuses({ headers: { authorization: `Bearer ${token}` } }), [405, 404]);
});

test('a route that needs the token is shut without it', async (t) => {
  const { ask } = await serve(t);
  assert.equal((await ask('/console/api/secret')).status, 401);
  assert.deepEqual(await (await ask('/console/api/secret', { headers: { authorization: `Bearer ${token}` } })).json(), {
    role: 'operator',
  });
  assert.equal((await ask('/console/api/things/a1', { method: 'POST' })).status, 401);
});

test('a body has to be a JSON object of a bounded size, and sent as such', async (t) => {
  const { post } = await serve(t);
  assert.deepEqual(await (await post('{"a":1}')).json(), { id: 'a1', body: { a: 1 }, address: '127.0.0.1' });
  for (const body of ['', '[]', '1', 'null', '{', '"x"']) assert.equal((await post(body)).status, 400, body);
  assert.equal((await post(JSON.stringify({ a: 'x'.repeat(70_000) }))).status, 400);
  assert.equal((await post('{}', { 'content-type': 'text/plain' })).status, 400);
  assert.equal((await post('{}', { 'content-type': 'application/x-www-form-urlencoded' })).status, 400);
});

test('what fails is told without its cause and without credentials', async (t) => {
  const { ask } = await serve(t);
  const broken = await ask('/console/api/broken');
  assert.deepEqual([broken.status, await broken.json()], [500, { error: 'the answer could not be made' }]);
  const away = await ask('/console/api/broken?away');
  assert.equal(away.status, 503);
  assert.ok(!(await away.text()).includes('pass'));
});

test('a console that nobody looks at opens no connection', async (t) => {
  const arrived: number[] = [];
  const server = createServer((socket) => arrived.push(socket.resume().remotePort ?? 0));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const config = loadConfig({ AMQP_URL: `amqp://127.0.0.1:${port}`, REDIS_URL: `redis://127.0.0.1:${port}` });
  const gate = new Gate(config.http, systemTime);
  const page = createConsole({ config, gate, log: createLog({ level: 'error', service: 'test' }), workers: async () => [] });
  // The server takes connections in their order: this one would be behind the console's.
  const mine = connect(port, '127.0.0.1').resume();
  await once(mine, 'connect');
  const { localPort } = mine;
  await once(mine.end(), 'close');
  await page.close();
  assert.deepEqual(arrived, [localPort]);
});

test('everything that the page loads is a file that is served', () => {
  const files = loadPageFiles();
  const loaded = pageModules.flatMap(({ name, text }) =>
    [...text.matchAll(/^import [^;]*'(\.\/[^']+)';$/gm)].map(([, path = '']) => posix.join(posix.dirname(name), path)),
  );
  const index = files.get('index.html')?.body.toString() ?? '';
  const linked = [...index.matchAll(/(?:src|href)="console\/([^"]+)"/g)].map(([, path = '']) => path);
  assert.ok(loaded.length > 20 && linked.length >= 4);
  assert.deepEqual(
    [...loaded, ...linked].filter((path) => !files.has(path)),
    [],
  );
  assert.deepEqual(
    pageModules.filter(({ name }) => name !== 'main.js' && !loaded.includes(name)).map(({ name }) => name),
    [],
    'nobody imports it',
  );
});

test('the page has no inline script or style, asks nobody else, and never makes markup of text', () => {
  const index = readFileSync(`${pageFolder}index.html`, 'utf8');
  assert.doesNotMatch(index, /<style|style=|<script(?![^>]*\bsrc=)|\bon\w+=/i);
  for (const { name, text } of [
    ...pageModules,
    { name: 'index.html', text: index },
    { name: 'console.css', text: readFileSync(`${pageFolder}console.css`, 'utf8') },
  ]) {
    assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|@import/, name);
    const addresses = [...text.matchAll(/https?:\/\/[^\s'"`<]+/g)].map(([address]) => address);
    assert.deepEqual(
      addresses.filter((address) => address !== 'http://host:9464'),
      [],
      name,
    );
  }
});

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingHttpHeaders } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { consoleRefusal } from '../../src/console/console.ts';
import { type Environment, loadConfig } from '../../src/config/load.ts';
import { FailedAttempts, Gate, isLoopback } from '../../src/observability/gate.ts';
import { ManualTime } from '../support/manual-time.ts';
import { KeptLog } from '../support/rabbitmq.ts';
import { fencesOf, readReadme } from '../support/readme.ts';

const token = 'correct-horse-battery';
const bearer = (text: string) => ({ authorization: `Bearer ${text}` });

function gateOn(host: string, users: Environment = { ADMIN_TOKEN: token }) {
  const clock = new ManualTime();
  const log = new KeptLog();
  const gate = new Gate(loadConfig({ HTTP_HOST: host, ...users }).http, clock, log);
  /** The role, with the name where there is one, `open` for nobody in particular, or the status of the refusal. */
  const status = async (headers: IncomingHttpHeaders, change = false, address = '127.0.0.1') => {
    const visitor = { headers: { host: '127.0.0.1:9464', ...headers }, address };
    const verdict = await (change ? gate.operators : gate.viewers)(visitor, new URLSearchParams());
    if (!verdict.ok) return verdict.status;
    return verdict.user === null ? 'open' : `${verdict.user.role} ${verdict.user.name ?? ''}`.trim();
  };
  const admitted = async (name: string) => (await gate.admit({ headers: { host: name }, address: 'a' }, new URLSearchParams())).ok;
  return { status, admitted, clock, log };
}

test('loopback is localhost, 127.0.0.0/8 and ::1, and nothing that only looks like them', () => {
  for (const host of ['localhost', 'LOCALHOST', 'localhost.', '127.0.0.1', '127.9.8.7', '::1', '[::1]']) assert.ok(isLoopback(host), host);
  for (const host of [
    '0.0.0.0',
    '::',
    '10.0.0.1',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    '127.0.0.1.nip.io',
    'example.com',
    '',
  ]) {
    assert.ok(!isLoopback(host), host);
  }
});

test('on loopback everybody reads, and changes need the token', async () => {
  const { status } = gateOn('127.0.0.1');
  assert.equal(await status({}), 'viewer');
  assert.equal(await status({}, true), 401);
  assert.equal(await status(bearer(token), true), 'operator');
  assert.equal(await status(bearer('wrong'), true), 401);
});

test('a token that is wrong is refused also where none would be needed', async () => {
  assert.equal(await gateOn('127.0.0.1').status(bearer('wrong')), 401);
});

test('without ADMIN_TOKEN no token opens anything, not even an empty one', async () => {
  const { status } = gateOn('127.0.0.1', {});
  for (const given of [{}, bearer(''), bearer('null'), bearer(token), { authorization: '' }]) {
    assert.equal(await status(given, true), 403);
    assert.equal(await status(given), 'viewer', 'a browser tab may still have a token of before');
  }
});

test('only the bearer scheme and only the whole token count', async () => {
  for (const authorization of [
    token,
    `Basic ${token}`,
    `Bearer ${token} `,
    `Bearer ${token.slice(1)}`,
    `Bearer x${token}`,
    `Bearer  ${token}`,
    'Bearer',
  ]) {
    assert.equal(await gateOn('127.0.0.1').status({ authorization }, true), 401, authorization);
  }
  assert.equal(await gateOn('127.0.0.1').status({ authorization: `bearer ${token}` }, true), 'operator');
});

test('beyond loopback everything needs the token', async () => {
  const { status, admitted } = gateOn('0.0.0.0');
  assert.equal(await status({ host: 'inorder.example:9464' }), 401);
  assert.equal(await status({ host: 'inorder.example:9464', ...bearer(token) }), 'operator');
  assert.ok(await admitted('inorder.example'));
});

test('on loopback a name that was rebound to it is refused, for the page and for data, with the token too', async () => {
  const { status, admitted } = gateOn('127.0.0.1');
  for (const host of ['evil.example', 'evil.example:9464', 'localhost.evil.example', '10.0.0.1:9464', '']) {
    assert.equal(await status({ host }), 403, host);
    assert.equal(await status({ host, ...bearer(token) }, true), 403, host);
    assert.ok(!(await admitted(host)), host);
  }
  for (const host of ['localhost:8080', '[::1]:9464', '127.0.0.1']) assert.equal(await status({ host }), 'viewer', host);
});

test('what comes from a page of another origin is refused, whatever it brings', async () => {
  const { status } = gateOn('127.0.0.1');
  for (const site of ['cross-site', 'same-site']) assert.equal(await status({ 'sec-fetch-site': site, ...bearer(token) }, true), 403, site);
  for (const origin of ['http://evil.example', 'http://127.0.0.1:1', 'http://localhost:9464', 'null', 'garbage']) {
    assert.equal(await status({ origin, ...bearer(token) }, true), 403, origin);
  }
  assert.equal(await status({ 'sec-fetch-site': 'same-origin', origin: 'http://127.0.0.1:9464', ...bearer(token) }, true), 'operator');
  assert.equal(await status({ 'sec-fetch-site': 'none' }), 'viewer');
  assert.equal(await status({ host: 'localhost:80', origin: 'http://localhost' }), 'viewer');
});

test('whoever guesses waits ever longer for the answer, and the right token never waits, from the same address neither', async () => {
  const { status, clock } = gateOn('0.0.0.0');
  for (let guess = 1; guess <= 5; guess++) assert.equal(await status(bearer(`guess-${guess}`)), 401);
  for (const waitMs of [500, 1_000, 2_000, 4_000, 5_000, 5_000]) {
    let answer: unknown = null;
    const asked = status(bearer('another guess')).then((verdict) => (answer = verdict));
    assert.equal(await status(bearer(token), true), 'operator');
    clock.advance(waitMs - 1);
    await setImmediate();
    assert.equal(answer, null, `an answer before ${waitMs} ms`);
    clock.advance(1);
    assert.equal(await asked, 401);
  }
  assert.equal(await status(bearer('a first guess'), false, 'another address'), 401);
});

test('of many addresses only so many are remembered, and failures are forgotten', () => {
  const attempts = new FailedAttempts();
  const guess = (address: string, nowMs: number) => attempts.delayMs(address, nowMs);
  for (let count = 0; count < 40; count++) guess('a', 0);
  assert.equal(guess('a', 1), 5_000);
  assert.equal(guess('a', 16 * 60_000), 0);
  for (let count = 0; count < 6; count++) guess('old', 0);
  for (let address = 0; address < 1_000; address++) guess(`address ${address}`, 1);
  assert.equal(guess('old', 2), 0);
});

test('READ_TOKEN reads and changes nothing', async () => {
  const { status } = gateOn('0.0.0.0', { ADMIN_TOKEN: token, READ_TOKEN: 'only-for-reading' });
  assert.equal(await status(bearer('only-for-reading')), 'viewer');
  assert.equal(await status(bearer('only-for-reading'), true), 403);
});

test('a user with a token of one’s own is known by name, with the role that the file says', async (t) => {
  const file = join(mkdtempSync(join(tmpdir(), 'inorder-tokens-')), 'tokens');
  t.after(() => rmSync(dirname(file), { recursive: true }));
  const hash = (text: string) => createHash('sha256').update(text).digest('hex');
  writeFileSync(file, `# who may what\nalice operator ${hash('alice’s')}\n\n  bob\tviewer ${hash("bob's-token").toUpperCase()}  \n`);
  const { status } = gateOn('0.0.0.0', { TOKENS_FILE: file });
  assert.equal(await status(bearer("bob's-token")), 'viewer bob');
  assert.equal(await status(bearer("bob's-token"), true), 403);
  assert.equal(await status(bearer(hash("bob's-token"))), 401);
});

test('TOKENS_FILE is read again when it has changed, and where it cannot be used the users of before stay', async (t) => {
  const file = join(mkdtempSync(join(tmpdir(), 'inorder-tokens-')), 'tokens');
  t.after(() => rmSync(dirname(file), { recursive: true }));
  const alice = (word: string, role = 'operator') =>
    `alice ${role} ${createHash('sha256').update(`${word}-token-of-alice`).digest('hex')}\n`;
  writeFileSync(file, alice('first'));
  const { status, log, clock } = gateOn('0.0.0.0', { TOKENS_FILE: file });
  const asked = (word: string, laterMs = 1_000) => {
    clock.advance(laterMs);
    return status(bearer(`${word}-token-of-alice`), true, `at ${clock.atMs}`);
  };
  assert.deepEqual([await asked('first'), await asked('second')], ['operator alice', 401]);
  assert.equal(log.text, '', 'nothing has changed');

  writeFileSync(file, alice('first') + alice('second'));
  assert.equal(await asked('second', 999), 401, 'it is looked at once a second');
  assert.deepEqual([await asked('first'), await asked('second')], ['operator alice', 'operator alice'], 'both while she exchanges it');
  // Replaced, as Kubernetes and careful editors do, by a file of the same size.
  writeFileSync(`${file}.new`, alice('first') + alice('third'));
  renameSync(`${file}.new`, file);
  assert.deepEqual([await asked('first'), await asked('second'), await asked('third')], ['operator alice', 401, 'operator alice']);
  writeFileSync(file, alice('third', 'viewer'));
  assert.deepEqual([await asked('first'), await asked('third')], [401, 403]);
  assert.equal(log.text.match(/was read again/g)?.length, 3);

  for (const spoil of [() => writeFileSync(file, 'alice operator her-very-token\n'), () => writeFileSync(file, ''), () => rmSync(file)]) {
    const told: number = log.text.length;
    spoil();
    for (const _again of [1, 2]) assert.equal(await asked('third'), 403, 'the users of before');
    assert.equal(log.text.slice(told).match(/the users that it had before stay/g)?.length, 1, 'once for each change');
  }
  assert.match(log.text, /TOKENS_FILE, line 1: it must be .*the file is empty.*cannot be read \(ENOENT\)/s);
  assert.doesNotMatch(log.text, /her-very-token/);
  writeFileSync(file, alice('fourth'));
  assert.deepEqual([await asked('third'), await asked('fourth')], [401, 'operator alice']);
  assert.match(log.text, /the one line `# nobody` ends them all/);
  writeFileSync(file, '# nobody\n');
  assert.notEqual(await asked('fourth'), 'operator alice', 'the last user is revoked');
});

test('a token and its line are made as the README says', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'inorder-tokens-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const recipe = fencesOf(readReadme('src/console/README.md')).find(({ text }) => text.includes('sha256sum'))!.text;
  execFileSync('sh', ['-c', recipe], { cwd: folder });
  const { status } = gateOn('0.0.0.0', { TOKENS_FILE: join(folder, 'tokens') });
  assert.equal(await status(bearer(readFileSync(join(folder, 'alice.token'), 'utf8').trim()), true), 'operator alice');
});

const proxied = {
  TRUSTED_USER_HEADER: 'X-Forwarded-User',
  TRUSTED_PROXIES: '10.0.0.7, fd00::/8,10.1.0.0/16',
  TRUSTED_OPERATORS: 'alice',
};
const named = (name: string) => ({ 'x-forwarded-user': name });

test('a trusted proxy says who asks, and nobody else does', async () => {
  const { status } = gateOn('0.0.0.0', proxied);
  for (const proxy of ['10.0.0.7', '::ffff:10.0.0.7', '10.1.255.1', 'fd12::1'])
    assert.equal(await status(named('alice'), true, proxy), 'operator alice', proxy);
  assert.equal(await status(named('bob'), false, '10.0.0.7'), 'viewer bob');
  assert.equal(await status(named('bob'), true, '10.0.0.7'), 403);
  assert.equal(await status({}, false, '10.0.0.7'), 401);
  for (const other of ['10.0.0.8', '10.2.0.1', '::ffff:10.0.0.8', 'fe80::1', 'unknown', '127.0.0.1'])
    assert.equal(await status(named('alice'), false, other), 401, other);
});

test('a name is in UTF-8, of which Node makes Latin-1, or the request is refused', async () => {
  const { status } = gateOn('0.0.0.0', { ...proxied, TRUSTED_OPERATORS: 'Đặng' });
  const latin1 = (name: string) => named(Buffer.from(name).toString('latin1'));
  assert.equal(await status(latin1('Đặng'), true, '10.0.0.7'), 'operator Đặng');
  assert.equal(await status(latin1('Zoë à'), false, '10.0.0.7'), 'viewer Zoë à');
  for (const invalid of ['Zo\u00eb', '\u00c4\u0090\u00e1']) assert.equal(await status(named(invalid), false, '10.0.0.7'), 403, invalid);
});

test('a proxy that passes on what a client has sent names nobody', async () => {
  const { status } = gateOn('0.0.0.0', proxied);
  for (const name of ['bob, alice', 'alice,', 'x'.repeat(101), 'a\u0000b'])
    assert.equal(await status(named(name), false, '10.0.0.7'), 403, name);
});

test('behind a proxy that changes Host, the browser’s word counts, and a page of another origin is refused', async () => {
  const { status } = gateOn('0.0.0.0', proxied);
  const headers = { host: 'inorder:9464', origin: 'https://inorder.example', ...named('alice') };
  assert.equal(await status({ ...headers, 'sec-fetch-site': 'same-origin' }, true, '10.0.0.7'), 'operator alice');
  assert.equal(await status({ ...headers, 'sec-fetch-site': 'cross-site' }, true, '10.0.0.7'), 403);
  assert.equal(await status(headers, true, '10.0.0.7'), 403);
});

test('through a proxy a right token counts more than the name, and what the proxy sends in its place is not held against it', async () => {
  const { status } = gateOn('0.0.0.0', { ...proxied, ADMIN_TOKEN: token });
  assert.equal(await status({ ...named('bob'), ...bearer(token) }, true, '10.0.0.7'), 'operator');
  for (let request = 0; request < 20; request++)
    assert.equal(await status({ ...named('bob'), ...bearer('of.the.proxy') }, false, '10.0.0.7'), 'viewer bob');
});

test('where others can reach it, a console without users is refused, naming both variables', () => {
  const refusal = (host: string, users: Environment) => consoleRefusal(loadConfig({ HTTP_HOST: host, ...users }));
  assert.match(refusal('0.0.0.0', {}) ?? '', /^HTTP_HOST is 0\.0\.0\.0, .*ADMIN_TOKEN/);
  for (const users of [{ ADMIN_TOKEN: token }, { READ_TOKEN: token }, proxied]) assert.equal(refusal('0.0.0.0', users), null);
  assert.equal(refusal('::1', {}), null);
});

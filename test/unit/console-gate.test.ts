import assert from 'node:assert/strict';
import type { IncomingHttpHeaders } from 'node:http';
import test from 'node:test';
import { consoleRefusal } from '../../src/console/console.ts';
import { FailedAttempts, Gate, isLoopback } from '../../src/console/gate.ts';
import { ManualTime } from '../support/manual-time.ts';

const token = 'correct-horse-battery';
const bearer = (text: string) => ({ authorization: `Bearer ${text}` });

function gateOn(host: string, adminToken: string | null = token) {
  const clock = new ManualTime();
  const gate = new Gate({ host, token: adminToken, time: clock });
  const status = (headers: IncomingHttpHeaders, change = false, address = '127.0.0.1') => {
    const verdict = gate.judge({ headers: { host: '127.0.0.1:9464', ...headers }, address }, change);
    return verdict.ok ? (verdict.admin ? 'admin' : 'reader') : verdict.status;
  };
  return { gate, status, clock };
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

test('on loopback everybody reads, and changes need the token', () => {
  const { status } = gateOn('127.0.0.1');
  assert.equal(status({}), 'reader');
  assert.equal(status({}, true), 401);
  assert.equal(status(bearer(token), true), 'admin');
  assert.equal(status(bearer('wrong'), true), 401);
});

test('a token that is wrong is refused also where none would be needed', () => {
  assert.equal(gateOn('127.0.0.1').status(bearer('wrong')), 401);
});

test('without ADMIN_TOKEN no token opens anything, not even an empty one', () => {
  const { status } = gateOn('127.0.0.1', null);
  assert.equal(status({}), 'reader');
  for (const given of [{}, bearer(''), bearer('null'), { authorization: '' }]) assert.equal(status(given, true), 403);
});

test('only the bearer scheme and only the whole token count', () => {
  for (const authorization of [
    token,
    `Basic ${token}`,
    `Bearer ${token} `,
    `Bearer ${token.slice(1)}`,
    `Bearer x${token}`,
    `Bearer  ${token}`,
    'Bearer',
  ]) {
    assert.equal(gateOn('127.0.0.1').status({ authorization }, true), 401, authorization);
  }
  assert.equal(gateOn('127.0.0.1').status({ authorization: `bearer ${token}` }, true), 'admin');
});

test('beyond loopback everything needs the token', () => {
  const { status, gate } = gateOn('0.0.0.0');
  assert.equal(status({ host: 'inorder.example:9464' }), 401);
  assert.equal(status({ host: 'inorder.example:9464', ...bearer(token) }), 'admin');
  assert.ok(gate.admit({ headers: { host: 'inorder.example' }, address: '10.0.0.9' }).ok);
});

test('on loopback a name that was rebound to it is refused, for the page and for data, with the token too', () => {
  const { status, gate } = gateOn('127.0.0.1');
  for (const host of ['evil.example', 'evil.example:9464', 'localhost.evil.example', '10.0.0.1:9464', '']) {
    assert.equal(status({ host }), 403, host);
    assert.equal(status({ host, ...bearer(token) }, true), 403, host);
    assert.ok(!gate.admit({ headers: { host }, address: '127.0.0.1' }).ok, host);
  }
  for (const host of ['localhost:8080', '[::1]:9464', '127.0.0.1']) assert.equal(status({ host }), 'reader', host);
});

test('what comes from a page of another origin is refused, whatever it brings', () => {
  const { status } = gateOn('127.0.0.1');
  for (const site of ['cross-site', 'same-site']) assert.equal(status({ 'sec-fetch-site': site, ...bearer(token) }, true), 403, site);
  for (const origin of ['http://evil.example', 'http://127.0.0.1:1', 'http://localhost:9464', 'null', 'garbage']) {
    assert.equal(status({ origin, ...bearer(token) }, true), 403, origin);
  }
  assert.equal(status({ 'sec-fetch-site': 'same-origin', origin: 'http://127.0.0.1:9464', ...bearer(token) }, true), 'admin');
  assert.equal(status({ 'sec-fetch-site': 'none' }), 'reader');
  assert.equal(status({ host: 'localhost:80', origin: 'http://localhost' }), 'reader');
});

test('whoever guesses waits, ever longer, even with the right token; others do not', () => {
  const { status, gate, clock } = gateOn('0.0.0.0');
  for (let guess = 1; guess <= 5; guess++) assert.equal(status(bearer(`guess-${guess}`), true, 'a'), 401);
  assert.equal(status(bearer(token), true, 'a'), 429);
  const refused = gate.judge({ headers: { host: 'x', ...bearer(token) }, address: 'a' }, true);
  assert.equal(!refused.ok && refused.retryAfterSeconds, 1);
  assert.equal(status(bearer(token), true, 'b'), 'admin');
  clock.atMs = 1_000;
  assert.equal(status(bearer('guess-6'), true, 'a'), 401);
  clock.atMs = 2_500;
  assert.equal(status(bearer(token), true, 'a'), 429);
  clock.atMs = 3_000;
  assert.equal(status(bearer(token), true, 'a'), 'admin');
  assert.equal(status(bearer('wrong again'), true, 'a'), 401);
  assert.equal(status(bearer(token), true, 'a'), 'admin');
});

test('a wait has an end, and of many addresses only so many are remembered', () => {
  const attempts = new FailedAttempts();
  for (let guess = 0; guess < 40; guess++) attempts.failed('a', 0);
  assert.equal(attempts.waitMs('a', 0), 60_000);
  assert.equal(attempts.waitMs('a', 16 * 60_000), 0);
  for (let guess = 0; guess < 6; guess++) attempts.failed('old', 0);
  for (let address = 0; address < 1_000; address++) attempts.failed(`address ${address}`, 1);
  assert.equal(attempts.waitMs('old', 2), 0);
});

test('where others can reach it, a console without a token is refused, naming both variables', () => {
  const http = (host: string, adminToken: string | null) => ({ http: { host, port: 1, adminToken } });
  assert.match(consoleRefusal(http('0.0.0.0', null)) ?? '', /^HTTP_HOST is 0\.0\.0\.0, .*ADMIN_TOKEN/);
  assert.equal(consoleRefusal(http('0.0.0.0', token)), null);
  assert.equal(consoleRefusal(http('::1', null)), null);
});

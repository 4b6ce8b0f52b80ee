/** What is found of a broker and a store beyond what real ones show in a test: nodes that are down, clocks, distance. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { alarmFindings, brokerClockFinding } from '../../src/rabbitmq/topology-check.ts';
import { consumerTimeoutFinding, policyFindings } from '../../src/rabbitmq/policy-check.ts';
import type { Listener } from '../../src/rabbitmq/management.ts';
import { planTopology } from '../../src/rabbitmq/topology-plan.ts';
import { safetyFindings } from '../../src/cli/safety.ts';
import { layoutUnread } from '../../src/cli/topology.ts';
import { loadConfig } from '../../src/config/load.ts';
import { ConfigError, UnavailableError } from '../../src/errors.ts';
import { failureBy, measureRoundTrips } from '../../src/finding.ts';
import { openFilesFinding } from '../../src/worker/start.ts';
import { refused } from '../../src/rabbitmq/refusal.ts';
import { failureOf } from '../../src/stores/postgres/failures.ts';
import { unavailable } from '../../src/stores/redis/failures.ts';
import { systemTime } from '../../src/time.ts';

const plan = planTopology({ stream: 'events', shards: 2, queueType: 'quorum', exchangeType: 'x-consistent-hash' });

test('an error that says what to do is a failure with that remedy, any other with the usual one; what is said is said once', () => {
  const told = (error: Error) => failureBy('store', error, 'start it');
  const full = Object.assign(new Error("OOM command not allowed. Why? used memory > 'maxmemory'."), { name: 'ReplyError' });
  const store = { level: 'failure', subject: 'store' };
  assert.deepEqual(told(unavailable('Redis', full)), {
    ...store,
    detail: "Redis cannot serve: it has reached maxmemory (OOM command not allowed. Why? used memory > 'maxmemory')",
    remedy: 'Raise maxmemory or free memory; the eviction policy must stay noeviction.',
  });
  const expired = new Error('certificate has expired');
  assert.deepEqual(told(failureOf('db', expired, { hasServed: false })), {
    ...store,
    detail: 'db refuses: its certificate has expired (certificate has expired)',
    remedy: 'Renew it at the server.',
  });
  const message = `Channel closed by server: 403 (ACCESS-REFUSED) with message "ACCESS_REFUSED - read access to queue 'q' in vhost '/' refused for user 'u'"`;
  assert.deepEqual(told(refused('queue q cannot be counted', new Error(message))), {
    ...store,
    detail: "queue q cannot be counted: no access to queue 'q' in virtual host '/'",
    remedy: "add ^q$ to the read permission of user 'u' (`inorder permissions` prints what each role needs)",
  });
  assert.equal(told(unavailable('Redis', new Error('connect ECONNREFUSED'))).remedy, 'start it');
  const elsewhere = new UnavailableError('Start it. It is down', { remedy: 'Start it.' });
  assert.deepEqual(told(elsewhere), { ...store, detail: 'Start it. It is down', remedy: 'Start it.' }, 'nothing is cut that is no remedy');
  assert.equal(told(new UnavailableError('amqp://u:secret@host is down')).detail, 'amqp://***@host is down');
});

test('a layout that cannot be read has the remedy of the error, a newer one the usual remedy, and a defect is thrown', () => {
  const wrongPassword = Object.assign(new Error('password authentication failed for user "u"'), { code: '28P01' });
  const [subject, remedy] = ['layout', 'Correct user and password in DATABASE_URL.'];
  const detail = 'db refuses: user and password are not accepted (password authentication failed for user "u")';
  assert.deepEqual(layoutUnread(failureOf('db', wrongPassword, { hasServed: false })), { level: 'failure', subject, detail, remedy });
  const wrongPass = Object.assign(new Error('WRONGPASS invalid username-password pair'), { name: 'ReplyError' });
  assert.deepEqual(layoutUnread(unavailable('Redis', wrongPass)), {
    level: 'warning',
    subject,
    detail: 'not known: Redis cannot serve: user and password are not accepted (WRONGPASS invalid username-password pair)',
    remedy: 'Correct the credentials in its URL.',
  });
  assert.equal(layoutUnread(unavailable('Redis', new Error('connect ECONNREFUSED'))).remedy, 'start the store, or correct its URL');
  assert.equal(layoutUnread(new ConfigError(['layout 2'])).remedy, 'use another version of Inorder, or another store');
  assert.throws(() => layoutUnread(new TypeError('a defect')), TypeError);
});

test('alarms, partitions and nodes that are down are failures, each with its remedy', () => {
  const well = { name: 'a', running: true, mem_alarm: false, disk_free_alarm: false, partitions: [], fd_used: 80, fd_total: 100 };
  assert.deepEqual(
    alarmFindings([well, { ...well, name: 'b' }]).map(({ level, detail }) => [level, detail]),
    [['ok', 'none at 2 nodes']],
  );
  const found = alarmFindings([
    well,
    { ...well, name: 'b', mem_alarm: true, disk_free_alarm: true, partitions: ['a'] },
    { name: 'c', running: false },
    { ...well, name: 'd', fd_used: 81 },
  ]);
  assert.deepEqual(
    found.map(({ level, subject, detail }) => `${level} ${subject}: ${detail}`),
    [
      'failure node b: its memory alarm is on: publishers are blocked',
      'failure node b: its disk alarm is on: publishers are blocked',
      'failure node b: it has lost sight of a',
      'failure node c: it is down',
      'warning node d: it uses 81 of 100 file descriptors',
    ],
  );
  assert.ok(found.every(({ remedy }) => remedy !== null && remedy !== ''));
});

test('a broker whose clock is far off is a warning', () => {
  assert.equal(brokerClockFinding(-4_000).level, 'ok');
  assert.deepEqual(
    [brokerClockFinding(60_000).level, brokerClockFinding(60_000).detail],
    ['warning', "it is 60 s ahead of this machine's"],
  );
  assert.equal(brokerClockFinding(-60_000).detail, "it is 60 s behind this machine's");
});

test('a limit of open files that a worker could reach is a failure; none that is known is not', () => {
  const limits = (soft: string) => `Limit                     Soft Limit           Hard Limit           Units
Max open files            ${soft.padEnd(20)} 524288               files     `;
  assert.deepEqual(
    ['200', '199', 'unlimited'].map((soft) => openFilesFinding(200, limits(soft)).level),
    ['ok', 'failure', 'ok'],
  );
  assert.equal(openFilesFinding(200, '').level, 'ok', 'a system that does not say');
  assert.equal(openFilesFinding(200, limits('64')).detail, 'this process may have 64, and a worker needs 200');
  assert.match(openFilesFinding(200).detail, /^at most \d+, and a worker needs 200$/);
});

test('what is unsafe beyond this machine is a warning, each with its remedy; on it nothing is', () => {
  const listeners: Listener[] = [
    { protocol: 'http', ip_address: '::', port: 15672, socket_opts: { ip: '127.0.0.1' } },
    { protocol: 'amqp', ip_address: '127.0.0.1', port: 5672 },
    { protocol: 'amqp/ssl', ip_address: '::', port: 5671 },
    { protocol: 'clustering', ip_address: '::', port: 25672 },
  ];
  const found = (env: Record<string, string>) =>
    safetyFindings(loadConfig(env), { user: null, listeners }).flatMap(({ level, subject, detail, remedy }) =>
      level === 'ok' ? [] : [`${level} ${subject}: ${detail.split(/[:,]/, 1)[0]} -> ${remedy!.split(' ', 2).join(' ')}`],
    );
  assert.deepEqual(found({}), []);
  const local = { AMQP_URL: 'amqp://[::1]', REDIS_URL: 'redis://127.0.0.2', DATABASE_URL: 'postgres://localhost/orders' };
  assert.deepEqual(found({ ...local, STATE_STORE: 'postgres', EVENT_STORE: 'redis' }), []);
  const far = {
    AMQP_URL: 'amqp://rabbit',
    MANAGEMENT_URL: 'http://guest:guest@rabbit:15672',
    REDIS_URL: 'redis://redis',
    HTTP_HOST: '0.0.0.0',
  };
  assert.deepEqual(found(far), [
    'warning encryption: AMQP_URL leads to rabbit in clear -> use amqps://',
    'warning encryption: MANAGEMENT_URL leads to rabbit in clear -> use https://',
    'warning encryption: REDIS_URL leads to redis in clear -> use rediss://',
    'warning logins: AMQP_URL leads to rabbit as the default user guest -> make users',
    'warning logins: MANAGEMENT_URL leads to rabbit as the default user guest -> make users',
    'warning logins: REDIS_URL leads to redis without a password -> make users',
    'warning http: HTTP_HOST is 0.0.0.0 -> set READ_TOKEN',
  ]);
  assert.deepEqual(found({ REDIS_URL: 'rediss+cluster://:word@a,b' }), [
    'warning logins: REDIS_URL leads to a as the user default -> make users',
    'warning logins: REDIS_URL leads to b as the user default -> make users',
  ]);
  const postgres = (place: string, query = '') =>
    found({ AMQP_URL: 'amqps://me:word@rabbit', STATE_STORE: 'postgres', DATABASE_URL: `postgres://me@${place}/orders${query}` });
  for (const query of ['', '?ssl=0', '?sslmode=disable', '?ssl=true&sslmode=disable'])
    assert.deepEqual(postgres('db', query), ['warning encryption: DATABASE_URL leads to db in clear -> let it'], query);
  for (const query of ['?ssl=true', '?ssl=1', '?sslmode=prefer', '?sslmode=require', '?sslnegotiation=direct', '?sslrootcert=/nowhere'])
    assert.deepEqual(postgres('db', query), [], query);
  assert.deepEqual(postgres('%2Frun%2Fpostgresql'), []);
  const safe = {
    AMQP_URL: 'amqps://me:word@rabbit',
    MANAGEMENT_URL: 'https://me:word@rabbit:15671',
    REDIS_URL: 'rediss://me:word@redis',
    DATABASE_URL: 'postgres://me:word@db/orders?sslmode=verify-full',
    HTTP_HOST: '0.0.0.0',
    READ_TOKEN: 'a-token-of-16-characters',
  };
  assert.deepEqual(found(safe), []);
  const http = safetyFindings(loadConfig(safe), { user: null, listeners }).find(({ subject }) => subject === 'http');
  assert.match(http?.detail ?? '', /in clear: tokens need a proxy with TLS in front$/);
  for (const node of ['0.0.0.0', '::']) listeners.push({ protocol: 'amqp', ip_address: node, port: 5672 });
  listeners.push({ protocol: 'http', ip_address: '::', port: 15672 });
  const [also, ...others] = safetyFindings(loadConfig(safe), { user: null, listeners }).filter(({ level }) => level !== 'ok');
  assert.equal(also?.detail, 'the broker takes others in clear: amqp at port 5672, http at port 15672');
  assert.deepEqual(others, []);
});

test('a policy that delays what goes back to the queue is a failure, unless it says that it does not', () => {
  const policy = (value: string) => ({
    name: 'later',
    pattern: '^events',
    'apply-to': 'queues',
    priority: 0,
    definition: { 'delayed-retry-type': value },
  });
  const found = (value: string) =>
    policyFindings(plan, { exchanges: [], queues: [], bindings: [], policies: [policy(value)], operatorPolicies: [] });
  assert.deepEqual(
    found('disabled').map(({ level }) => level),
    ['ok'],
  );
  assert.equal(found('all')[0]?.level, 'failure');
  assert.match(found('all')[0]?.detail ?? '', /delayed-retry-type to "all": .* behind its successors/);
});

test('a policy whose consumer timeout leaves a gap too little time is a failure', () => {
  const found = (timeout: number | null, kind: 'policies' | 'operatorPolicies' = 'policies') => {
    const policy = {
      name: 'short',
      pattern: '^events',
      'apply-to': 'queues',
      priority: 0,
      definition: timeout === null ? {} : { 'consumer-timeout': timeout },
    };
    const seen = { exchanges: [], queues: [], bindings: [], policies: [], operatorPolicies: [], [kind]: [policy] };
    return consumerTimeoutFinding(plan, seen, 30_000);
  };
  assert.equal(
    found(null).detail,
    'no policy sets it; rabbitmq.conf cannot be seen from here, and its default is 1800000 ms; GAP_TIMEOUT_MS is 30000',
  );
  assert.equal(found(90_000).detail, '90000 ms by policy; GAP_TIMEOUT_MS is 30000');
  const elsewhere = {
    name: 'short',
    pattern: '^events\\.dead-letters$',
    'apply-to': 'queues',
    priority: 0,
    definition: { 'consumer-timeout': 1_000 },
  };
  assert.equal(
    consumerTimeoutFinding(plan, { exchanges: [], queues: [], bindings: [], policies: [elsewhere], operatorPolicies: [] }, 30_000).level,
    'ok',
    'nothing is held there',
  );
  for (const kind of ['policies', 'operatorPolicies'] as const) {
    assert.equal(found(89_999, kind).level, 'failure');
    assert.equal(found(89_999, kind).remedy, 'set it to 90000 or more, or lower GAP_TIMEOUT_MS');
  }
});

test('a store that is far away or whose clock is off is a warning, and one that is neither is not', async () => {
  const levels = async (readClock: () => Promise<number>) =>
    (await measureRoundTrips('Redis', readClock, systemTime)).map(({ level, subject }) => `${subject} ${level}`);
  assert.deepEqual(await levels(async () => Date.now()), ['Redis latency ok', 'Redis clock ok']);
  assert.deepEqual(await levels(async () => Date.now() - 90_000), ['Redis latency ok', 'Redis clock warning']);
  const far = () => new Promise<number>((resolve) => setTimeout(() => resolve(Date.now()), 15));
  assert.deepEqual(await levels(far), ['Redis latency warning', 'Redis clock ok']);
  const [, behind] = await measureRoundTrips('Redis', async () => Date.now() - 90_000, systemTime);
  assert.match(behind?.detail ?? '', /^It is 90\.0 s behind this machine's/);
  await assert.rejects(
    measureRoundTrips('Redis', async () => Promise.reject(new Error('away')), systemTime),
    /away/,
  );
});

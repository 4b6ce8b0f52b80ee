/** Each difference that is planted in a topology is found, named and given a remedy; what is right is not complained of. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import type { Finding } from '../../src/finding.ts';
import { checkTopology } from '../../src/rabbitmq/topology-check.ts';
import { planTopology, type TopologyOptions, type TopologyPlan } from '../../src/rabbitmq/topology-plan.ts';
import { applyTopology } from '../../src/rabbitmq/topology.ts';
import { KeptLog, useConnection, useRawChannel } from '../support/rabbitmq.ts';
import { uniqueStream, useServices } from '../support/services.ts';

async function setUp(t: TestContext, options: Partial<TopologyOptions> = {}) {
  const { amqpUrl, managementUrl } = await useServices(t);
  const stream = uniqueStream('check');
  const plan = planTopology({ stream, shards: 3, queueType: 'quorum', exchangeType: 'x-consistent-hash', ...options });
  const connection = useConnection(t, amqpUrl, new KeptLog());
  await applyTopology(connection, plan);
  const raw = await useRawChannel(t, amqpUrl);
  const trouble = async (changed: { managementUrl?: string; plan?: TopologyPlan } = {}): Promise<readonly Finding[]> => {
    const broker = { urls: [amqpUrl], managementUrl };
    const findings = await checkTopology({ plan, connection, broker: { ...broker, ...changed }, gapTimeoutMs: 30_000, ...changed });
    return findings.filter(({ level }) => level !== 'ok');
  };
  return { amqpUrl, managementUrl, stream, plan, connection, raw, trouble };
}

function assertFinding(findings: readonly Finding[], level: Finding['level'], subject: string, detail: RegExp): void {
  const found = findings.some((finding) => finding.level === level && finding.subject === subject && detail.test(finding.detail));
  assert.ok(found, `${level} ${subject} ${detail} among\n${findings.map((finding) => JSON.stringify(finding)).join('\n')}`);
  assert.ok(findings.every(({ remedy }) => remedy !== null && remedy !== ''));
}

/** Sets a policy, and removes it after the test. */
async function usePolicy(t: TestContext, managementUrl: string, kind: 'policies' | 'operator-policies', policy: object): Promise<void> {
  const { origin, username, password } = new URL(managementUrl);
  const url = `${origin}/api/${kind}/%2F/${uniqueStream('policy')}`;
  const headers = {
    authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`,
    'content-type': 'application/json',
  };
  const response = await fetch(url, { method: 'PUT', headers, body: JSON.stringify(policy) });
  assert.ok(response.ok, `the policy was set: ${response.status}`);
  t.after(() => fetch(url, { method: 'DELETE', headers }));
}

test('a missing exchange, queue and binding are each found', async (t) => {
  const { stream, raw, trouble } = await setUp(t);
  await raw.deleteExchange(`${stream}.unrouted`);
  await raw.deleteQueue(`${stream}.shard.001`);
  await raw.unbindQueue(`${stream}.shard.002`, stream, '1');
  await raw.unbindQueue(`${stream}.dead-letters`, `${stream}.dlx`, '');
  const findings = await trouble();
  assertFinding(findings, 'failure', `exchange ${stream}.unrouted`, /does not exist/);
  assertFinding(findings, 'failure', `queue ${stream}.shard.001`, /does not exist/);
  assertFinding(findings, 'failure', `bindings of ${stream}`, /shard\.001 is not bound with weight "1"/);
  assertFinding(findings, 'failure', `bindings of ${stream}`, /shard\.002 is not bound with weight "1"/);
  assertFinding(findings, 'failure', `bindings of ${stream}.dlx`, /dead-letters is not bound/);
  assertFinding(findings, 'failure', `bindings of ${stream}.unrouted`, /unrouted is not bound/);
  assert.equal(findings.length, 6);
});

test('a second binding of a shard, one of a stranger, and one of another exchange to a shard are each found', async (t) => {
  const { stream, raw, trouble } = await setUp(t);
  await raw.bindQueue(`${stream}.shard.000`, stream, '3');
  await raw.assertQueue(`${stream}.tap`, { durable: true });
  await raw.bindQueue(`${stream}.tap`, stream, '1');
  await raw.assertExchange(`${stream}.next`, 'fanout', { durable: true });
  await raw.bindExchange(`${stream}.next`, stream, '1');
  await raw.bindQueue(`${stream}.shard.001`, 'amq.topic', '#');
  const findings = await trouble();
  assertFinding(findings, 'failure', `bindings of ${stream}`, /shard\.000 is also bound with weight "3": keys move/);
  assertFinding(findings, 'failure', `bindings of ${stream}`, /^queue \S+\.tap is bound, and takes its share/);
  assertFinding(findings, 'failure', `bindings of ${stream}`, /^exchange \S+\.next is bound, and takes its share/);
  assertFinding(findings, 'failure', `queue ${stream}.shard.001`, /exchange amq\.topic is bound to it as well/);
  assert.equal(findings.length, 4);
});

test('a shard with another weight is found, and a queue that listens to the dead letters is only a warning', async (t) => {
  const { stream, raw, trouble } = await setUp(t);
  await raw.unbindQueue(`${stream}.shard.000`, stream, '1');
  await raw.bindQueue(`${stream}.shard.000`, stream, '2');
  await raw.assertQueue(`${stream}.watcher`, { durable: true });
  await raw.bindQueue(`${stream}.watcher`, `${stream}.dlx`, '');
  const findings = await trouble();
  assertFinding(findings, 'failure', `bindings of ${stream}`, /shard\.000 is not bound with weight "1"/);
  assertFinding(findings, 'failure', `bindings of ${stream}`, /shard\.000 is bound with weight "2"/);
  assertFinding(findings, 'warning', `bindings of ${stream}.dlx`, /watcher is bound as well and gets a copy/);
  assert.equal(findings.length, 3);
});

test('wrong arguments, types and durability are each named with both values', async (t) => {
  const { stream, plan, raw, trouble } = await setUp(t);
  const { 'x-delivery-limit': _limit, ...rest } = plan.queues[2]!.arguments;
  await raw.deleteQueue(`${stream}.shard.000`);
  await raw.assertQueue(`${stream}.shard.000`, { durable: true, arguments: { ...rest, 'x-max-length': 10 } });
  await raw.deleteQueue(`${stream}.shard.001`);
  await raw.assertQueue(`${stream}.shard.001`, { durable: false, autoDelete: true, maxPriority: 5, messageTtl: 1_000 });
  await raw.deleteExchange(stream);
  await raw.assertExchange(stream, 'topic', { durable: false });
  for (const { queue, routingKey } of plan.bindings.slice(2)) await raw.bindQueue(queue, stream, routingKey);
  const findings = await trouble();
  const shard = `queue ${stream}.shard`;
  assertFinding(findings, 'failure', `${shard}.000`, /^x-delivery-limit is not set instead of 1000000; it has x-max-length 10$/);
  assertFinding(findings, 'failure', `${shard}.001`, /^durable is false instead of true; auto_delete is true instead of false; /);
  assertFinding(
    findings,
    'failure',
    `${shard}.001`,
    /it has x-max-priority 5; it has x-message-ttl 1000; .*x-single-active-consumer is not set instead of true/,
  );
  const exchange =
    /^type is topic instead of x-consistent-hash; durable is false instead of true; alternate-exchange is not set instead of "/;
  assertFinding(findings, 'failure', `exchange ${stream}`, exchange);
  assert.equal(findings.length, 3);
});

test('policies that break order are found on the queues that they reach; those that another overrules or that spare the queues are not', async (t) => {
  const { stream, managementUrl, trouble } = await setUp(t);
  assert.ok(managementUrl !== null);
  const set = (kind: 'policies' | 'operator-policies', policy: object) => usePolicy(t, managementUrl, kind, policy);
  await set('policies', {
    pattern: `^${stream}\\.shard\\.00[01]$`,
    'apply-to': 'queues',
    priority: 5,
    definition: { 'message-ttl': 60_000, 'max-length': 9 },
  });
  await set('policies', { pattern: `^${stream}\\.shard\\.000`, 'apply-to': 'queues', priority: 1, definition: { expires: 1_800_000 } });
  await set('policies', { pattern: `^${stream}\\.dead-letters$`, 'apply-to': 'all', priority: 0, definition: { 'max-length': 100 } });
  await set('policies', { pattern: `^${stream}`, 'apply-to': 'exchanges', priority: 99, definition: { 'alternate-exchange': 'x' } });
  await set('operator-policies', {
    pattern: `^${stream}\\.shard\\.002$`,
    'apply-to': 'queues',
    priority: 0,
    definition: { 'delivery-limit': 20 },
  });
  const findings = await trouble();
  const details = findings.map(({ level, detail }) => `${level} ${detail}`).sort();
  assert.deepEqual(details, [
    `failure it sets delivery-limit to 20: messages are dead-lettered or dropped when consumers reconnect often (${stream}.shard.002)`,
    `failure it sets max-length to 100: a full queue drops its oldest messages (${stream}.dead-letters)`,
    `failure it sets message-ttl to 60000: messages expire (${stream}.shard.000, ${stream}.shard.001)`,
  ]);
  assert.deepEqual(findings.map(({ subject }) => subject.split(' policy-')[0]).sort(), ['operator policy', 'policy', 'policy']);
});

test('a length limit by policy harms classic shard queues, which would drop their head', async (t) => {
  const { stream, managementUrl, trouble } = await setUp(t, { queueType: 'classic' });
  assert.ok(managementUrl !== null);
  await usePolicy(t, managementUrl, 'policies', {
    pattern: `^${stream}\\.shard`,
    'apply-to': 'queues',
    priority: 0,
    definition: { 'max-length': 9 },
  });
  assertFinding(await trouble(), 'failure', (await trouble())[0]!.subject, /max-length to 9: a full queue drops its oldest messages/);
});

test('two processes with different SHARDS are noticed, whichever of them looks', async (t) => {
  const { connection, plan, stream, raw, trouble } = await setUp(t, { shards: 2 });
  const more = planTopology({ ...plan, shards: 3 });
  await applyTopology(connection, more);
  const findings = await trouble();
  assertFinding(findings, 'failure', `bindings of ${stream}`, /shard\.002 is bound, but SHARDS is 2: another process has a higher SHARDS/);
  assertFinding(findings, 'failure', `queue ${stream}.shard.002`, /beyond SHARDS=2 \(\S+\.shard\.001 is the last\)/);
  await raw.unbindQueue(`${stream}.shard.002`, stream, '1');
  assertFinding(await trouble(), 'warning', `queue ${stream}.shard.002`, /beyond SHARDS=2/);
  const missing = await trouble({ plan: planTopology({ ...plan, shards: 4 }) });
  assertFinding(missing, 'failure', `queue ${stream}.shard.003`, /does not exist/);
});

test('without the management API it checks what AMQP shows, and says what it could not see and why', async (t) => {
  const { stream, raw, trouble } = await setUp(t, { shards: 2 });
  await raw.deleteQueue(`${stream}.shard.001`);
  const findings = await trouble({ managementUrl: 'http://guest:guest@127.0.0.1:1' });
  assertFinding(findings, 'failure', 'topology', /shard\.001 does not exist/);
  assertFinding(findings, 'warning', 'management API', /^it cannot be reached \(\w+.*\): arguments, bindings, weights, policies/);
  assert.equal(findings.length, 2);
});

test('a management API that refuses the login, is something else or says nothing is each told apart', async (t) => {
  const { managementUrl, trouble } = await setUp(t, { shards: 1 });
  const wrong = new URL(managementUrl!);
  wrong.password = 'not-the-password';
  const refused = await trouble({ managementUrl: wrong.href });
  assertFinding(refused, 'warning', 'management API', /refuses the user name or the password/);
  assert.ok(!JSON.stringify(refused).includes('not-the-password'));
  const server = createServer((request, response) => {
    if (request.headers.authorization === `Basic ${Buffer.from('other:x').toString('base64')}`) response.end('<html>hello</html>');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  t.after(() => server.closeAllConnections());
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  assertFinding(await trouble({ managementUrl: `http://other:x@${host}` }), 'warning', 'management API', /no management API/);
  assertFinding(await trouble({ managementUrl: `http://silent:x@${host}` }), 'warning', 'management API', /does not answer/);
});

/** TLS to the broker and its management API: what is trusted, what is shown, what is refused, and that nothing secret goes out in clear. */
import assert from 'node:assert/strict';
import { copyFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { test, type TestContext } from 'node:test';
import tls from 'node:tls';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { freePort } from '../../deploy/local/free-port.ts';
import type { RabbitNode } from '../../deploy/local/rabbit-node.ts';
import { createConnection } from '../../src/rabbitmq/connection.ts';
import { systemTime } from '../../src/time.ts';
import { Authority, type Certificate, needsOpenssl, renew } from '../support/certificates.ts';
import { keptIo, runHere } from '../support/command-io.ts';
import { startCommand } from '../support/command-process.ts';
import { KeptLog } from '../support/rabbitmq.ts';
import { useRabbitNode, useRedisNode, useServices, waitFor } from '../support/services.ts';
import { WorkerProcess } from '../support/worker-process.ts';

/** A broker whose TLS ports show `certificate`; with `demands` only to clients with a certificate from the same authority. */
async function useTlsBroker(t: TestContext, authority: Authority, certificate: Certificate, { host = '127.0.0.1', demands = false } = {}) {
  const [port, managementPort] = [await freePort(), await freePort()];
  const files = { cacertfile: authority.caFile, certfile: certificate.certFile, keyfile: certificate.keyFile };
  const verify: Record<string, string> = demands ? { verify: 'verify_peer', fail_if_no_peer_cert: 'true' } : {};
  const lines = Object.entries({ ...files, ...verify }).flatMap(([name, value]) => [
    `ssl_options.${name} = ${value}`,
    `management.ssl.${name} = ${value}`,
  ]);
  const configLines = [
    `listeners.ssl.default = ${host}:${port}`,
    `management.ssl.ip = ${host}`,
    `management.ssl.port = ${managementPort}`,
    ...lines,
    'auth_mechanisms.1 = PLAIN',
    'auth_mechanisms.2 = EXTERNAL',
    'ssl_cert_login_from = common_name',
  ];
  const node = await useRabbitNode(t, { configLines, plugins: ['rabbitmq_auth_mechanism_ssl'] });
  return { node, port, managementPort, amqps: (login = 'guest:guest@', name = host) => `amqps://${login}${name}:${port}` };
}

async function inorder(words: string, env: Record<string, string>, stdin?: string) {
  const { redisUrl } = await useServices();
  const { io, out } = keptIo({
    env: { SHARDS: '1', STREAM: 'tls', HTTP_PORT: '1', REDIS_URL: redisUrl, ...env },
    ...(stdin !== undefined && { stdin }),
  });
  return { code: await runHere(words.split(' '), io), ...out };
}

/** What a command says that cannot connect: one line. */
async function refusal(env: Record<string, string>): Promise<string> {
  const { code, stdout, stderr } = await inorder('topology apply', env);
  assert.deepEqual([code === 0, stdout, stderr.split('\n').length], [false, '', 2], stderr);
  return stderr;
}

const filesOf = ({ certFile, keyFile }: Certificate) => ({ AMQP_TLS_CERT_FILE: certFile, AMQP_TLS_KEY_FILE: keyFile });

test('over TLS commands reach the broker and its management API, whose authority is named', needsOpenssl, async (t) => {
  const authority = await Authority.create(t);
  const { managementPort, amqps, node } = await useTlsBroker(t, authority, await authority.issue('server', { hosts: ['broker.test'] }));
  const { redisUrl } = await useServices(t);
  const trusted = { AMQP_TLS_CA_FILE: authority.caFile, AMQP_TLS_SERVER_NAME: 'broker.test', AMQP_URL: amqps(), REDIS_URL: redisUrl };
  assert.equal((await inorder('topology apply', trusted)).code, 0);
  const checked = await inorder('topology check', { ...trusted, MANAGEMENT_URL: `https://guest:guest@127.0.0.1:${managementPort}` });
  assert.match(checked.stdout, /^ok {7}bindings of tls: 1, as they should be$/m);
  assert.ok(!/management API/.test(checked.stdout), checked.stdout);

  const { AMQP_TLS_CA_FILE: _untrusting, ...untrusting } = trusted;
  assert.match(
    await refusal(untrusting),
    /^inorder: the broker at 127\.0\.0\.1:\d+ cannot be reached: its certificate is from an authority that is not trusted \(.+\)\. Name its authority with AMQP_TLS_CA_FILE\.\n$/,
  );
  const { AMQP_TLS_SERVER_NAME: _name, ...nameless } = trusted;
  assert.match(
    await refusal(nameless),
    /its certificate is for another name \(.*\)\. Use a name in it in the URL, or .*AMQP_TLS_SERVER_NAME/,
  );
  assert.match(await refusal({ ...trusted, AMQP_URL: amqps('guest:wrong@') }), /refuses the user name or the password\n$/);
  const plainPort = { ...trusted, AMQP_URL: node.amqpUrl.replace('amqp:', 'amqps:') };
  assert.match(await refusal(plainPort), /what answers at this port is not TLS \(.+\)\. Name the port for TLS \(5671/);
  assert.match(
    await refusal({ AMQP_URL: amqps().replace('amqps:', 'amqp:') }),
    /ends the connection before it is open \(a port for TLS needs amqps:\/\/\)\n$/,
  );
  const { stdout } = await inorder('topology check', { ...trusted, MANAGEMENT_URL: node.managementUrl.replace('http:', 'https:') });
  assert.match(stdout, /^warning {2}management API: it cannot be reached: what answers at this port is not TLS/m);
});

test('a certificate that has expired is refused, whoever issued it and whatever Node.js is told', needsOpenssl, async (t) => {
  process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
  t.after(() => delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']);
  const authority = await Authority.create(t);
  const { certFile, keyFile } = await authority.issue('server', { days: -1 });
  const server = tls.createServer({ cert: readFileSync(certFile), key: readFileSync(keyFile) }).on('tlsClientError', () => undefined);
  const port = await listening(t, server, '127.0.0.1');
  const said = await refusal({ AMQP_URL: `amqps://guest:guest@127.0.0.1:${port}`, AMQP_TLS_CA_FILE: authority.caFile });
  assert.match(said, /its certificate has expired \(certificate has expired\)\. Renew it at the server\.\n$/);
});

test('a broker that demands certificates knows its users by them, and refuses every other', needsOpenssl, async (t) => {
  const [authority, other] = [await Authority.create(t), await Authority.create(t)];
  const { node, amqps, managementPort } = await useTlsBroker(t, authority, await authority.issue('server'), { demands: true });
  await node.ctl('add_user', 'worker-1', 'not used');
  await node.ctl('set_permissions', 'worker-1', '.*', '.*', '.*');
  const base = { AMQP_URL: amqps(''), AMQP_TLS_CA_FILE: authority.caFile };
  const external = { ...base, AMQP_AUTH: 'external', ...filesOf(await authority.issue('worker-1')) };
  assert.equal((await inorder('topology apply', external)).code, 0);
  const unmanaged = await inorder('topology check', external);
  assert.match(unmanaged.stdout, /^warning {2}management API: MANAGEMENT_URL is not set: /m);
  const checked = await inorder('topology check', { ...external, MANAGEMENT_URL: `https://guest:guest@127.0.0.1:${managementPort}` });
  assert.match(checked.stdout, /^ok {7}bindings of tls: 1, as they should be$/m);

  // The alert that says it may be lost with the connection.
  const notOurs = (alert: string) => new RegExp(`(${alert} .+ with|does it accept what) AMQP_TLS_CERT_FILE and AMQP_TLS_KEY_FILE`);
  assert.match(await refusal(base), notOurs('it demands a certificate from its clients'));
  const foreign = { ...external, ...filesOf(await other.issue('worker-1')) };
  assert.match(await refusal(foreign), notOurs('it does not accept the certificate of this client'));
  const expired = { ...external, ...filesOf(await authority.issue('worker-1', { days: -1 })) };
  assert.match(await refusal(expired), notOurs('it does not accept the certificate of this client'));
  const stranger = { ...external, ...filesOf(await authority.issue('nobody')) };
  assert.match(await refusal(stranger), /has no user for the certificate, or no access for it\n$/);
});

test('a worker with all of its connections, the relay and the commands live on certificates alone', needsOpenssl, async (t) => {
  const authority = await Authority.create(t);
  const [server, client] = [await authority.issue('server'), await authority.issue('worker-1')];
  const { node, amqps, managementPort } = await useTlsBroker(t, authority, server, { demands: true });
  await node.ctl('add_user', 'worker-1', 'not used');
  await node.ctl('set_permissions', 'worker-1', '.*', '.*', '.*');
  const redis = await useRedisNode(t, { tls: { ...server, caFile: authority.caFile } });
  const env = {
    ...{ AMQP_URL: amqps(''), AMQP_AUTH: 'external', AMQP_TLS_CA_FILE: authority.caFile, ...filesOf(client) },
    ...{ REDIS_URL: `rediss://127.0.0.1:${redis.tlsPort}`, REDIS_TLS_CA_FILE: authority.caFile },
    ...{ REDIS_TLS_CERT_FILE: client.certFile, REDIS_TLS_KEY_FILE: client.keyFile },
    MANAGEMENT_URL: `https://guest:guest@127.0.0.1:${managementPort}`,
    ...{ STREAM: 'tls', SHARDS: '1', PROCESSOR: 'history', GAP_TIMEOUT_MS: '200', AUTO_REPLAY: 'true' },
  };
  const worker = await WorkerProcess.ready(t, env);
  const line = (entity: string, sequence?: number) => `${JSON.stringify({ entity_id: entity, sequence, type: 'E', data: {} })}\n`;
  const until = (entity: string, text: RegExp) =>
    waitFor(async () => text.test((await inorder(`entity show ${entity}`, env)).stdout), {
      what: () => `${entity}: ${text}\n${worker.output}`,
    });

  assert.equal((await inorder('publish', env, line('a', 1) + line('a', 3))).code, 0);
  await until('a', /^version +1\nparked +since/m);
  assert.match((await inorder('dead-letters list', env)).stdout, /gap_timeout/);
  await inorder('publish', env, line('a', 2));
  await until('a', /^version +3\nparked +no/m);

  assert.equal((await inorder('events append', env, line('b') + line('b'))).stdout, '2 appended, 0 known, 0 refused\n');
  const relay = await startCommand(['relay'], env);
  t.after(() => relay.process.kill('SIGKILL'));
  await until('b', /^version +2$/m);
  const counted = async () => /^inorder_shard_queue_messages\{[^}]*unacked/m.test((await worker.get('/metrics')).body);
  await waitFor(counted, { what: 'what only the management API counts' });
  for (const words of ['status', 'audit', 'shards resume --why test --yes', 'recover --from event-store --yes'])
    assert.equal((await inorder(words, env)).stderr, '', words);
});

test('renewed certificates are used at the next connect; half-renewed ones leave those before them in use', needsOpenssl, async (t) => {
  const [authority, next] = [await Authority.create(t), await Authority.create(t)];
  const [served, shown] = [await authority.issue('server'), await authority.issue('client')];
  const { node, amqps } = await useTlsBroker(t, authority, served, { demands: true });
  const log = new KeptLog();
  const connection = createConnection({
    urls: [amqps()],
    tls: { caFile: authority.caFile, ...shown },
    name: 'test',
    log,
    time: systemTime,
  });
  t.after(() => connection.close());
  const connections = () => log.lines.filter(({ message }) => message.startsWith('connected to the broker')).length;
  await waitFor(() => connections() === 1, { what: 'the first connection' });

  const newer = await next.issue('client');
  await copyFile(newer.certFile, shown.certFile);
  await closeConnections(node);
  await waitFor(() => connections() === 2, { what: 'a connection with the certificate of before' });
  assert.match(log.text, /stay in use: tls\.keyFile is ".+": it is not the key of the certificate in/);

  await renew(newer, shown);
  await renew(await next.issue('server'), served);
  await copyFile(next.caFile, authority.caFile);
  await node.restart();
  await waitFor(() => connections() === 3, { what: 'a connection with the renewed certificates' });
});

/** As the broker does when its node goes down in order. */
async function closeConnections(node: RabbitNode): Promise<void> {
  await node.ctl('close_all_connections', 'the test says so');
}

/** Every address of 127.0.0.0/8 is this machine, on Linux. */
const needsAddresses = { skip: process.platform === 'linux' ? needsOpenssl.skip : 'only one loopback address here' };

test('with amqps:// no byte reaches a plain port, and none of the password one that is not TLS', needsAddresses, async (t) => {
  const host = `127.${100 + (process.pid % 100)}.${(process.pid >> 8) % 256}.7`;
  const authority = await Authority.create(t);
  const { amqps, node } = await useTlsBroker(t, authority, await authority.issue('server', { hosts: [host] }), { host });
  const { redisUrl } = await useServices(t);
  await node.ctl('add_user', 'me', 'correct-horse');
  await node.ctl('set_permissions', 'me', '.*', '.*', '.*');
  const heard = new Map<number, string>();
  for (const port of [80, 443, 5671, 5672, 8080, 15_671, 15_672]) {
    heard.set(port, '');
    const listener = createServer((socket) => {
      socket.on('data', (bytes) => heard.set(port, heard.get(port) + bytes.toString('latin1'))).on('error', () => undefined);
      socket.end();
    });
    // A port below 1024 may not be had.
    await listening(t, listener, host, port).catch(() => heard.delete(port));
  }
  const env = { AMQP_URL: amqps('me:correct-horse@'), AMQP_TLS_CA_FILE: authority.caFile, REDIS_URL: redisUrl };
  for (const words of ['topology apply', 'topology check', 'doctor', 'status']) await inorder(words, env);
  const secrets = ['correct-horse', Buffer.from('me:correct-horse').toString('base64')];
  for (const [port, bytes] of heard) {
    assert.ok(port === 15_671 || bytes === '', `${bytes.length} bytes at port ${port}`);
    assert.ok(!secrets.some((secret) => bytes.includes(secret)), `a secret at port ${port}`);
  }
  assert.equal(heard.get(15_671)?.charCodeAt(0), 22, 'the management API is asked over TLS');

  // What the listeners hear of a URL that says so itself.
  const plain = await inorder('topology check', {
    ...env,
    AMQP_URL: env.AMQP_URL,
    MANAGEMENT_URL: `http://me:correct-horse@${host}:15672`,
  });
  assert.match(plain.stdout, /management API/);
  assert.ok(heard.get(15_672)?.includes(secrets[1] ?? ''));
});

async function listening(t: TestContext, server: Server, host: string, port = 0): Promise<number> {
  server.listen(port, host);
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as { port: number }).port;
}

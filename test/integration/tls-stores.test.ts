/** TLS to Redis in each of its forms, and to PostgreSQL: what is trusted, what is shown, and what is refused with which remedy. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { once } from 'node:events';
import { copyFile } from 'node:fs/promises';
import { type AddressInfo, createConnection, createServer } from 'node:net';
import { connect, createSecureContext, TLSSocket } from 'node:tls';
import { test, type TestContext } from 'node:test';
import { Redis } from 'ioredis';
import pg from 'pg';
import { PostgresNode } from '../../deploy/local/postgres-node.ts';
import { startRedisCluster } from '../../deploy/local/redis-cluster.ts';
import { Notifications } from '../../src/stores/postgres/notifications.ts';
import { createPostgresStore } from '../../src/stores/postgres/postgres-store.ts';
import { createRedisStore, type RedisStoreOptions } from '../../src/stores/redis/redis-store.ts';
import { systemTime } from '../../src/time.ts';
import { commitOne, commitTo, order, orderNamed, snapshotOf } from '../conformance/builders.ts';
import { Authority, type Certificate, needsOpenssl, renew } from '../support/certificates.ts';
import { needsPostgresBinaries } from '../support/postgres.ts';
import { KeptLog } from '../support/rabbitmq.ts';
import { needsRedis, useSentinel } from '../support/sentinels.ts';
import { leastTimeoutMs, useRedisNode, waitFor } from '../support/services.ts';

const postgresNeeded = { skip: needsPostgresBinaries.skip || needsOpenssl.skip };
const needed = { skip: needsRedis.skip || needsOpenssl.skip };

type StoreOptions = Pick<RedisStoreOptions, 'url' | 'tls' | 'log' | 'onReconnect' | 'commandTimeoutMs'>;

function useRedisStore(t: TestContext, options: StoreOptions) {
  const store = createRedisStore({ stream: 'tls', idempotencyTtlSeconds: 3600, commandTimeoutMs: leastTimeoutMs, ...options });
  t.after(() => store.close());
  return store;
}

/** A port that is not for TLS does not answer to it. */
const unanswered = { commandTimeoutMs: 2_000 };

/** What is said of a Redis that cannot be used. */
async function refusal(t: TestContext, url: string, tls?: RedisStoreOptions['tls'], more?: typeof unanswered): Promise<string> {
  const store = useRedisStore(t, { url, ...(tls && { tls }), ...more });
  const error = await store.ping().then(
    () => assert.fail(`${url} is used`),
    (error: Error) => error,
  );
  assert.ok(!error.message.includes('\n'));
  return error.message;
}

/** A server for TLS, whose clients have to show a certificate, and what a client has. */
async function useTlsRedis(t: TestContext, more: { readonly server?: Certificate; readonly configLines?: readonly string[] } = {}) {
  const authority = await Authority.create(t);
  const server = more.server ?? (await authority.issue('server'));
  const node = await useRedisNode(t, { tls: { ...server, caFile: authority.caFile }, configLines: more.configLines ?? [] });
  return {
    authority,
    server,
    node,
    tls: { caFile: authority.caFile, ...(await authority.issue('client')) },
    url: `rediss://127.0.0.1:${node.tlsPort}`,
  };
}

test('Redis is used over TLS, and each certificate that is not right is refused with its remedy', needed, async (t) => {
  const { authority, node, tls, url } = await useTlsRedis(t);
  const store = useRedisStore(t, { url, tls });
  await commitOne(store, commitTo(order, 0, 1));
  assert.equal((await snapshotOf(store, order)).version, 1);

  const { caFile } = tls;
  // The alert that says it may be lost with the connection.
  const notOurs = (alert: string) => new RegExp(`(${alert} .+ with|do REDIS_TLS_CA_FILE,) REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE`);
  const own = { certFile: tls.certFile, keyFile: tls.keyFile };
  const other = await (await Authority.create(t)).issue('client');
  assert.match(
    await refusal(t, url, own),
    /its certificate is from an authority that is not trusted \(.+\)\. Name its authority with REDIS_TLS_CA_FILE\.$/,
  );
  assert.match(
    await refusal(t, url, { ...tls, serverName: 'other' }),
    /its certificate is for another name \(.+\)\. .*REDIS_TLS_SERVER_NAME\.$/,
  );
  assert.match(await refusal(t, url, { caFile }), notOurs('it demands a certificate from its clients'));
  assert.match(await refusal(t, url, { caFile, ...other }), notOurs('it does not accept the certificate of this client'));
  const expired = await authority.issue('client', { days: -1 });
  assert.match(await refusal(t, url, { caFile, ...expired }), notOurs('it does not accept the certificate of this client'));
  const wrong = url.replace('//', '//:not-the-password@');
  const client = new Redis(node.port);
  await client.config('SET', 'requirepass', 'the-password');
  client.disconnect();
  assert.match(await refusal(t, wrong, tls), /user and password are not accepted/);
});

test('a port with TLS and one without are told apart, and an expired certificate is called so', needed, async (t) => {
  const authority = await Authority.create(t);
  const server = await authority.issue('server', { days: -1 });
  const node = await useRedisNode(t, { tls: { ...server, caFile: authority.caFile }, configLines: ['tls-auth-clients no'] });
  const tls = { caFile: authority.caFile };
  assert.match(await refusal(t, `rediss://127.0.0.1:${node.tlsPort}`, tls), /its certificate has expired .+Renew it at the server\.$/);
  assert.match(await refusal(t, `rediss://127.0.0.1:${node.port}`, tls, unanswered), /is this its port for TLS/);
  assert.match(await refusal(t, `redis://127.0.0.1:${node.tlsPort}`), /A port for TLS needs rediss:\/\/\.$/);
});

test('a cluster and sentinels are used over TLS, all of their nodes', needed, async (t) => {
  const authority = await Authority.create(t);
  const files = { ...(await authority.issue('server')), caFile: authority.caFile };
  const tls = { caFile: authority.caFile, ...(await authority.issue('client')) };
  const cluster = await startRedisCluster(3, { tls: files });
  t.after(() => cluster.stop());
  const nodes = cluster.nodes.map(({ tlsPort }) => `127.0.0.1:${tlsPort}`).join(',');
  const log = new KeptLog();
  const clustered = useRedisStore(t, { url: `rediss+cluster://${nodes}`, tls, log });
  const entities = Array.from({ length: 60 }, (_, index) => orderNamed(`o-${index}`));
  const results = await clustered.commit(entities.map((entity) => commitTo(entity, 0, 1)));
  assert.ok(results.every(({ status }) => status === 'ok'));
  // Its client says of all of them that the connection is closed.
  const { caFile } = tls;
  const refused = (more?: RedisStoreOptions['tls']) => refusal(t, `rediss+cluster://127.0.0.1:1,${nodes}`, more);
  const demanded = /its certificate is from an authority that is not trusted \(.+\)\. Name its authority with REDIS_TLS_CA_FILE\.$/;
  assert.match(await refused(), demanded);
  assert.match(await refused({ ...tls, serverName: 'other' }), /its certificate is for another name \(.+\)\. .*REDIS_TLS_SERVER_NAME\.$/);
  assert.match(
    await refused({ caFile }),
    /it demands a certificate from its clients \(.+\)\. .*REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE\.$/,
  );
  const other = await (await Authority.create(t)).issue('client');
  assert.match(await refused({ caFile, ...other }), /it does not accept the certificate of this client \(.+\)\. .*REDIS_TLS_CERT_FILE/);
  assert.match(
    await refusal(t, 'rediss+cluster://127.0.0.1:1', tls),
    /cannot be reached: connect ECONNREFUSED 127\.0\.0\.1:1\. Is it running/,
  );
  assert.match(await refusal(t, `rediss+cluster://u:wrong@127.0.0.1:1,${nodes}`, tls), /user and password are not accepted \(WRONGPASS/);
  const plain = cluster.nodes.map(({ port }) => `127.0.0.1:${port}`).join(',');
  assert.match(await refusal(t, `rediss+cluster://${plain}`, tls, unanswered), /is this its port for TLS/);

  const expired = await authority.issue('server', { days: -1 });
  for (const node of cluster.nodes) {
    const client = new Redis(node.port);
    await client.call('CONFIG', 'SET', 'tls-cert-file', expired.certFile, 'tls-key-file', expired.keyFile);
    await client.call('CLIENT', 'KILL', 'TYPE', 'NORMAL', 'SKIPME', 'YES');
    client.disconnect();
  }
  assert.match(await refused(tls), /its certificate has expired \(.+\)\. Renew it at the server\.$/);
  await waitFor(() => log.text.includes('its certificate has expired'), { what: 'the cause in the log of a store that was connected' });

  const master = await useRedisNode(t, { tls: files });
  const sentinels = `rediss+sentinel://127.0.0.1:${(await useSentinel(t, master.tlsPort, { tls: files })).port}/main`;
  const watched = useRedisStore(t, { url: sentinels, tls });
  const result = await waitFor(() => commitOne(watched, commitTo(order, 0, 1)).catch(() => null), { what: 'the sentinel' });
  assert.ok(result.status === 'ok' || result.status === 'duplicate', result.status);
  assert.match(await refusal(t, sentinels), /REDIS_TLS_CA_FILE/);
});

test('PostgreSQL is used over TLS, and each certificate that is not right is refused with its remedy', postgresNeeded, async (t) => {
  const node = await PostgresNode.start();
  const [authority, other] = [await Authority.create(t), await Authority.create(t)];
  const admin = new pg.Client({ connectionString: node.url });
  await admin.connect();
  t.after(async () => {
    await admin.end();
    await node.stop();
  });
  // As the server's own user, in its own folder.
  const write = (file: string, text: string) =>
    admin.query(`COPY (SELECT '${Buffer.from(text).toString('base64')}') TO PROGRAM 'umask 077; base64 -d > ${file}'`);
  const serve = async ({ certFile, keyFile }: Certificate) => {
    await write('tls.pem', readFileSync(certFile, 'utf8'));
    await write('tls.key', readFileSync(keyFile, 'utf8'));
    await admin.query('SELECT pg_reload_conf()');
  };
  await write('tls-ca.pem', readFileSync(authority.caFile, 'utf8'));
  // The test itself comes over the socket of no TLS, from the same address.
  await write('pg_hba.conf', 'hostssl all all 127.0.0.1/32 cert\nhostnossl all inorder 127.0.0.1/32 trust\n');
  for (const setting of ["ssl_cert_file = 'tls.pem'", "ssl_key_file = 'tls.key'", "ssl_ca_file = 'tls-ca.pem'", 'ssl = on'])
    await admin.query(`ALTER SYSTEM SET ${setting}`);
  await serve(await authority.issue('server'));

  const url = (more: Record<string, string>, host = '127.0.0.1') =>
    `${node.url.replace('127.0.0.1', host)}?${new URLSearchParams({ sslmode: 'verify-full', ...more })}`;
  const filesOf = ({ certFile, keyFile }: Certificate) => ({ sslcert: certFile, sslkey: keyFile });
  const trusted = { sslrootcert: authority.caFile, ...filesOf(await authority.issue('inorder')) };
  const open = (used: string) => {
    const store = createPostgresStore({ url: used, stream: 'tls', idempotencyTtlSeconds: 3600 });
    t.after(() => store.close());
    return store;
  };
  const used = async (more: Record<string, string>, host?: string) =>
    open(url(more, host))
      .ping()
      .then(
        () => 'used',
        (error: Error) => error.message,
      );
  await waitFor(async () => (await used(trusted)) === 'used', { what: 'the server to have TLS' });
  const store = open(url(trusted));
  await commitOne(store, commitTo(order, 0, 1));

  const { sslrootcert, ...own } = trusted;
  const refused = async (more: Record<string, string>, host?: string) => {
    const said = await used(more, host);
    assert.ok(!said.includes('\n'), said);
    return said;
  };
  assert.match(await refused(own), /its certificate is from an authority that is not trusted \(.+\)\. Name its authority with sslrootcert/);
  const unverified = { NODE_TLS_REJECT_UNAUTHORIZED: '0', PGSSLMODE: 'no-verify' };
  Object.assign(process.env, unverified);
  t.after(() => Object.keys(unverified).forEach((name) => delete process.env[name]));
  for (const bare of [node.url, `${node.url}?ssl=true`, url(own)])
    assert.match(
      await open(bare)
        .ping()
        .then(() => 'used', String),
      /from an authority that is not trusted/,
    );
  const listens = async (more: Record<string, string>) => {
    const notifications = new Notifications(url(more), 'inorder_events', systemTime, 'listener');
    (await notifications.wait('')).end();
    const { rows } = await admin.query("SELECT FROM pg_stat_activity WHERE application_name = 'listener'");
    await notifications.close();
    return rows.length;
  };
  assert.equal(await listens(own), 0);
  await waitFor(async () => (await listens(trusted)) === 1, { what: 'a listener that trusts the server' });
  assert.match(await refused({ sslrootcert }), /sslcert and sslkey in DATABASE_URL|connection requires a valid client certificate/);
  assert.match(await refused({ sslrootcert, ...filesOf(await other.issue('inorder')) }), /does not accept the certificate of this client/);
  assert.match(await refused({ sslrootcert, ...filesOf(await authority.issue('somebody')) }), /user and password are not accepted/);
  assert.match(await refused({ ...trusted, sslkey: (await authority.issue('x')).keyFile }), /sslkey is not the key of the certificate/);
  assert.match(await refused({ sslrootcert: '/nowhere' }), /a file that DATABASE_URL names cannot be read .*sslrootcert/);
  await serve(await authority.issue('server', { hosts: ['other.test'] }));
  await waitFor(async () => /for another name \(.+\)\. Use a name in it in DATABASE_URL/.test(await refused(trusted)), {
    what: 'the other name',
  });
  await serve(await authority.issue('server', { days: -1 }));
  await waitFor(async () => /its certificate has expired .+Renew it at the server/.test(await refused(trusted)), {
    what: 'the expired one',
  });

  // Everything is renewed, and the store that is open connects again.
  await copyFile(other.caFile, authority.caFile);
  await renew(await other.issue('inorder'), { certFile: trusted.sslcert, keyFile: trusted.sslkey });
  await write('tls-ca.pem', readFileSync(other.caFile, 'utf8'));
  await serve(await other.issue('server'));
  await admin.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND client_port IS NOT NULL');
  await waitFor(() => snapshotOf(store, order).catch(() => null), { what: 'the renewed certificates' });
});

/** Somebody in between, with a certificate that is trusted: reads along, but for what is bound to the channel. */
async function useStranger(t: TestContext, port: number, { certFile, keyFile }: Certificate): Promise<number> {
  const context = createSecureContext({ cert: readFileSync(certFile), key: readFileSync(keyFile) });
  const request = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);
  const server = createServer((socket) => {
    const upstream = createConnection(port, '127.0.0.1', () => upstream.write(request));
    const end = () => [socket, upstream].forEach((one) => one.destroy());
    socket.on('error', end).on('close', end);
    upstream.on('error', end).on('close', end);
    upstream.once('data', () => {
      socket.once('data', () => {
        const [client, behind] = [
          new TLSSocket(socket, { isServer: true, secureContext: context }),
          connect({ socket: upstream, rejectUnauthorized: false }),
        ];
        client.on('error', end).pipe(behind).on('error', end).pipe(client);
        socket.write('S');
      });
      socket.resume();
    });
    socket.pause();
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

test('channel_binding of DATABASE_URL binds the password to the server, where the URL demands it', postgresNeeded, async (t) => {
  const node = await PostgresNode.start();
  const authority = await Authority.create(t);
  const admin = new pg.Client({ connectionString: node.url });
  await admin.connect();
  t.after(async () => {
    await admin.end();
    await node.stop();
  });
  const server = await authority.issue('server');
  const write = (file: string, text: string) =>
    admin.query(`COPY (SELECT '${Buffer.from(text).toString('base64')}') TO PROGRAM 'umask 077; base64 -d > ${file}'`);
  await write('tls.pem', readFileSync(server.certFile, 'utf8'));
  await write('tls.key', readFileSync(server.keyFile, 'utf8'));
  for (const setting of ["ssl_cert_file = 'tls.pem'", "ssl_key_file = 'tls.key'", 'ssl = on'])
    await admin.query(`ALTER SYSTEM SET ${setting}`);
  const { pathname, port } = new URL(node.url);
  for (const user of ['bound', 'clear', 'known']) await admin.query(`CREATE USER ${user} SUPERUSER PASSWORD 'word'`);
  const rules = [
    'hostssl all bound 127.0.0.1/32 scram-sha-256',
    'hostssl all clear 127.0.0.1/32 password',
    'hostssl all known 127.0.0.1/32 trust',
  ];
  await write(
    'pg_hba.conf',
    `${rules.join('\n')}\nhostnossl all bound 127.0.0.1/32 scram-sha-256\nhostnossl all inorder 127.0.0.1/32 trust\n`,
  );
  await admin.query('SELECT pg_reload_conf()');

  const said = async (user: string, binding: string, { at = Number(port), sslmode = 'verify-full' } = {}) => {
    const query = new URLSearchParams({ sslmode, sslrootcert: authority.caFile, channel_binding: binding });
    const url = `postgres://${user}:word@127.0.0.1:${at}${pathname}?${query}`;
    const store = createPostgresStore({ url, stream: 'bound', idempotencyTtlSeconds: 60 });
    const outcome = await store.ping().then(
      () => 'used',
      (error: Error) => error.message,
    );
    await store.close();
    return outcome;
  };
  await waitFor(async () => (await said('bound', 'disable')) === 'used', { what: 'the server to have TLS' });
  const stranger = await useStranger(t, Number(port), await authority.issue('stranger'));
  assert.equal(await said('bound', 'disable', { at: stranger }), 'used', 'who is not asked to bind is read along');
  const refused = /refuses: the password cannot be bound to the channel, as channel_binding demands \(.+\)\. Let pg_hba\.conf demand/;
  for (const binding of ['prefer', 'require']) {
    assert.equal(await said('bound', binding), 'used', binding);
    assert.match(await said('bound', binding, { at: stranger }), refused, binding);
  }
  for (const user of ['clear', 'known']) {
    assert.equal(await said(user, 'prefer'), 'used', user);
    assert.match(await said(user, 'require'), refused, user);
  }
  assert.equal(await said('bound', 'prefer', { sslmode: 'disable' }), 'used');
  assert.match(await said('bound', 'require', { sslmode: 'disable' }), refused);
});

test('renewed certificates of Redis are used at the next connect, and half-renewed ones are not', needed, async (t) => {
  const { authority, server, node, tls, url } = await useTlsRedis(t);
  const log = new KeptLog();
  let reconnects = 0;
  const store = useRedisStore(t, { url, tls, log, onReconnect: () => reconnects++ });
  await store.ping();
  const next = await Authority.create(t);
  const newer = await next.issue('client');
  await copyFile(newer.certFile, tls.certFile);
  const client = new Redis(node.port);
  t.after(() => client.disconnect());
  await client.call('CLIENT', 'KILL', 'TYPE', 'NORMAL', 'SKIPME', 'YES');
  await waitFor(() => reconnects === 1, { what: 'a connection with the certificate of before' });
  assert.match(log.text, /stay in use: tls\.keyFile is ".+": it is not the key of the certificate in/);

  await renew(newer, tls);
  await renew(await next.issue('server'), server);
  await copyFile(next.caFile, authority.caFile);
  await node.restart();
  await waitFor(() => reconnects === 2, { what: 'a connection with the renewed certificates' });
  await store.ping();
});

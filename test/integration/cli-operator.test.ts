import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import test, { type TestContext } from 'node:test';
import { connect } from 'amqplib';
import pg from 'pg';
import { PostgresNode } from '../../deploy/local/postgres-node.ts';
import { withBroker } from '../../src/cli/access.ts';
import { loadConfig } from '../../src/config/load.ts';
import { systemTime } from '../../src/time.ts';
import { checkout, commandLine } from '../support/checkout.ts';
import { openStore } from '../../src/stores/open-store.ts';
import { keptIo, runHere } from '../support/command-io.ts';
import { KeptLog } from '../support/rabbitmq.ts';
import { needsPostgresBinaries } from '../support/postgres.ts';
import { uniqueStream, useRabbitNode, useServices, waitFor } from '../support/services.ts';
import { useTcpProxy } from '../support/tcp-proxy.ts';

async function operator(t: TestContext, more: Record<string, string> = {}) {
  const { amqpUrl, redisUrl, managementUrl } = await useServices(t);
  const stream = uniqueStream('cli');
  const managed: Record<string, string> = managementUrl === null ? {} : { MANAGEMENT_URL: managementUrl };
  const env = { AMQP_URL: amqpUrl, REDIS_URL: redisUrl, ...managed, STREAM: stream, SHARDS: '2', HTTP_PORT: '0', ...more };
  const connection = await connect(amqpUrl);
  t.after(async () => {
    const channel = await connection.createChannel();
    for (const name of ['shard.000', 'shard.001', 'dead-letters', 'unrouted', 'store']) await channel.deleteQueue(`${stream}.${name}`);
    for (const name of [stream, `${stream}.dlx`, `${stream}.unrouted`, `${stream}.store`]) await channel.deleteExchange(name);
    await connection.close();
  });
  async function run(words: string, override: Record<string, string> = {}) {
    const { io, out } = keptIo({ env: { ...env, ...override } });
    return { code: await runHere(words.split(' '), io), ...out };
  }
  return { run, env, stream, connection };
}

test('topology apply makes what topology show says, and a second time changes nothing', async (t) => {
  const { run, stream, connection } = await operator(t);
  const shown = JSON.parse((await run('topology show --json')).stdout);
  const names = shown.queues.map(({ name }: { name: string }) => name);
  assert.deepEqual(names.slice(-2), [`${stream}.shard.000`, `${stream}.shard.001`]);
  for (const _attempt of [1, 2]) {
    const { code, stdout } = await run('topology apply');
    assert.deepEqual([code, stdout], [0, `3 exchanges, 4 queues and 4 bindings of ${stream} are there\n`]);
  }
  const channel = await connection.createChannel();
  for (const name of names) assert.equal((await channel.checkQueue(name)).queue, name);
  assert.match((await run('topology show')).stdout, new RegExp(`^queue    ${stream}.shard.000 .*x-single-active-consumer=true`, 'm'));
});

test('topology apply refuses a queue with other arguments, names it and exits 2', async (t) => {
  const { run, stream, connection } = await operator(t);
  await (await connection.createChannel()).assertQueue(`${stream}.shard.001`, { durable: true });
  const { code, stderr } = await run('topology apply');
  assert.equal(code, 2);
  assert.match(stderr, new RegExp(`^inorder: [^\\n]*${stream}\\.shard\\.001[^\\n]*\\n$`));
});

test('topology check is content after apply, and exits 1 with a line for each thing that differs', async (t) => {
  const { run, stream, connection } = await operator(t);
  await run('topology apply');
  const whole = await run('topology check');
  assert.equal(whole.code, 0, whole.stdout);
  assert.match(whole.stdout, new RegExp(`^ok       queue ${stream}\\.shard\\.001: as it should be$`, 'm'));
  assert.match(whole.stdout, new RegExp(`^ok       bindings of ${stream}: 2, as they should be$`, 'm'));
  assert.match(whole.stdout, /^ok       plugin: exchanges can be x-consistent-hash$/m);

  const channel = await connection.createChannel();
  await channel.unbindQueue(`${stream}.shard.001`, stream, '1');
  await channel.bindQueue(`${stream}.shard.000`, stream, '7');
  const broken = await run('topology check --json');
  assert.equal(broken.code, 1);
  const findings = broken.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.equal(findings.length, whole.stdout.trimEnd().split('\n').length + 1);
  assert.deepEqual(
    findings.filter(({ level }) => level !== 'ok').map(({ subject, detail, remedy }) => [subject, detail, remedy]),
    [
      [
        `bindings of ${stream}`,
        `queue ${stream}.shard.000 is also bound with weight "7": keys move between shards`,
        'unbind it; run `inorder topology apply`',
      ],
      [`bindings of ${stream}`, `queue ${stream}.shard.001 is not bound with weight "1"`, 'run `inorder topology apply`'],
    ],
  );
});

test('topology check without a management API checks what AMQP shows, and says what it could not see', async (t) => {
  const { run, stream, connection } = await operator(t);
  const unseen = { MANAGEMENT_URL: 'http://guest:hush@127.0.0.1:2' };
  await run('topology apply');
  const seen = await run('topology check', unseen);
  assert.equal(seen.code, 0, seen.stdout);
  assert.match(seen.stdout, /^warning  management API: .*ECONNREFUSED.*bindings.* -> .*MANAGEMENT_URL$/m);
  assert.ok(!seen.stdout.includes('hush'));
  await (await connection.createChannel()).deleteQueue(`${stream}.shard.001`);
  const missing = await run('topology check', unseen);
  assert.equal(missing.code, 1);
  assert.match(missing.stdout, new RegExp(`^failure  topology: queue ${stream}\\.shard\\.001 does not exist`, 'm'));
});

test('status says what waits in every queue, and that a queue is missing', async (t) => {
  const { run, stream, connection } = await operator(t);
  assert.match((await run('status')).stdout, new RegExp(`${stream}.shard.000 +there is no such queue`));
  await run('topology apply');
  const channel = await connection.createConfirmChannel();
  for (let n = 0; n < 3; n++) channel.sendToQueue(`${stream}.shard.001`, Buffer.from('{}'));
  await channel.waitForConfirms();
  const { code, stdout } = await run('status --json --parked');
  const status = JSON.parse(stdout);
  assert.equal(code, 1, 'nobody consumes the shards');
  assert.deepEqual(status.problems, [`nobody consumes ${stream}.shard.000`, `nobody consumes ${stream}.shard.001`]);
  assert.deepEqual(status.shards, [
    { queue: `${stream}.shard.000`, ready: 0, consumers: 0 },
    { queue: `${stream}.shard.001`, ready: 3, consumers: 0 },
  ]);
  assert.deepEqual([status.dead_letters.ready, status.unrouted.ready, status.parked, status.worker], [0, 0, 0, null]);
});

test('status and doctor fail for a shard that nobody consumes or that is halted, and are content when all of them work', async (t) => {
  const { run, env, stream, connection } = await operator(t);
  const store = openStore(loadConfig(env), { role: 'operator', log: new KeptLog(), time: systemTime });
  t.after(() => store.close());
  await run('topology apply');
  const consumer = await connection.createChannel();
  await consumer.consume(`${stream}.shard.000`, () => undefined);
  assert.deepEqual([(await run('status')).code, (await run('doctor')).code], [1, 1]);
  assert.match((await run('status')).stdout, new RegExp(`^problem: nobody consumes ${stream}.shard.001$`, 'm'));
  assert.match((await run('doctor')).stdout, new RegExp(`^failure +shards: nobody consumes ${stream}.shard.001 -> start `, 'm'));

  await consumer.consume(`${stream}.shard.001`, () => undefined);
  assert.deepEqual([(await run('status')).code, (await run('doctor')).code], [0, 0]);
  assert.match((await run('doctor')).stdout, /^ok +shards: 2, each with a consumer, none halted$/m);

  await store.halt({ shard: 1, detail: 'version 5 was acknowledged', at: '2026-11-28T10:00:00.000Z' });
  const halted = await run('status --json');
  assert.deepEqual([halted.code, (await run('doctor')).code], [1, 1]);
  assert.deepEqual(JSON.parse(halted.stdout).problems, ['shard 1 is halted, for the store went backwards: version 5 was acknowledged']);
  assert.match((await run('doctor')).stdout, /^failure +shards: shard 1 is halted.* -> .*`inorder shards resume`$/m);

  const unknown = await run('status', { REDIS_URL: 'redis://:hush@127.0.0.1:1' });
  assert.equal(unknown.code, 1);
  assert.match(unknown.stdout, /^problem: whether shards are halted is not known: .*127\.0\.0\.1:1/m);
});

test('shards resume ends a halt with an entry in the audit trail, and does nothing without a reason or a yes', async (t) => {
  const { run, env } = await operator(t);
  const store = openStore(loadConfig(env), { role: 'operator', log: new KeptLog(), time: systemTime });
  t.after(() => store.close());
  await run('topology apply');
  await store.halt({ shard: null, detail: 'it was emptied', at: '2026-11-28T10:00:00.000Z' });
  assert.match((await run('shards resume --yes')).stderr, /--why is missing/);
  assert.equal((await run('shards resume --why=mended')).code, 2);
  assert.equal((await store.nextEpoch(0)).status, 'halted');
  const { code, stdout } = await run('shards resume --why=mended --yes');
  assert.equal(code, 0);
  assert.match(
    stdout,
    /^every shard is halted, for the store went backwards: it was emptied \(2026-11-28T10:00:00\.000Z\)\nthe shards may go on\n$/,
  );
  assert.equal((await store.nextEpoch(0)).status, 'ok');
  assert.match((await run('audit')).stdout, /resume: let the shards go on: every shard is halted.*it was emptied \(mended\)$/m);
  assert.deepEqual(await run('shards resume --why=again --yes').then((again) => [again.code, again.stdout]), [0, 'no shard is halted\n']);
});

test('doctor finds a missing topology, a broken processor and an absent store in one run, each with its remedy', async (t) => {
  const { run } = await operator(t);
  const { code, stdout } = await run('doctor', { PROCESSOR: './none.mjs', REDIS_URL: 'redis://:hush@127.0.0.1:1' });
  assert.equal(code, 1);
  assert.match(stdout, /^ok +configuration: /m);
  assert.match(stdout, /^ok +broker: RabbitMQ \d/m);
  assert.match(stdout, /^failure +processor: .*none\.mjs.* -> correct PROCESSOR/m);
  assert.match(stdout, /^failure +queue cli-\S+\.shard\.000: it does not exist -> run `inorder topology apply`/m);
  assert.match(stdout, /^failure +store: .* -> start Redis/m);
  assert.ok(!stdout.includes('hush'));
});

test('doctor is content once the topology is there, and alarmed by messages that found no shard and by a lost binding', async (t) => {
  const { run, stream, connection } = await operator(t);
  await run('topology apply');
  const consumer = await connection.createChannel();
  for (const shard of ['000', '001']) await consumer.consume(`${stream}.shard.${shard}`, () => undefined);
  const healthy = await run('doctor --json');
  const findings = healthy.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    findings.filter(({ level }) => level === 'failure'),
    [],
  );
  assert.equal(healthy.code, 0);
  const detailOf = (subject: string) => findings.find((finding) => finding.subject === subject)?.detail;
  assert.match(detailOf('topology'), /^7 exchanges and queues, types and arguments as they should be$/);
  assert.equal(detailOf(`bindings of ${stream}`), '2, as they should be');
  assert.equal(detailOf('policies'), 'none that breaks order');
  assert.equal(detailOf('alarms'), 'none at 1 node');
  assert.equal(
    detailOf('consumer timeout'),
    'no policy sets it; rabbitmq.conf cannot be seen from here, and its default is 1800000 ms; GAP_TIMEOUT_MS is 30000',
  );
  assert.match(detailOf('Redis latency'), /^\d+\.\d ms for a round trip, \d+\.\d ms at most, of 15$/);
  assert.match(detailOf('Redis clock'), /^\d+ ms from this machine's$/);
  assert.match(detailOf('broker clock'), /^within 5 s/);
  assert.match(detailOf('environment'), /^Inorder \d\S+ on Node\.js \d\S+; set: AMQP_URL, .*\bSTREAM\b/);
  for (const subject of ['plugin', 'Redis role', 'Redis eviction policy', 'Redis version'])
    assert.ok(detailOf(subject) !== undefined, subject);
  const channel = await connection.createConfirmChannel();
  channel.sendToQueue(`${stream}.unrouted`, Buffer.from('{}'));
  await channel.waitForConfirms();
  await channel.unbindQueue(`${stream}.shard.000`, stream, '1');
  const alarmed = await run('doctor');
  assert.equal(alarmed.code, 1);
  assert.match(alarmed.stdout, /^failure +unrouted: 1 messages/m);
  assert.match(alarmed.stdout, /^failure +bindings of \S+: queue \S+\.shard\.000 is not bound/m);
});

test('doctor finds a broker whose alarms are on, and an administrator where none is needed', async (t) => {
  const node = await useRabbitNode(t);
  const { run } = await operator(t);
  await node.ctl('add_user', 'boss', 'word');
  await node.ctl('set_user_tags', 'boss', 'administrator');
  const asBoss = node.managementUrl.replace(/\/\/.*@/, '//boss:word@');
  const rights = async (managementUrl: string) =>
    /^(\w+ +rights: \w+ .*)$/m.exec((await run('doctor', { AMQP_URL: node.amqpUrl, MANAGEMENT_URL: managementUrl })).stdout)?.[1];
  assert.match(
    (await rights(asBoss)) ?? '',
    /^warning +rights: boss is an administrator .* -> run `rabbitmqctl set_user_tags boss monitoring`/,
  );
  await node.ctl('set_user_tags', 'boss', 'monitoring');
  assert.match((await rights(asBoss)) ?? '', /^ok +rights: boss /);
  await node.ctl('set_disk_free_limit', '1000000GiB');
  const found = await waitFor(
    async () => {
      const done = await run('doctor', { AMQP_URL: node.amqpUrl, MANAGEMENT_URL: node.managementUrl });
      return done.stdout.includes('disk alarm') && done;
    },
    { what: 'the alarm in the reports of the broker', timeoutMs: 60_000 },
  );
  assert.equal(found.code, 1);
  assert.match(found.stdout, /^failure +node \S+: its disk alarm is on: publishers are blocked -> free space on its disk$/m);
});

test('doctor finds a superuser of PostgreSQL where a user would do', needsPostgresBinaries, async (t) => {
  const { run } = await operator(t);
  const node = await PostgresNode.start();
  t.after(() => node.stop());
  const rights = async (databaseUrl: string) =>
    /^\w+ +PostgreSQL rights: .*$/m.exec((await run('doctor', { STATE_STORE: 'postgres', DATABASE_URL: databaseUrl })).stdout)?.[0] ?? '';
  assert.match(await rights(node.url), /^warning .* is a superuser: .* -> Name a user in DATABASE_URL/);
  const superuser = new pg.Client({ connectionString: node.url });
  await superuser.connect();
  await superuser.query(`CREATE ROLE plain LOGIN PASSWORD 'word'; GRANT USAGE ON SCHEMA inorder TO plain;
    GRANT ALL ON ALL TABLES IN SCHEMA inorder TO plain`);
  await superuser.end();
  assert.match(
    await rights(Object.assign(new URL(node.url), { username: 'plain', password: 'word' }).href),
    /^ok .* plain is no superuser$/,
  );
});

function startWorker(t: TestContext, env: Record<string, string>) {
  const child = spawn(process.execPath, [...commandLine, 'worker'], {
    cwd: checkout,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  const out = { log: '', stderr: '' };
  child.stdout.on('data', (chunk) => (out.log += chunk));
  child.stderr.on('data', (chunk) => (out.stderr += chunk));
  const exit = new Promise<number | string | null>((resolve) => child.once('exit', (code, signal) => resolve(signal ?? code)));
  const lines = () =>
    out.log
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line));
  const says = (message: string) =>
    waitFor(() => lines().find((line) => line.message === message), {
      what: () => `${message}\n${out.log}${out.stderr}`,
      timeoutMs: 20_000,
    });
  return { child, out, exit, says };
}

test('a worker serves HTTP, says that it is ready to whoever has its token, and leaves with 0 on SIGTERM', async (t) => {
  const { env, run } = await operator(t, { READ_TOKEN: 'the-token-of-the-worker' });
  const { child, exit, says, out } = startWorker(t, env);
  const { http } = await says('starting');
  await says('ready');
  assert.equal((await fetch(`${http}/healthz`)).status, 200);
  assert.equal((await fetch(`${http}/readyz`)).status, 200);
  assert.match(await (await fetch(`${http}/metrics`)).text(), /^inorder_shard_state\{.*shard="1",state="consuming"\} 1$/m);
  const nearby = { HTTP_PORT: new URL(http).port };
  assert.match((await run('status', nearby)).stdout, /^worker inorder: running, 2 shards, 0 held, 0 gaps$/m);
  assert.match((await run('doctor', nearby)).stdout, /^ok +worker: inorder is ready$/m);
  const stranger = { ...nearby, READ_TOKEN: 'another-token-of-16' };
  const status = await run('status', stranger);
  assert.equal(status.code, 1);
  assert.match(status.stdout, /^problem: the worker nearby refuses READ_TOKEN: give it the value that the worker has$/m);
  assert.doesNotMatch(status.stdout, /no worker/);
  assert.match(
    (await run('doctor', stranger)).stdout,
    /^warning +worker: .* refuses READ_TOKEN -> give it the value that the worker has$/m,
  );
  child.kill('SIGTERM');
  assert.equal(await exit, 0, out.stderr);
  await says('stopped');
});

test('a worker whose configuration is wrong says every problem and exits 2', async (t) => {
  const { env } = await operator(t);
  const { exit, out } = startWorker(t, { ...env, SHARDS: '0', PROCESSOR: 'order', PREFECTH: '1' });
  assert.equal(await exit, 2);
  assert.match(out.stderr, /^inorder: SHARDS is "0"/m);
  assert.match(out.stderr, /^inorder: PREFECTH is not a variable of Inorder: did you mean PREFETCH\?/m);
});

test('a worker whose HTTP port is taken says so and exits 2', async (t) => {
  const { env } = await operator(t);
  const first = startWorker(t, env);
  const { http } = await first.says('starting');
  const { exit, out } = startWorker(t, { ...env, HTTP_PORT: new URL(http).port });
  assert.equal(await exit, 2);
  assert.match(out.stderr, /^inorder: HTTP_PORT is \d+: another process/m);
});

test('a worker that waits for its broker says so, is not ready, and stops when asked to', async (t) => {
  const { env } = await operator(t);
  const { child, exit, says, out } = startWorker(t, { ...env, AMQP_URL: 'amqp://u:hush@127.0.0.1:1' });
  const { http } = await says('starting');
  await says('the broker is not there yet');
  assert.equal((await fetch(`${http}/healthz`)).status, 200);
  assert.equal((await fetch(`${http}/readyz`)).status, 503);
  child.kill('SIGTERM');
  assert.equal(await exit, 0, out.stderr);
  assert.ok(!`${out.log}${out.stderr}`.includes('hush'));
});

test('a broker that goes away when a command is done with it keeps the command no longer', async (t) => {
  const { amqpUrl } = await useServices(t);
  const proxy = await useTcpProxy(t, amqpUrl);
  const done = await withBroker(loadConfig({ AMQP_URL: proxy.through(amqpUrl) }), { time: systemTime }, async () => {
    // The close is sent behind this, and has no answer.
    proxy.blackHole(true);
    setImmediate(() => proxy.cut());
    return 'done';
  });
  assert.equal(done, 'done');
});

test('a broker that cannot be used is told node by node, with the reason and without credentials', async (t) => {
  const { run, env } = await operator(t);
  const { host } = new URL(env.AMQP_URL);
  const { code, stderr } = await run('topology apply', { AMQP_URL: `amqp://guest:hush@127.0.0.1:1,amqp://guest:hush@${host}` });
  assert.equal(code, 1);
  assert.equal(
    stderr,
    'inorder: the broker at 127.0.0.1:1 cannot be reached: connect ECONNREFUSED 127.0.0.1:1; ' +
      `the broker at ${host} refuses the user name or the password\n`,
  );
});

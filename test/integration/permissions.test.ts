/**
 * Users with what `inorder permissions` prints, on the real broker and store, of which one right after the other is missing: it is told
 * which one, with the line to add, nothing is lost, and everything goes on once it is there again.
 */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { freePort } from '../../deploy/local/free-port.ts';
import { startRedisCluster } from '../../deploy/local/redis-cluster.ts';
import type { RedisNode } from '../../deploy/local/redis-node.ts';
import type { Durability } from '../../src/config/config.ts';
import type { ConsumeMessage } from 'amqplib';
import { loadConfig } from '../../src/config/load.ts';
import { permissionsOf, type RoleName } from '../../src/config/permissions.ts';
import { UnavailableError } from '../../src/errors.ts';
import { createPublisher } from '../../src/publishing/create-publisher.ts';
import { createRedisEventStore } from '../../src/stores/redis/redis-event-store.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import type { Store } from '../../src/stores/store.ts';
import { claimOf, commitTo, eventAt, order, parkOf, snapshotOf } from '../conformance/builders.ts';
import { ConsoleClient } from '../support/console-client.ts';
import { startCommand } from '../support/command-process.ts';
import { keptIo, runHere } from '../support/command-io.ts';
import { asRole, leastPrivileged, permit, type RabbitRight, setAcl } from '../support/least-privilege.ts';
import { KeptLog, useRawChannel } from '../support/rabbitmq.ts';
import { type TestServices, uniqueStream, useRabbitNode, useRedisNode, useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { interleaved, readTraces, type TraceEvent } from '../support/trace.ts';
import type { WorkerProcess } from '../support/worker-process.ts';

const userOf = (url = '') => new URL(url).username;
const rightsOf = (role: RoleName, env: Record<string, string>) => permissionsOf(role, loadConfig(env));
const commandsOf = (role: RoleName, env: Record<string, string>) => rightsOf(role, env).redis?.commands.map((name) => name.slice(1)) ?? [];
/** What is to be added; from 7.2 on Redis names the user. */
const allows = (command: string) => new RegExp(String.raw` ACL SETUSER \S+ \+${command.replace('|', '[|]')} `);
const at = (entityId: string, ...sequences: number[]): TraceEvent[] => sequences.map((sequence) => ({ entityId, sequence }));

async function useStream(t: TestContext, variables: Record<string, string> = {}) {
  const services = await useServices(t);
  const stream = uniqueStream('rights');
  const env = { AMQP_URL: services.amqpUrl, REDIS_URL: services.redisUrl, STREAM: stream, SHARDS: '2', ...variables };
  const command = async (words: readonly string[], more: Record<string, string> = {}, stdin?: string) => {
    const { io, out } = keptIo({ env: { ...env, ...more }, stdin });
    return { code: await runHere(words, io), ...out };
  };
  return { services, stream, env, command };
}

test('the tests of workers and commands run as users with what their role needs', async (t) => {
  const { services, env, stream } = await useStream(t);
  if (services.managementUrl === null) return t.skip('users are made by the management API');
  const managed = { ...env, MANAGEMENT_URL: services.managementUrl };
  const worker = await leastPrivileged(['worker'], env);
  assert.match(userOf(worker.AMQP_URL), new RegExp(`^${stream}-worker-`));
  assert.equal(userOf(worker.REDIS_URL), userOf(worker.AMQP_URL));
  assert.match(userOf((await leastPrivileged(['doctor'], managed)).MANAGEMENT_URL), new RegExp(`^${stream}-doctor-`));
  assert.equal((await leastPrivileged(['dead-letters', 'list', '--json'], env)).AMQP_URL.includes(`${stream}-reader-`), true);
});

test('a console that has no operators runs as a reader: it shows dead letters and the audit trail', async (t) => {
  const { services, env, command, stream } = await useStream(t);
  assert.equal((await command(['topology', 'apply'])).code, 0);
  const channel = await useRawChannel(t, services.amqpUrl);
  channel.sendToQueue(`${stream}.dead-letters`, Buffer.from('no event'));
  await channel.waitForConfirms();
  const port = await freePort();
  const variables = { ...env, ...(await asRole('reader', env, services)), HTTP_PORT: String(port) };
  const { process: serving } = await startCommand(['console'], variables);
  t.after(() => serving.kill('SIGKILL'));
  const client = new ConsoleClient(`http://127.0.0.1:${port}`);
  await waitFor(() => client.ask('/').catch(() => null), { what: 'the console' });
  assert.equal((await client.letters(1)).letters.length, 1);
  assert.deepEqual(await client.api('audit'), { entries: [] });
});

interface Operation {
  readonly name: string;
  readonly role: RoleName;
  /** With all rights. */
  readonly prepare: (store: Store) => Promise<unknown>;
  readonly act: (url: string, stream: string) => Promise<{ readonly run: () => Promise<unknown>; readonly end: () => Promise<unknown> }>;
}

const withEvents = { log: '{"an":"event"}' };

/** Those of more than one write. */
const operations: readonly Operation[] = [
  {
    name: 'a commit that ends a parking',
    role: 'worker',
    prepare: parkOne,
    act: async (url, stream) => {
      const store = storeAt(url, stream);
      const commit = commitTo(order, 1, 3, { events: [eventAt(2, withEvents), eventAt(3, withEvents)] });
      return { run: () => store.commit([commit]), end: () => store.close() };
    },
  },
  {
    name: 'a parking of an entity that is being replayed',
    role: 'worker',
    prepare: async (store) => {
      await parkOne(store);
      await store.operator.beginReplay([order], 60_000);
    },
    act: async (url, stream) => {
      const store = storeAt(url, stream);
      return { run: () => store.park([parkOf(order, 1, { reason: 'handler_failed' })]), end: () => store.close() };
    },
  },
  {
    name: 'an end of halts',
    role: 'operator',
    prepare: async (store) => {
      await store.nextEpoch(0);
      await store.halt({ shard: 0, detail: 'why', at: '2026-01-02T03:04:05.678Z' });
    },
    act: async (url, stream) => {
      const store = storeAt(url, stream);
      return { run: () => store.operator.resume(7), end: () => store.close() };
    },
  },
  {
    name: 'an append',
    role: 'appender',
    prepare: async () => undefined,
    act: async (url, stream) => {
      const events = createRedisEventStore({ url, stream });
      const run = () => events.append(order, [{ type: 'OrderCreated', id: 'one' }], { expectedVersion: 'any' });
      return { run, end: () => events.close() };
    },
  },
];

function storeAt(url: string, stream: string): Store {
  return createRedisStore({ url, stream, idempotencyTtlSeconds: 60 });
}

async function parkOne(store: Store): Promise<void> {
  await store.commit([commitTo(order, 0, 1)]);
  await store.claim([claimOf(order, 1)]);
  await store.park([parkOf(order, 1)]);
}

/** Everything that the operations write, as one with all rights sees it, without times and identities. */
async function seen(store: Store, url: string, stream: string): Promise<unknown> {
  const { version, state, parked } = await snapshotOf(store, order);
  const { epoch, halts } = await store.streamState();
  const events = createRedisEventStore({ url, stream });
  try {
    const [logged, appended] = [await gathered(store.readLog(order)), await gathered(events.readAll())];
    const kept = { logged, appended: appended.map(({ sequence }) => sequence), length: await events.version(order) };
    return { version, state, reason: parked?.reason, replaying: parked?.replaying, epoch, halts: halts.length, ...kept };
  } finally {
    await events.close();
  }
}

async function gathered<T>(all: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const one of all) found.push(one);
  return found;
}

for (const { name, role, prepare, act } of operations) {
  test(`${name} is done or not begun, whichever command is missing, and done once it is allowed`, async (t) => {
    const services = await useServices(t);
    const url = services.redisUrl;
    const env = { REDIS_URL: url, EVENT_LOG: 'true' };
    const expected: unknown[] = [];
    const refused: string[] = [];
    for (const missing of ['', ...commandsOf(role, env)]) {
      const stream = uniqueStream('whole');
      const { REDIS_URL = '' } = await asRole(role, { ...env, STREAM: stream }, services);
      const admin = storeAt(url, stream);
      t.after(() => admin.close());
      await prepare(admin);
      const before = await seen(admin, url, stream);
      const { run, end } = await act(REDIS_URL, stream);
      t.after(end);
      if (missing !== '') {
        // Connected while it has all its rights.
        await setAcl(url, userOf(REDIS_URL), `-${missing}`);
        const error: unknown = await run().then(
          () => null,
          (thrown: unknown) => thrown,
        );
        if (error !== null) {
          assert.ok(error instanceof UnavailableError);
          assert.match(error.message, allows(missing));
          const after = await seen(admin, url, stream);
          assert.ok(
            [before, expected[0]].some((whole) => isDeepStrictEqual(after, whole)),
            `half of it without ${missing}`,
          );
          refused.push(missing);
        }
        await setAcl(url, userOf(REDIS_URL), `+${missing}`);
      }
      await run();
      expected.push(await seen(admin, url, stream));
      assert.deepEqual(expected.at(-1), expected[0], `after ${missing} was allowed again`);
      assert.notDeepEqual(expected[0], before);
    }
    assert.ok(refused.includes('evalsha') && refused.length >= 4, refused.join(' '));
  });
}

/** What a command says where a right is missing: a line for each, with what to add. */
function assertNamed(said: string, pattern: RegExp): void {
  assert.match(said, pattern);
  assert.doesNotMatch(said, /unexpected error|\ba bug\b/);
  for (const line of said
    .trimEnd()
    .split('\n')
    .filter((one) => /no access|NOPERM/.test(one)))
    assert.match(line, /(?::|->) add \^\S+\$ to the |ACL SETUSER \S+ [+~]/);
}

const refusedByRabbit: readonly (readonly [role: RoleName, right: RabbitRight, words: string, said: string])[] = [
  ['operator', 'configure', 'dead-letters replay --all --yes', String.raw`queue '\S+\.operator' .* add \^\S+\.operator\$ to the configure`],
  ['operator', 'read', 'dead-letters replay --all --yes', String.raw`queue '\S+\.dead-letters' .* to the read permission`],
  ['operator', 'read', 'shards resume --why x --yes', String.raw`queue '\S+\.store' .* to the read permission`],
  ['reader', 'read', 'dead-letters list', String.raw`queue '\S+\.dead-letters' .* to the read permission`],
  ['doctor', 'read', 'doctor', String.raw`queue '\S+\.store' .* to the read permission`],
  ['publisher', 'write', 'publish', String.raw`exchange '\S+' .* to the write permission`],
  ['topology', 'configure', 'topology apply', String.raw`exchange '\S+' .* to the configure .*permission`],
  ['topology', 'write', 'topology apply', String.raw`'\S+\.\S+' .* to the write permission`],
  ['topology', 'read', 'topology apply', String.raw`exchange '\S+' .* read`],
];

test('a right that is missing at the broker is named by every command, with the line to add', async (t) => {
  const { services, env, command, stream } = await useStream(t);
  if (services.managementUrl === null) return t.skip('users are made by the management API');
  assert.equal((await command(['topology', 'apply'])).code, 0);
  const channel = await useRawChannel(t, services.amqpUrl);
  channel.sendToQueue(`${stream}.dead-letters`, Buffer.from('no event'));
  await channel.waitForConfirms();
  const event = '{"entity_id":"o","sequence":1,"type":"OrderCreated","data":{"items":[]}}\n';
  for (const [role, right, words, said] of refusedByRabbit) {
    const urls = await asRole(role, env, services);
    const { rabbitmq } = rightsOf(role, env);
    await permit(services.managementUrl, userOf(urls['AMQP_URL']), { ...rabbitmq, [right]: '^$' });
    const { code, stdout, stderr } = await command(words.split(' '), { ...urls, SHARDS: role === 'topology' ? '3' : '2' }, event);
    assertNamed(stdout + stderr, new RegExp(said));
    if (words !== 'doctor' && !words.startsWith('shards')) assert.ok(code > 0, words);
    await permit(services.managementUrl, userOf(urls['AMQP_URL']), rabbitmq ?? {});
  }
});

test('a command of Redis that is missing is named by whoever needs it, with the line to add', async (t) => {
  const { services, env, command } = await useStream(t);
  await command(['topology', 'apply']);
  const words: Partial<Record<RoleName, readonly string[]>> = {
    reader: ['entity list', 'entity show o', 'status', 'audit', 'events list', 'events list o --applied', 'dead-letters list'],
    operator: ['entity import', 'entity resync o --version 9 --reason x --yes', 'shards resume --why x --yes'],
    doctor: ['doctor'],
    topology: ['topology apply'],
    appender: ['events append'],
  };
  for (const [role, typed = []] of Object.entries(words) as [RoleName, readonly string[]][]) {
    const urls = await asRole(role, env, services);
    for (const missing of commandsOf(role, env)) {
      await setAcl(services.redisUrl, userOf(urls['REDIS_URL']), `-${missing}`);
      for (const line of typed) {
        const { stdout, stderr } = await command(line.split(' '), urls, '{"entity_id":"o","version":3,"type":"Created","data":{}}\n');
        const isRefused = /may not do this/.test(stdout + stderr);
        if (isRefused) assertNamed(stdout + stderr, allows(missing));
        else assert.doesNotMatch(stdout + stderr, /unexpected error|\ba bug\b/);
      }
      await setAcl(services.redisUrl, userOf(urls['REDIS_URL']), `+${missing}`);
    }
  }
});

/** Traffic for a while in which a right is missing: what becomes an orphan before it, within it, and what just goes. */
class Traffic {
  readonly run: StreamRun;
  readonly worker: WorkerProcess;

  constructor(run: StreamRun, worker: WorkerProcess) {
    this.run = run;
    this.worker = worker;
  }

  async whileMissing(name: string, take: () => Promise<unknown>, giveBack: () => Promise<unknown>, isNamed: (said: string) => boolean) {
    const { run, worker } = this;
    const before = await run.ready(run.deadLetters);
    await run.publish(at(`${name}-a`, 1, 3));
    await waitFor(async () => (await run.ready(run.deadLetters)) > before, { what: `a dead letter before ${name}` });
    const told = worker.output.length;
    await take();
    await run.publish([...at(`${name}-a`, 2), ...at(`${name}-b`, 1, 3), ...interleaved(2, 70, `${name}-c`)]);
    const goesOn = () => this.#isDone({ [`${name}-a`]: 3, [`${name}-c-0`]: 70, [`${name}-c-1`]: 70 });
    const named = () => isNamed(worker.output.slice(told));
    await waitFor(async () => named() || (await goesOn()), { what: `${name} to be missed, or not` });
    const wasNamed = named();
    await giveBack();
    await run.publish(at(`${name}-b`, 2));
    await waitFor(async () => (await goesOn()) && (await this.#isDone({ [`${name}-b`]: 3 })), { what: `everything of ${name} applied` });
    return wasNamed;
  }

  async #isDone(versions: Readonly<Record<string, number>>): Promise<boolean> {
    const traces = await readTraces(this.run.storeUrl, this.run.stream);
    return Object.entries(versions).every(([entityId, version]) => {
      const found = traces.get(entityId);
      return found?.version === version && !found.parked;
    });
  }
}

const settings = { AUTO_REPLAY: 'true', EVENT_LOG: 'true', GAP_TIMEOUT_MS: '300' };

async function useTraffic(t: TestContext, services: TestServices) {
  const run = new StreamRun(t, 'rights', { ...services, variables: settings });
  const env = { AMQP_URL: services.amqpUrl, REDIS_URL: services.redisUrl, STREAM: run.stream, SHARDS: '2', ...settings };
  const { io } = keptIo({ env });
  assert.equal(await runHere(['topology', 'apply'], io), 0);
  const urls = await asRole('worker', env, services);
  const worker = await run.worker({ ...urls, TOPOLOGY: 'verify' });
  return { run, env, user: userOf(urls['AMQP_URL']), traffic: new Traffic(run, worker), worker };
}

test('a command of Redis that is taken from a worker under traffic is named, and nothing is lost', async (t) => {
  const services = await useServices(t);
  const { run, env, user, traffic, worker } = await useTraffic(t, services);
  const named: string[] = [];
  for (const missing of commandsOf('worker', env)) {
    const isMissed = await traffic.whileMissing(
      missing.replaceAll('|', '-'),
      () => setAcl(services.redisUrl, user, `-${missing}`),
      () => setAcl(services.redisUrl, user, `+${missing}`),
      (said) => allows(missing).test(said),
    );
    if (isMissed) named.push(missing);
  }
  const needed = ['evalsha', 'hdel', 'hget', 'hlen', 'hmget', 'hscan', 'hset', 'pexpire', 'rpush', 'time', 'xadd'];
  assert.deepEqual(
    needed.filter((one) => !named.includes(one)),
    [],
  );
  assert.doesNotMatch(worker.output, /unexpected error|\ba bug\b/);
  await run.assertNothingLeft();
});

test('a command of Redis that is taken from a relay is named, and every event is published once it is there again', async (t) => {
  const { services, stream, env, command } = await useStream(t, { SHARDS: '1' });
  assert.equal((await command(['topology', 'apply'])).code, 0);
  const events = createRedisEventStore({ url: services.redisUrl, stream });
  t.after(() => events.close());
  const urls = await asRole('relay', env, services);
  const { process: relay } = await startCommand(['relay'], { ...env, ...urls });
  t.after(() => relay.kill('SIGKILL'));
  let said = '';
  relay.stdout.on('data', (text: string) => (said += text));
  const channel = await useRawChannel(t, services.amqpUrl);
  const sequences = new Set<number>();
  // What was published is published again where it was not noted.
  const note = (message: ConsumeMessage | null) => void sequences.add(JSON.parse(String(message?.content)).sequence);
  await channel.consume(`${stream}.shard.000`, note, { noAck: true });
  const all = commandsOf('relay', env);
  for (const [index, missing] of all.entries()) {
    const told = said.length;
    await setAcl(services.redisUrl, userOf(urls['REDIS_URL']), `-${missing}`);
    await events.append({ entityType: 'trace', entityId: 'o' }, [{ type: 'e' }], { expectedVersion: 'any' });
    const isMissed = () => allows(missing).test(said.slice(told));
    await waitFor(() => isMissed() || sequences.size > index, { what: `${missing} to be missed, or not` });
    await setAcl(services.redisUrl, userOf(urls['REDIS_URL']), `+${missing}`);
    await waitFor(() => sequences.size > index, { what: `the event that was appended without ${missing}` });
  }
  assert.match(said, allows('xrange'));
  assert.deepEqual(
    [...sequences],
    all.map((_, index) => index + 1),
  );
});

test('what is printed fits a cluster, another database, and DURABILITY', async (t) => {
  const [cluster, one] = await Promise.all([startRedisCluster(3), useRedisNode(t)]);
  t.after(() => cluster.stop());
  await useRedisNode(t, { configLines: [`replicaof 127.0.0.1 ${one.port}`] });
  const hosts = cluster.redisUrls.map((url) => new URL(url).host).join(',');
  const cases: readonly (readonly [nodes: readonly RedisNode[], url: string, durability?: Durability])[] = [
    [cluster.nodes, `redis+cluster://USER:least@${hosts}`],
    [[one], `redis://USER:least@127.0.0.1:${one.port}/2`],
    [[one], `redis://USER:least@127.0.0.1:${one.port}`, { kind: 'replicas', count: 1 }],
  ];
  for (const [nodes, url, durability = { kind: 'none' as const }] of cases) {
    const env = { REDIS_URL: url, STREAM: 'forms', DURABILITY: durability.kind === 'replicas' ? 'replicas:1' : 'none' };
    const use = async (role: RoleName) => {
      const { user, redis } = rightsOf(role, env);
      for (const node of nodes) await setAcl(node.redisUrl, user, 'on', '>least', ...(redis?.keys ?? []), ...(redis?.commands ?? []));
      return { url: url.replace('USER', user), stream: 'forms', durability };
    };
    const store = createRedisStore({ ...(await use('worker')), idempotencyTtlSeconds: 60 });
    const events = createRedisEventStore(await use('appender'));
    t.after(() => Promise.all([store.close(), events.close()]));
    await store.inspect();
    await gathered(store.listEntities({}));
    // A replica takes a moment to have what its master has.
    const once = <T>(work: () => Promise<T>) =>
      waitFor(() => work().catch((error: Error) => (error.message.includes('(DURABILITY)') ? null : Promise.reject(error))), {
        what: 'the replica',
      });
    await once(() => store.nextEpoch(0));
    await once(() => events.append(order, [{ type: 'e' }], { expectedVersion: 'any' }));
  }
});

test('a right at the broker that is taken from a worker under traffic is named, and nothing is lost', async (t) => {
  const [node, redis] = await Promise.all([useRabbitNode(t), useRedisNode(t)]);
  const services = { amqpUrl: node.amqpUrl, managementUrl: node.managementUrl, redisUrl: redis.redisUrl };
  const { run, env, user, traffic, worker } = await useTraffic(t, services);
  const rights = rightsOf('worker', env).rabbitmq ?? {};
  for (const missing of ['configure', 'write', 'read'] as const) {
    const isMissed = await traffic.whileMissing(
      missing,
      async () => {
        await permit(node.managementUrl, user, { ...rights, [missing]: '^$' });
        // The broker asks for a right when a consumer or a channel begins.
        await node.ctl('close_all_connections', 'test');
      },
      () => permit(node.managementUrl, user, rights),
      (said) => new RegExp(`to the ${missing} .*permission of user '${user}'`).test(said),
    );
    assert.ok(isMissed, missing);
  }
  assert.doesNotMatch(worker.output, /unexpected error|\ba bug\b/);
  await run.assertNothingLeft();
});

test('what a publisher may not publish for a while is published once it may, in order', async (t) => {
  const node = await useRabbitNode(t);
  const { redisUrl } = await useServices(t);
  const services = { amqpUrl: node.amqpUrl, managementUrl: node.managementUrl, redisUrl };
  const env = { AMQP_URL: node.amqpUrl, REDIS_URL: redisUrl, STREAM: 'rights', SHARDS: '1' };
  const { io } = keptIo({ env });
  assert.equal(await runHere(['topology', 'apply'], io), 0);
  const { AMQP_URL = '' } = await asRole('publisher', env, services);
  const log = new KeptLog();
  const publisher = createPublisher({ urls: [AMQP_URL], stream: 'rights', log });
  t.after(() => publisher.close());
  const publish = (sequence: number) => publisher.publish({ entityId: 'o', entityType: 'trace', sequence, type: `e${sequence}` });
  assert.equal((await publish(1)).status, 'confirmed');
  await permit(node.managementUrl, userOf(AMQP_URL), {});
  await node.ctl('close_all_connections', 'test');
  const outcomes = Array.from({ length: 50 }, (_, index) => publish(index + 2));
  await waitFor(() => log.text.includes("add ^rights$ to the write permission of user 'rights-publisher-"), {
    what: 'the missing right named',
  });
  await permit(node.managementUrl, userOf(AMQP_URL), rightsOf('publisher', env).rabbitmq ?? {});
  assert.deepEqual(
    (await Promise.all(outcomes)).map(({ status }) => status),
    Array(50).fill('confirmed'),
  );
});

/** The store has on record how a stream is laid out: a newer layout and a stream of another shape are refused by name. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { connect } from 'amqplib';
import { Redis } from 'ioredis';
import { ConfigError } from '../../src/errors.ts';
import { systemTime } from '../../src/time.ts';
import { EventKeys, Keys } from '../../src/stores/redis/keys.ts';
import { createRedisEventStore, createRedisRelayLeases } from '../../src/stores/redis/redis-event-store.ts';
import { layoutVersion } from '../../src/stores/layout.ts';
import { keptIo, runHere } from '../support/command-io.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';
import { useTcpProxy } from '../support/tcp-proxy.ts';
import { interleaved, publishTrace, untilApplied } from '../support/trace.ts';

async function setUp(t: TestContext) {
  const { amqpUrl, redisUrl } = await useServices(t);
  const stream = uniqueStream('layout');
  const variables = { AMQP_URL: amqpUrl, REDIS_URL: redisUrl, STREAM: stream, SHARDS: '2', PROCESSOR: 'history', HTTP_PORT: '0' };
  const redis = new Redis(redisUrl);
  t.after(() => redis.disconnect());
  const run = async (words: string, more: Readonly<Record<string, string>> = {}, stdin = '') => {
    const { io, out } = keptIo({ env: { ...variables, ...more }, stdin });
    return { code: await runHere(words.split(' '), io), ...out };
  };
  /** A worker that is ready. */
  const work = async (more: Readonly<Record<string, string>> = {}) => {
    const { io, out, stop } = keptIo({ env: { ...variables, ...more } });
    const exited = runHere(['worker'], io);
    const end = () => {
      stop();
      return exited;
    };
    t.after(end);
    await waitFor(() => out.log.includes('"ready"'), { what: 'a ready worker' });
    return { exited, out, stop: end };
  };
  const layout = async () => {
    const text = await redis.hget(new Keys(stream).streamState, 'layout');
    return text === null ? null : JSON.parse(text);
  };
  const plant = (text: string) => redis.hset(new Keys(stream).streamState, 'layout', text);
  return { amqpUrl, redisUrl, stream, redis, run, work, layout, plant };
}

async function hasQueue(amqpUrl: string, queue: string): Promise<boolean> {
  const connection = await connect(amqpUrl);
  const channel = await connection.createChannel();
  channel.on('error', () => undefined);
  const found = await channel.checkQueue(queue).then(
    () => true,
    () => false,
  );
  await connection.close();
  return found;
}

test('a stream on record with another number of shards is refused by name, until topology apply lets it grow', async (t) => {
  const { amqpUrl, stream, run, work, layout } = await setUp(t);
  assert.equal((await run('topology apply')).code, 0);
  assert.deepEqual(await layout(), { version: layoutVersion, shards: 2, exchangeType: 'x-consistent-hash' });

  const early = await run('worker', { SHARDS: '3', TOPOLOGY: 'declare' });
  assert.equal(early.code, 2, early.stdout);
  const grow = /SHARDS is 3, and the store has the stream on record with 2 shards.* set SHARDS=2, .*`inorder topology apply` with SHARDS=3/;
  assert.match(early.stderr, grow);
  assert.equal(await hasQueue(amqpUrl, `${stream}.shard.002`), false, 'nothing is declared for it');
  assert.match((await run('worker', { SHARDS: '1', TOPOLOGY: 'verify' })).stderr, /SHARDS is 1, .* with 2 shards: those from 1 on/);
  const other = await run('worker', { EXCHANGE_TYPE: 'x-modulus-hash', TOPOLOGY: 'verify' });
  assert.match(other.stderr, /EXCHANGE_TYPE is x-modulus-hash, .* on record with x-consistent-hash; set EXCHANGE_TYPE=x-consistent-hash/);
  for (const words of ['status', 'topology check', 'doctor']) {
    const { code, stdout } = await run(words, { SHARDS: '3' });
    assert.match(stdout, grow, words);
    assert.equal(code, 1);
  }

  const grown = await run('topology apply', { SHARDS: '3' });
  assert.deepEqual([grown.code, grown.stderr], [0, '']);
  assert.equal((await layout()).shards, 3);
  assert.match((await run('worker', { TOPOLOGY: 'verify' })).stderr, /SHARDS is 2, .* with 3 shards/);
  const worker = await work({ SHARDS: '3' });
  const { stdout } = await run('status', { SHARDS: '3' });
  assert.match(stdout, /^on record: layout 1, 3 shards, x-consistent-hash$/m);
  assert.match((await run('doctor', { SHARDS: '3' })).stdout, /^ok +layout: layout 1, 3 shards, x-consistent-hash$/m);
  assert.equal(await worker.stop(), 0);
});

test('a stream without a record is adopted by the first worker, with all that was applied', async (t) => {
  const { amqpUrl, redisUrl, stream, redis, work, layout } = await setUp(t);
  const before = await work();
  await publishTrace(amqpUrl, stream, interleaved(10, 3));
  await untilApplied(redisUrl, stream, 10, 3);
  await before.stop();
  // As the release before had left it.
  await redis.hdel(new Keys(stream).streamState, 'layout');
  const worker = await work();
  assert.deepEqual(await layout(), { version: layoutVersion, shards: 2, exchangeType: 'x-consistent-hash' });
  await publishTrace(amqpUrl, stream, interleaved(10, 6));
  await untilApplied(redisUrl, stream, 10, 6);
  assert.equal(await worker.stop(), 0);
});

test('a newer layout is refused by workers and commands, and by a worker that is running', async (t) => {
  const { amqpUrl, stream, run, work, layout, plant } = await setUp(t);
  const worker = await work();
  const newer = { version: layoutVersion + 1, shards: 2, exchangeType: 'x-consistent-hash', ring: [] };
  await plant(JSON.stringify(newer));
  const said = new RegExp(
    `the store has stream ${stream} in layout 2, and this version of Inorder .* knows layouts up to 1: use the version`,
  );
  assert.equal(await worker.exited, 2, worker.out.log);
  assert.match(worker.out.stderr, said);
  const entity = '{"entity_id":"o","version":1,"state":{}}\n';
  const commands = ['worker', 'entity list', 'entity import', 'dead-letters replay --all --yes', 'shards resume --why x --yes', 'audit'];
  for (const words of [...commands, 'status', 'topology apply']) {
    const { code, stderr, stdout } = await run(words, {}, entity);
    assert.match(stderr, said, `${words}: ${stdout}`);
    assert.equal(code, 2, words);
  }
  for (const words of ['topology check', 'doctor']) assert.match((await run(words)).stdout, said, words);
  assert.equal((await run('topology apply', { SHARDS: '3' })).code, 2);
  assert.equal(await hasQueue(amqpUrl, `${stream}.shard.002`), false, 'nothing is declared for it');
  assert.deepEqual(await layout(), newer, 'nobody has touched it');
});

test('topology apply declares nothing while the store does not answer, and says why', async (t) => {
  const { amqpUrl, stream, run } = await setUp(t);
  const { code, stdout, stderr } = await run('topology apply', { REDIS_URL: 'redis://127.0.0.1:1' });
  assert.deepEqual([code, stdout], [1, '']);
  assert.match(stderr, /^inorder: nothing was declared, for the store has to know the number of shards: Redis at 127\.0\.0\.1:1 [^\n]*\n$/);
  assert.equal(await hasQueue(amqpUrl, `${stream}.shard.000`), false);
});

test('of two who let a stream grow at once one is told of the other, and a store that is lost meanwhile that it is to be done again', async (t) => {
  const { amqpUrl, redisUrl, redis, stream, run, plant, layout } = await setUp(t);
  assert.equal((await run('topology apply')).code, 0);
  const [broker, store] = [await useTcpProxy(t, amqpUrl), await useTcpProxy(t, redisUrl)];
  /** Its way to the broker is closed until `meanwhile` is done: by then it has asked the store. */
  const grow = async (meanwhile: () => Promise<unknown>) => {
    broker.blackHole(true);
    const before = broker.acceptedConnections;
    const ended = run('topology apply', { SHARDS: '3', AMQP_URL: broker.through(amqpUrl), REDIS_URL: store.through(redisUrl) });
    await waitFor(() => broker.acceptedConnections > before, { what: 'a connection to the broker' });
    await meanwhile();
    broker.blackHole(false);
    return ended;
  };
  const other = { version: layoutVersion, shards: 4, exchangeType: 'x-consistent-hash' };
  const second = await grow(() => plant(JSON.stringify(other)));
  const there = `what belongs to ${stream} is there at the broker, but the store does not have it on record with 3 shards`;
  const meant =
    `${there}: somebody else has put 4 shards and x-consistent-hash on record meanwhile; ` +
    `agree on one of them, and apply that; more queues than that have to be unbound and drained`;
  assert.deepEqual([second.code, second.stdout, second.stderr], [1, '', `inorder: ${meant}\n`]);
  assert.deepEqual(await layout(), other);

  const cut = await grow(async () => {
    await store.refuse(true);
    store.cut();
  });
  assert.deepEqual([cut.code, cut.stdout], [1, '']);
  assert.match(cut.stderr, new RegExp(`^inorder: ${there}, so run this again: Redis at [^\\n]*\\n$`));
  assert.ok(await hasQueue(amqpUrl, `${stream}.shard.002`));
  await redis.hdel(new Keys(stream).streamState, 'layout');
  await store.refuse(false);
  assert.equal((await grow(async () => undefined)).code, 0);
  assert.deepEqual(await layout(), { ...other, shards: 3 });
});

test('an event store of a newer layout is refused by name, by who reads, appends or relays; an older one is adopted', async (t) => {
  const { redisUrl, stream, redis, run } = await setUp(t);
  const key = new EventKeys(stream).layout;
  const entity = { entityType: 'order', entityId: 'o' };
  const open = () => {
    const store = createRedisEventStore({ url: redisUrl, stream });
    t.after(() => store.close());
    return store;
  };
  const leases = createRedisRelayLeases({ url: redisUrl, stream, time: systemTime });
  t.after(() => leases.close());
  await open().append(entity, [{ type: 'A' }], { expectedVersion: 0 });
  assert.deepEqual(await redis.hgetall(key), { version: String(layoutVersion) });
  await redis.del(key);
  assert.equal(await open().version(entity), 1, 'read without a record');
  assert.equal((await open().append(entity, [{ type: 'B' }], { expectedVersion: 1 })).version, 2);
  assert.deepEqual(await redis.hgetall(key), { version: String(layoutVersion) });

  await redis.hset(key, 'version', layoutVersion + 1);
  const said = new RegExp(`the events of stream ${stream} in layout 2, and this version of Inorder`);
  const refused = (error: unknown) => error instanceof ConfigError && said.test(error.message);
  await assert.rejects(open().version(entity), refused);
  await assert.rejects(open().append(entity, [{ type: 'C' }], { expectedVersion: 2 }), refused);
  await assert.rejects(open().readAll()[Symbol.asyncIterator]().next(), refused);
  await assert.rejects(open().readSnapshot(entity), refused);
  await assert.rejects(leases.acquire(new AbortController().signal), refused);
  const relay = await run('relay', { EVENT_STORE: 'redis' });
  assert.deepEqual([relay.code, said.test(relay.stderr)], [2, true], relay.stderr);
  assert.equal(await redis.xlen(new EventKeys(stream).log), 2);
  await waitFor(async () => (await redis.hget(key, 'version')) === '2', { what: 'the record as it was' });
});

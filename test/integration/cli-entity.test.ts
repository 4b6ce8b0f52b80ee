import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import test, { type TestContext } from 'node:test';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import type { Commit } from '../../src/ordering/entity.ts';
import { keptIo, runHere } from '../support/command-io.ts';
import { uniqueStream, useServices } from '../support/services.ts';

// Parsed and printed again, the large number, the float and the spaces would come out differently.
const state = '{"total": 12345678901234567890, "price": 1.0,  "items":[]}';

async function streamWithEntities(t: TestContext) {
  const { redisUrl } = await useServices(t);
  const stream = uniqueStream('cli');
  const store = createRedisStore({ url: redisUrl, stream, idempotencyTtlSeconds: 60 });
  t.after(() => store.close());
  const commit = (entityType: string, entityId: string, version: number): Commit => ({
    entityType,
    entityId,
    token: `1:${entityType}:${entityId}`,
    expectedVersion: 0,
    expectedHoles: '',
    newVersion: version,
    newHoles: '',
    state,
    events: [],
  });
  await store.commit([commit('order', 'a b', 3), commit('order', '"}x', 1), commit('ticket', 'T1', 7)]);
  const park = { entityType: 'ticket', entityId: 'T1', shard: 0, epoch: 1, session: 'one', expectedVersion: 7, sequence: 9 };
  await store.park([{ ...park, reason: 'gap_timeout', detail: '8 did not come' }]);
  const env: Record<string, string> = { REDIS_URL: redisUrl, STREAM: stream, HTTP_PORT: '0' };
  async function run(words: readonly string[], more: Record<string, string> = {}) {
    const { io, out } = keptIo({ env: { ...env, ...more } });
    return { code: await runHere(words, io), ...out };
  }
  return { run, stream, store };
}

test('entity show prints the stored state byte for byte', async (t) => {
  const { run } = await streamWithEntities(t);
  const { code, stdout } = await run(['entity', 'show', 'a b', '--json']);
  assert.equal(code, 0);
  assert.equal(stdout, `{"entity_type":"order","entity_id":"a b","version":3,"state":${state},"parked":null,"held":null}\n`);
  assert.ok((await run(['entity', 'show', '"}x'])).stdout.includes(`\nstate    ${state}\n`));
});

test('entity show says why an entity is parked', async (t) => {
  const { run } = await streamWithEntities(t);
  const { stdout } = await run(['entity', 'show', 'T1', '--type', 'ticket', '--json']);
  const { parked, version } = JSON.parse(stdout);
  assert.equal(version, 7);
  assert.deepEqual([parked.reason, parked.sequence, parked.detail], ['gap_timeout', 9, '8 did not come']);
  assert.match((await run(['entity', 'show', 'T1', '--type=ticket'])).stdout, /parked +since .*sequence 9: gap_timeout/);
});

test('nothing that an entity holds can steer the terminal, and its JSON stays as it is', async (t) => {
  const { run, store } = await streamWithEntities(t);
  const entity = { entityType: 'a\u009b31m', entityId: 'x\u202e' };
  const hostile = '{"note":"\u202eevil"}';
  await store.commit([
    { ...entity, token: '1', expectedVersion: 0, expectedHoles: '', newVersion: 1, newHoles: '', state: hostile, events: [] },
  ]);
  await store.park([
    { ...entity, shard: 0, epoch: 1, session: 'one', expectedVersion: 1, sequence: 2, reason: 'handler_failed', detail: 'said \u001b[2J' },
  ]);
  const words = ['entity', 'show', entity.entityId, '--type', entity.entityType];
  const { stdout } = await run(words);
  assert.doesNotMatch(stdout, /[\u001b\u009b\u202e]/);
  assert.match(stdout, /^entity +a\\x9b31m "x\\u\{202e\}"$/m);
  assert.match(stdout, /handler_failed \(said \\x1b\[2J\)$/m);
  assert.ok((await run([...words, '--json'])).stdout.includes(`"state":${hostile},`));
  const listed = (await run(['entity', 'list', '--type', entity.entityType, '--json'])).stdout;
  assert.doesNotMatch(listed, /[\u009b\u202e]/);
  assert.equal(JSON.parse(listed).entity_id, entity.entityId);
  assert.match(
    (await run(['entity', 'list', '--type', entity.entityType])).stdout,
    /^a\\x9b31m "x\\u\{202e\}" version 1 parked \(handler_failed\)\n$/,
  );
});

test('entity show fails for an entity that is not in the store, and names the types of those that have its id', async (t) => {
  const { run } = await streamWithEntities(t);
  const { code, stdout, stderr } = await run(['entity', 'show', 'T1']);
  assert.deepEqual([code, stdout, stderr], [1, '', 'inorder: there is no order "T1" in the store; there is ticket "T1" (--type ticket)\n']);
  const nowhere = await run(['entity', 'show', 'T9']);
  assert.deepEqual(
    [nowhere.code, nowhere.stderr],
    [1, 'inorder: there is no order "T9" in the store; whether anything of it was refused: inorder dead-letters list --entity T9\n'],
  );
});

test('entity show asks the worker nearby what it holds, and believes only one of the same stream that can know', async (t) => {
  const { run, stream } = await streamWithEntities(t);
  let report: unknown = {};
  const server = createServer((_request, response) => response.end(JSON.stringify(report))).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  const heldSeen = async (shards: readonly object[], of = stream) => {
    report = { service: 's', stream: of, state: 'running', not_ready: [], shards };
    const more = { HTTP_PORT: String((server.address() as AddressInfo).port), SHARDS: '2' };
    return JSON.parse((await run(['entity', 'show', 'a b', '--json'], more)).stdout).held;
  };
  const idle = { state: 'consuming', epoch: 4, held: 0, gaps: 0, open_gaps: [] };
  const gap = { entity_type: 'order', entity_id: 'a b', held: 5 };
  assert.equal(
    await heldSeen([
      { ...idle, shard: 0 },
      { ...idle, shard: 1, gaps: 1, open_gaps: [gap] },
    ]),
    5,
  );
  assert.equal(
    await heldSeen([
      { ...idle, shard: 0 },
      { ...idle, shard: 1 },
    ]),
    0,
  );
  assert.equal(
    await heldSeen([
      { ...idle, shard: 0 },
      { ...idle, shard: 1, epoch: null },
    ]),
    null,
  );
  assert.equal(
    await heldSeen([
      { ...idle, shard: 0 },
      { ...idle, shard: 1, gaps: 200 },
    ]),
    null,
  );
  assert.equal(await heldSeen([{ ...idle, shard: 0 }]), null);
  assert.equal(
    await heldSeen(
      [
        { ...idle, shard: 0 },
        { ...idle, shard: 1 },
      ],
      'another',
    ),
    null,
  );
});

test('entity list prints every entity, or those of a type, one per line', async (t) => {
  const { run } = await streamWithEntities(t);
  const all = (await run(['entity', 'list', '--json'])).stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.deepEqual(all.map(({ entity_id, version }) => `${entity_id} ${version}`).sort(), ['"}x 1', 'T1 7', 'a b 3']);
  const tickets = (await run(['entity', 'list', '--type', 'ticket'])).stdout;
  assert.equal(tickets, 'ticket "T1" version 7 parked (gap_timeout)\n');
});

test('entity list --states prints what entity import takes, and names whom it leaves out', async (t) => {
  const { run, store } = await streamWithEntities(t);
  const holed = { entityType: 'order', entityId: 'h', token: '1', expectedVersion: 0, expectedHoles: '', newVersion: 4, newHoles: '2-3' };
  await store.commit([{ ...holed, state, events: [] }]);
  const { code, stdout, stderr } = await run(['entity', 'list', '--states']);
  assert.equal(code, 1);
  assert.deepEqual(stderr.split('\n').toSorted(), [
    '',
    'inorder: order "h" is left out: it has holes (2-3), and an import would take their events for duplicates',
    'inorder: ticket "T1" is left out: it is parked',
  ]);
  const other = { REDIS_URL: (await useServices(t)).redisUrl, STREAM: uniqueStream('cli') };
  const { io, out } = keptIo({ env: other, stdin: stdout });
  assert.equal(await runHere(['entity', 'import'], io), 0);
  assert.equal(out.stdout, '2 imported, 0 known before at the same version, 0 refused\n');
  const again = keptIo({ env: other });
  assert.equal(await runHere(['entity', 'list', '--states'], again.io), 0);
  const sorted = (lines: string) => lines.split('\n').toSorted();
  assert.deepEqual(sorted(again.out.stdout), sorted(stdout));
  assert.ok(stdout.includes(`{"entity_type":"order","entity_id":"a b","version":3,"state":${state}}\n`));
});

test('a store that is away is one line and exit code 1', async (t) => {
  const { run } = await streamWithEntities(t);
  const { code, stdout, stderr } = await run(['entity', 'list'], { REDIS_URL: 'redis://:hush@127.0.0.1:1' });
  assert.equal(code, 1);
  assert.equal(stdout, '');
  assert.match(stderr, /^inorder: [^\n]+\n$/);
  assert.ok(!stderr.includes('hush'));
});

/** What operators change: discarding, exporting and correcting, setting versions, importing; and that all of it is on record. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { keptIo, runHere } from '../support/command-io.ts';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { bodyOf, readTraces, type TraceEvent } from '../support/trace.ts';

async function useStream(t: TestContext, name: string) {
  const services = await useServices(t);
  const run = new StreamRun(t, name, { ...services, variables: { GAP_TIMEOUT_MS: '300' } });
  const env = { AMQP_URL: run.amqpUrl, REDIS_URL: run.redisUrl, STREAM: run.stream, ENTITY_TYPE: 'trace' };
  const command = async (words: readonly string[], stdin?: string, isTTY = false) => {
    const { io, out } = keptIo({ env: { ...env, PROCESSOR: 'history' }, stdin });
    const atTerminal = { ...io, isTTY, stdin: Object.assign(io.stdin, { isTTY }) };
    return { code: await runHere(words, atTerminal), ...out };
  };
  const untilDeadLettered = (count: number) =>
    waitFor(async () => (await run.ready(run.deadLetters)) === count, { what: `${count} dead letters`, timeoutMs: 30_000 });
  const trace = async (entityId: string) => (await readTraces(run.redisUrl, run.stream)).get(entityId);
  const untilVersion = (entityId: string, version: number) =>
    waitFor(async () => (await trace(entityId))?.version === version, { what: `${entityId} at version ${version}`, timeoutMs: 30_000 });
  const audited = async () => linesOf((await command(['audit', '--json'])).stdout);
  return { run, env, command, untilDeadLettered, trace, untilVersion, audited };
}

const at = (entityId: string, ...sequences: number[]): TraceEvent[] => sequences.map((sequence) => ({ entityId, sequence }));
const linesOf = (text: string) =>
  text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));

test('letters are listed by what they have in common, and counted in groups with their first and last time', async (t) => {
  const { run, command, untilDeadLettered } = await useStream(t, 'groups');
  await run.worker();
  await run.publish([...at('a', 3, 4), ...at('b', 2)]);
  await untilDeadLettered(3);
  await run.publish(at('a', 9));
  await untilDeadLettered(4);
  const list = async (...options: string[]) => linesOf((await command(['dead-letters', 'list', '--json', ...options])).stdout);
  const sequencesOf = async (...options: string[]) =>
    (await list(...options)).map(({ entity_id, sequence }) => `${entity_id}${sequence}`).sort();
  assert.deepEqual(await sequencesOf('--entity=a'), ['a3', 'a4', 'a9']);
  assert.deepEqual(await sequencesOf('--reason=entity_parked'), ['a9']);
  assert.deepEqual(await sequencesOf('--type=e2'), ['b2']);
  assert.deepEqual(await sequencesOf('--entity-type=order'), []);
  assert.deepEqual(await sequencesOf('--since=1h', '--entity=b'), ['b2']);
  assert.deepEqual(await sequencesOf('--since=2199-01-01'), []);
  const all = await list();
  for (const shard of [0, 1]) {
    assert.deepEqual((await list(`--shard=${shard}`)).length, all.filter((letter) => letter.shard === shard).length);
  }
  const groups = await list('--group-by=reason');
  const times = all
    .filter(({ reason }) => reason === 'gap_timeout')
    .map(({ dead_lettered_at }) => dead_lettered_at)
    .sort();
  assert.deepEqual(groups, [
    { group: 'gap_timeout', count: 3, first: times[0], last: times[2] },
    { group: 'entity_parked', count: 1, first: groups[1].first, last: groups[1].first },
  ]);
  assert.deepEqual(
    (await list('--group-by=entity')).map(({ group, count }) => [group, count]),
    [
      ['trace a', 3],
      ['trace b', 1],
    ],
  );
  assert.match(
    (await command(['dead-letters', 'list', '--group-by=type', '--entity=b'])).stdout,
    /^TYPE +COUNT +FIRST +LAST\ne2 +1 +\S+Z +\S+Z\n$/,
  );
  assert.equal(await run.ready(run.deadLetters), 4);
  for (const [option, problem] of [
    ['--reason=nope', /--reason is "nope": it must be one of malformed,/],
    ['--since=yesterday', /--since is "yesterday"/],
    ['--shard=-1', /--shard is "-1"/],
    ['--group-by=x', /--group-by is "x"/],
  ] as const) {
    const { code, stderr } = await command(['dead-letters', 'list', option]);
    assert.equal(code, 2);
    assert.match(stderr, problem);
  }
});

test('a letter says what it waits for and where that is', async (t) => {
  const { run, command, untilDeadLettered, untilVersion } = await useStream(t, 'stands');
  await run.worker();
  await run.publish([...at('a', 1, 3, 4), ...at('b', 2)]);
  await untilDeadLettered(3);
  const statusOf = async (id: string) => /^status +(.*)$/m.exec((await command(['dead-letters', 'show', id])).stdout)?.[1];
  assert.equal(await statusOf('a/4'), 'waits for 2, which was never seen; here are 3-4');
  assert.equal(linesOf((await command(['dead-letters', 'show', 'a/4', '--json'])).stdout)[0].missing, 2);
  await run.publish(at('a', 2));
  await untilVersion('a', 2);
  assert.equal(await statusOf('a/3'), 'is next in line: it can be replayed');
  assert.equal(await statusOf('a/4'), 'follows 3, which is itself a dead letter (gap_timeout): both can be replayed');
  await run.publish(at('a', 3));
  await untilVersion('a', 3);
  assert.match((await statusOf('a/3')) ?? '', /^version 3 has passed it/);
});

test('a discarded letter is gone and on record with who and why; its entity goes on where its sequence is skipped', async (t) => {
  const { run, command, untilDeadLettered, trace, audited, untilVersion } = await useStream(t, 'discard');
  await run.worker();
  await run.publish(at('a', 2, 3, 4));
  await untilDeadLettered(3);
  const refused = await command(['dead-letters', 'discard', 'a/3', '--why=test', '--skip-sequence', '--yes']);
  assert.deepEqual(
    [refused.code, refused.stdout, refused.stderr],
    [2, '', 'inorder: trace "a" is at version 0: sequence 3 is not the next one, and cannot be skipped\n'],
  );
  const unasked = await command(['dead-letters', 'discard', 'a/3', '--why=test']);
  assert.deepEqual([unasked.code, unasked.stdout], [2, '  trace a: 3\n1 would be lost\n']);
  assert.deepEqual([await run.ready(run.deadLetters), await audited()], [3, []]);
  assert.match((await command(['dead-letters', 'discard', 'a/3', '--yes'])).stderr, /--why is missing/);
  assert.match((await command(['dead-letters', 'discard', '--why=x', '--yes'])).stderr, /say which/);

  await run.publish(at('a', 1));
  await untilVersion('a', 1);
  const discarded = await command(['dead-letters', 'discard', 'a/2', '--why=it was a test', '--skip-sequence', '--yes']);
  assert.deepEqual([discarded.code, discarded.stdout], [0, '  trace a: 2\n1 would be lost\n1 discarded\n']);
  assert.equal((await trace('a'))?.version, 2);
  assert.equal((await command(['dead-letters', 'replay', '--entity=a', '--yes'])).code, 0);
  assert.deepEqual(await trace('a'), { version: 4, types: ['e1', 'e3', 'e4'], parked: false });
  const records = await audited();
  assert.deepEqual(
    records.map(({ action, entity_id }) => [action, entity_id]),
    [
      ['replay', 'a'],
      ['discard', 'a'],
      ['skip-sequence', 'a'],
    ],
  );
  assert.deepEqual([records[1].reason, records[2].what], ['it was a test', 'skipped sequence 2']);
  assert.match(records[1].what, /^discarded a dead letter: 2 gap_timeout a\/2$/);
  assert.match(records[1].who, /.@./);
  assert.match((await command(['audit', '--limit=1'])).stdout, /^\S+Z  \S+@\S+  replay trace a: replays 2 dead letters\n$/);
  assert.equal(await run.ready(run.deadLetters), 0);
});

test('what changes data does nothing without a terminal and without --yes, and exits with 2; a no exits with 1', async (t) => {
  const { run, command, untilDeadLettered, audited } = await useStream(t, 'unasked');
  await run.worker();
  await run.publish(at('a', 1, 3));
  await untilDeadLettered(1);
  await run.publish(at('a', 2));
  await run.untilApplied(2);
  const changes = [
    ['dead-letters', 'replay', '--all'],
    ['dead-letters', 'discard', '--all', '--why=x'],
    ['entity', 'resync', 'a', '--version=7', '--reason=x'],
  ];
  for (const words of changes) {
    const unasked = await command(words);
    assert.deepEqual(
      [unasked.code, unasked.stderr],
      [2, 'inorder: there is no terminal to ask at: nothing was changed; add --yes to do it\n'],
      words.join(' '),
    );
    const refused = await command(words, 'no\n', true);
    assert.deepEqual([refused.code, refused.stderr], [1, 'inorder: nothing was changed\n'], words.join(' '));
  }
  assert.deepEqual([await run.ready(run.deadLetters), await run.applied(), await audited()], [1, 2, []]);
});

test('what was exported and corrected is published again, and applied', async (t) => {
  const { run, command, untilDeadLettered, trace, untilVersion } = await useStream(t, 'export');
  await run.worker();
  const channel = await run.channel();
  const bad =
    '{"id":"x1","entity_type":"trace","entity_id":"a","sequence":"one","type":"e1","data":{"big":12345678901234567890,"one":1.0}}';
  channel.publish(run.stream, 'a', Buffer.from(bad), { contentType: 'application/json' });
  channel.publish(run.stream, 'a', Buffer.from('not json'), { contentType: 'application/json' });
  channel.publish(run.stream, 'b', bodyOf({ entityId: 'b', sequence: 2 }, { big: '§' }), {
    contentType: 'application/json',
    headers: { via: 'test' },
  });
  await channel.waitForConfirms();
  await untilDeadLettered(3);
  const whole = linesOf((await command(['dead-letters', 'export'])).stdout);
  assert.equal(whole.length, 3);
  const letter = whole.find(({ entity_id }) => entity_id === 'b');
  assert.deepEqual([letter.reason, letter.headers.via, JSON.parse(letter.body).data], ['gap_timeout', 'test', { big: '§' }]);
  const { code, stdout, stderr } = await command(['dead-letters', 'export', '--events']);
  assert.deepEqual([code, stderr.endsWith(' is no JSON object and was left out\n')], [1, true]);
  assert.deepEqual(
    stdout.split('\n').filter(Boolean).sort(),
    ['{"id":"b/2","entity_type":"trace","entity_id":"b","sequence":2,"type":"e2","data":{"big":"§"}}', bad].sort(),
  );
  const corrected = stdout.replace('"sequence":"one"', '"sequence":1');
  const published = await command(['publish', '-'], corrected);
  assert.deepEqual([published.code, published.stderr], [0, '']);
  await untilVersion('a', 1);
  assert.deepEqual((await trace('a'))?.types, ['e1']);
});

test('a resync sets the version under a running worker, up and down, and is on record', async (t) => {
  const { run, command, untilDeadLettered, trace, audited, untilVersion } = await useStream(t, 'resync');
  const worker = await run.worker();
  await run.publish([...at('a', 1), ...at('a', 4, 5)]);
  await untilDeadLettered(2);
  const up = await command(['entity', 'resync', 'a', '--version=3', '--reason=2 and 3 are lost', '--yes']);
  assert.deepEqual([up.code, up.stdout], [0, 'trace "a": from version 1 to 3\n']);
  assert.equal((await trace('a'))?.parked, true);
  assert.equal((await command(['dead-letters', 'replay', '--ready', '--yes'])).code, 0);
  assert.deepEqual(await trace('a'), { version: 5, types: ['e1', 'e4', 'e5'], parked: false });
  // What was passed over and comes after all is not silently taken for a duplicate.
  await run.publish(at('a', 3));
  await untilDeadLettered(1);
  assert.equal(linesOf((await command(['dead-letters', 'list', '--json'])).stdout)[0].reason, 'late');

  const down = await command(['entity', 'resync', 'a', '--version=4', '--reason=5 has to be applied again', '--yes']);
  assert.equal(down.code, 0);
  await run.publish(at('a', 5));
  await untilVersion('a', 5);
  assert.deepEqual((await trace('a'))?.types, ['e1', 'e4', 'e5', 'e5']);
  assert.deepEqual(
    (await audited()).filter(({ action }) => action === 'resync').map(({ what, reason }) => [what, reason]),
    [
      ['from version 5 to 4', '5 has to be applied again'],
      ['from version 1 to 3', '2 and 3 are lost'],
    ],
  );
  await run.end(worker);
});

test('imported entities go on from their version, and a second import changes nothing', async (t) => {
  const { run, command, trace, audited } = await useStream(t, 'import');
  const folder = await mkdtemp(join(tmpdir(), 'inorder-import-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, 'entities.ndjson');
  const lines = [
    '{"entity_id":"a","version":7,"state":{"count":7,"types":["old"],"data":12345678901234567890}}',
    '{"entity_type":"trace","entity_id":"b","version":2}',
    '{"entity_id":"","version":1}',
    '{"entity_id":"c","version":0}',
    '{"entity_id":"d","version":1,"extra":1}',
    'nonsense',
  ];
  await writeFile(file, lines.join('\n'));
  const first = await command(['entity', 'import', file]);
  assert.deepEqual(
    [first.code, first.stdout],
    [1, '2 imported (1 with the initial state of PROCESSOR history), 0 known before at the same version, 4 refused\n'],
  );
  assert.deepEqual(
    first.stderr
      .split('\n')
      .filter(Boolean)
      .map((line) => /^inorder: \S+entities\.ndjson, line (\d): ./.exec(line)?.[1]),
    ['3', '4', '5', '6'],
  );
  const again = await command(['entity', 'import', file]);
  assert.equal(again.stdout, '0 imported, 2 known before at the same version, 4 refused\n');
  assert.match((await command(['entity', 'show', 'a', '--json'])).stdout, /12345678901234567890/);
  await run.worker();
  await run.publish([...at('a', 8), ...at('b', 3)]);
  await waitFor(async () => (await trace('a'))?.version === 8 && (await trace('b'))?.version === 3, { what: 'the next events' });
  assert.deepEqual((await trace('a'))?.types, ['old', 'e8']);
  const moved = await command(['entity', 'import'], '{"entity_id":"a","version":7}');
  assert.deepEqual([moved.code, moved.stderr], [1, 'inorder: standard input, line 1: the entity is at version 8 already, not at 7\n']);
  assert.deepEqual(
    (await audited()).map(({ what }) => what),
    [`imported 2 entities from ${file}`],
  );
});

test('an entity that is imported without a state begins with the initial one, and takes an event that creates nothing', async (t) => {
  const { run, env } = await useStream(t, 'import-begins');
  const imported = async (processor: string, line: object) => {
    const { io, out } = keptIo({ env: { ...env, PROCESSOR: processor }, stdin: JSON.stringify(line) });
    return { code: await runHere(['entity', 'import'], io), ...out };
  };
  const order = await imported('order', { entity_id: 'o', version: 3 });
  assert.deepEqual(
    [order.code, order.stdout],
    [0, '1 imported (1 with the initial state of PROCESSOR order), 0 known before at the same version, 0 refused\n'],
  );
  const stranger = await imported('order', { entity_type: 'parcel', entity_id: 'p', version: 3 });
  assert.equal(stranger.code, 1);
  assert.match(
    stranger.stderr,
    /^inorder: standard input, line 1: it has no state, and PROCESSOR order has nothing for entities of type "parcel": give it a state, or set PROCESSOR as the workers have it\n$/,
  );
  assert.equal((await imported('order', { entity_type: 'parcel', entity_id: 'p', version: 3, state: [] })).code, 0);
  // Its first event would be `not_created` if it had none before.
  const worker = await run.worker({ PROCESSOR: 'order', ENTITY_TYPE: 'trace' });
  const next = keptIo({ env, stdin: '{"entity_id":"o","sequence":4,"type":"ItemAdded","data":{"sku":"x","price":2,"quantity":3}}' });
  assert.equal(await runHere(['publish'], next.io), 0);
  const shown = async () => {
    const { io, out } = keptIo({ env });
    await runHere(['entity', 'show', 'o', '--json'], io);
    return JSON.parse(out.stdout);
  };
  await waitFor(async () => (await shown()).version === 4, { what: 'the next event', timeoutMs: 60_000 });
  assert.equal((await shown()).state.total, 6);
  await run.end(worker);
});

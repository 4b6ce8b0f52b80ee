/** `inorder publish` as users run it, against a real broker. */
import amqp from 'amqplib';
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { runCommand, startCommand } from '../support/command-process.ts';
import { bodiesOf, firstArrivals, outOfOrder, useTopology } from '../support/published.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { readyCount } from '../support/trace.ts';

async function useFile(t: TestContext, name: string, text: string): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'publish-'));
  t.after(() => rm(directory, { recursive: true }));
  const path = join(directory, name);
  await writeFile(path, text);
  return path;
}

/** Lines without sequences; the entities take turns. */
function ndjson(entities: number, length: number): string {
  const lines: string[] = [];
  for (let n = 1; n <= length; n++) {
    for (let entity = 0; entity < entities; entity++) lines.push(JSON.stringify({ entity_id: `e-${entity}`, type: 'moved', data: { n } }));
  }
  return `${lines.join('\n')}\n`;
}

test('a file is published in order, everything is confirmed, and one line says so', async (t) => {
  const { amqpUrl, stream, variables } = await useTopology(t, 'publish');
  const path = await useFile(t, 'events.ndjson', ndjson(20, 100));
  const { code, stdout, stderr } = await runCommand(['publish', path], variables);
  assert.deepEqual(
    { code, stdout, stderr },
    { code: 0, stdout: '2,000 events: 2,000 published, 2,000 confirmed, 0 returned, 0 failed\n', stderr: '' },
  );
  const bodies = await bodiesOf(amqpUrl, stream);
  assert.equal(bodies.length, 2_000);
  for (const { entity_id, sequence, data } of bodies) assert.equal(data.n, sequence, entity_id);
  assert.deepEqual(outOfOrder(bodies), []);
});

test('standard input, CSV and disarray: the report as JSON, the seed to repeat it', async (t) => {
  const { amqpUrl, stream, variables } = await useTopology(t, 'publish-csv');
  const rows = Array.from({ length: 1_000 }, (_, n) => `c${n % 10},step-${n},${n}`).join('\n');
  const words = [
    'publish',
    '-',
    '--format',
    'csv',
    '--map',
    'entity_id=Case,type=Step',
    '--shuffle',
    '50',
    '--duplicate',
    '0.2',
    '--drop',
    '0.1',
    '--json',
  ];
  const { code, stdout, stderr } = await runCommand(words, variables, `Case,Step,Cost\n${rows}\n`);
  assert.equal(code, 0, stderr);
  const report = JSON.parse(stdout);
  assert.equal(stderr, `seed ${report.seed}: --seed ${report.seed} repeats this\n`);
  const bodies = await bodiesOf(amqpUrl, stream);
  assert.equal(report.events, 1_000);
  assert.deepEqual([report.confirmed, report.returned, report.failed, report.interrupted_at_line], [bodies.length, 0, 0, null]);
  assert.ok(outOfOrder(firstArrivals(bodies)).length > 0, 'it is shuffled');
  assert.ok(firstArrivals(bodies).length < bodies.length, 'some came twice');
  for (const { entity_id, sequence, type, data } of bodies) {
    const row = (sequence - 1) * 10 + Number(entity_id.slice(1));
    assert.deepEqual([type, data], [`step-${row}`, { Cost: String(row) }]);
  }
  const again = await runCommand([...words, '--seed', String(report.seed)], variables, `Case,Step,Cost\n${rows}\n`);
  assert.equal(again.stderr, '');
  assert.deepEqual(JSON.parse(again.stdout), report);
  assert.deepEqual(await bodiesOf(amqpUrl, stream), bodies);
});

test('what no queue takes is returned, counted, and ends with 1', async (t) => {
  const { amqpUrl, redisUrl } = await useServices(t);
  const stream = uniqueStream('publish-unbound');
  const connection = await amqp.connect(amqpUrl);
  const channel = await connection.createChannel();
  await channel.assertExchange(stream, 'x-consistent-hash', { durable: true });
  t.after(async () => {
    await channel.deleteExchange(stream);
    await connection.close();
  });
  const variables = { AMQP_URL: amqpUrl, REDIS_URL: redisUrl, STREAM: stream };
  const { code, stdout } = await runCommand(['publish'], variables, ndjson(2, 5));
  assert.deepEqual([code, stdout], [1, '10 events: 10 published, 0 confirmed, 10 returned, 0 failed\n']);
});

test('a connection cut again and again loses nothing and reorders no first arrival', async (t) => {
  const { amqpUrl, stream, variables } = await useTopology(t, 'publish-cut');
  const proxy = await TcpProxy.start(amqpUrl);
  t.after(() => proxy.stop());
  const path = await useFile(t, 'events.ndjson', ndjson(10, 1_000));
  const { ended } = await startCommand(['publish', path, '--rate', '4000', '--json'], {
    ...variables,
    AMQP_URL: proxy.through(amqpUrl),
  });
  for (const arrived of [1_000, 4_000, 7_000]) {
    await waitFor(async () => (await readyTotal(amqpUrl, stream)) > arrived, {
      what: `${arrived} events arrived`,
      timeoutMs: 60_000,
    });
    proxy.cut();
  }
  const { code, stdout, stderr } = await ended;
  assert.equal(code, 0, stderr);
  const { published, confirmed } = JSON.parse(stdout);
  assert.deepEqual([published, confirmed], [10_000, 10_000]);
  const bodies = await bodiesOf(amqpUrl, stream);
  const firsts = firstArrivals(bodies);
  assert.equal(firsts.length, 10_000);
  assert.deepEqual(outOfOrder(firsts), []);
});

async function readyTotal(amqpUrl: string, stream: string): Promise<number> {
  const counts = await Promise.all(['000', '001'].map((shard) => readyCount(amqpUrl, `${stream}.shard.${shard}`)));
  return counts.reduce((sum, count) => sum + count, 0);
}

test('a bad line is reported with its number, the others are published, and it ends with 1', async (t) => {
  const { amqpUrl, stream, variables } = await useTopology(t, 'publish-bad');
  const good = ndjson(1, 2).trim().split('\n');
  const { code, stdout, stderr } = await runCommand(['publish', '-'], variables, [good[0], '{"oops', good[1]].join('\n'));
  assert.deepEqual([code, stdout], [1, '2 events: 2 published, 2 confirmed, 0 returned, 1 failed\n']);
  assert.match(stderr, /^inorder: standard input, line 2: malformed: [^\n]*\n$/);
  assert.equal((await bodiesOf(amqpUrl, stream)).length, 2);
});

test('what a worker is sure to dead-letter is refused line by line, and nothing of it is confirmed', async (t) => {
  const { amqpUrl, stream, variables } = await useTopology(t, 'publish-refused');
  const refused = async (text: string, ...options: string[]) => {
    const { code, stdout, stderr } = await runCommand(['publish', '-', ...options], variables, text);
    assert.equal(code, 1, stderr);
    assert.match(stdout, /^0 events: 0 published, 0 confirmed, 0 returned, [1-9] failed\n$/);
    return stderr.split('\n').slice(0, -1);
  };
  const foreign = [1, 2, 3].map((n) => JSON.stringify({ eventId: `e${n}`, aggregateId: '7', type: 'A', data: { n } })).join('\n');
  const problems = await refused(foreign);
  assert.equal(problems.length, 3);
  for (const [index, problem] of problems.entries())
    assert.match(
      problem,
      new RegExp(
        `^inorder: standard input, line ${index + 1}: invalid_entity: entity_id is missing; is entity_id "aggregateId"\\? Then --map entity_id=aggregateId,id=eventId; `,
      ),
    );
  assert.match(
    (await refused('{"specversion":"1.0","id":"a","source":"/x","type":"A","data":{}}', '--format=cloudevents')).join(),
    /line 1: invalid_entity: subject is missing/,
  );
  assert.deepEqual(await bodiesOf(amqpUrl, stream), []);
  const mapped = await runCommand(['publish', '--map', 'entity_id=aggregateId,id=eventId'], variables, foreign);
  assert.deepEqual([mapped.code, mapped.stderr], [0, '']);
  assert.deepEqual(
    (await bodiesOf(amqpUrl, stream)).map(({ entity_id, sequence, data }) => [entity_id, sequence, data.n]),
    [
      ['7', 1, 1],
      ['7', 2, 2],
      ['7', 3, 3],
    ],
  );
  const many = await runCommand(['publish'], variables, Array.from({ length: 500 }, () => '{"kind":"A"}').join('\n'));
  assert.deepEqual([many.code, many.stdout], [1, '']);
  assert.match(
    many.stderr,
    /^inorder: nothing was done, for the first 20 are all refused for one cause; line 1: malformed: type is missing; [^\n]*\n$/,
  );
});

test('events without a sequence or an entity are sent as they are where that is asked for', async (t) => {
  const { amqpUrl, stream, variables } = await useTopology(t, 'publish-unsequenced');
  const text = '{"entity_id":"a","type":"t"}\n{"type":"u"}\n';
  const asked = await runCommand(['publish', '--unsequenced'], variables, text);
  assert.deepEqual([asked.code, asked.stderr], [0, '']);
  assert.deepEqual((await bodiesOf(amqpUrl, stream)).map(({ type, sequence }) => [type, sequence]).sort(), [
    ['t', undefined],
    ['u', undefined],
  ]);
  // A stream that takes them: those of an entity are numbered all the same.
  const process = await runCommand(['publish'], { ...variables, UNSEQUENCED: 'process' }, text);
  assert.deepEqual([process.code, process.stderr], [0, '']);
  assert.deepEqual((await bodiesOf(amqpUrl, stream)).map(({ type, sequence }) => [type, sequence]).sort(), [
    ['t', 1],
    ['u', undefined],
  ]);
  const reject = await runCommand(['publish'], variables, text);
  assert.deepEqual([reject.code, reject.stdout], [1, '1 event: 1 published, 1 confirmed, 0 returned, 1 failed\n']);
  await bodiesOf(amqpUrl, stream);
});

test('what is wrong before anything is sent ends with 2 and one line each', async (t) => {
  const { amqpUrl, stream, variables } = await useTopology(t, 'publish-usage');
  const csv = await useFile(t, 'cases.csv', 'Case,Step\na,b\n');
  const empty = await useFile(t, 'empty.ndjson', '\n\n');
  const cases: readonly (readonly [words: readonly string[], stderr: string])[] = [
    [['/no/such/file.csv'], '/no/such/file.csv: there is no such file'],
    [[tmpdir(), '--format', 'ndjson'], `${tmpdir()} is a directory, not a file`],
    [[empty], `${empty}: there are no events in it`],
    [[csv, '--map', 'entity_id=CaseID,type=Step'], `${csv}: --map entity_id=CaseID: there is no such column; there are "Case", "Step"`],
    [[csv, '--duplicate', '2'], '--duplicate is "2": it must be a number from 0 to 1, such as 0.05'],
  ];
  for (const [words, expected] of cases) {
    const { code, stdout, stderr } = await runCommand(['publish', ...words], variables);
    assert.deepEqual({ code, stdout, stderr }, { code: 2, stdout: '', stderr: `inorder: ${expected}\n` });
  }
  assert.deepEqual(await bodiesOf(amqpUrl, stream), []);
});

test('a stream without topology ends with the remedy, and a broker that is away with 1', async (t) => {
  const { amqpUrl } = await useServices(t);
  const stream = uniqueStream('publish-missing');
  const missing = await runCommand(['publish'], { AMQP_URL: amqpUrl, STREAM: stream }, ndjson(1, 1));
  assert.deepEqual([missing.code, missing.stdout], [2, '']);
  assert.equal(missing.stderr, `inorder: there is no exchange ${stream} at the broker: run \`inorder topology apply\`\n`);
  const away = await runCommand(['publish'], { AMQP_URL: 'amqp://user:secret@127.0.0.1:1' }, ndjson(1, 1));
  assert.equal(away.code, 1);
  assert.match(away.stderr, /^inorder: the broker at [^\n]* cannot be reached[^\n]*\n$/);
  assert.doesNotMatch(away.stderr, /secret/);
});

test('SIGINT ends the reading, waits for what was read and says how far it came', async (t) => {
  const { amqpUrl, stream, variables } = await useTopology(t, 'publish-sigint');
  const { process: child, ended } = await startCommand(['publish', '--shuffle', '1000', '--seed', '1'], variables);
  // Half a line is no line yet.
  child.stdin.write(`${ndjson(1, 1_200)}{"entity_id":"half`);
  await waitFor(async () => (await readyTotal(amqpUrl, stream)) > 100, { what: 'the first events', timeoutMs: 30_000 });
  child.kill('SIGINT');
  const { code, stdout, stderr } = await ended;
  assert.equal(stderr, '');
  assert.equal(code, 1);
  const report = /^([\d,]+) events: \1 published, \1 confirmed, 0 returned, 0 failed; interrupted after line \1\n$/.exec(stdout);
  assert.ok(report, stdout);
  assert.equal((await bodiesOf(amqpUrl, stream)).length, Number(report[1]!.replace(',', '')));
});

test('SIGINT before the first line is an interruption, and not an empty input', async (t) => {
  const { variables } = await useTopology(t, 'publish-early-sigint');
  const { process: child, ended } = await startCommand(['publish', '--json'], variables);
  // Half a line is no line yet; when the command has taken it in, it has taken over its signals.
  child.stdin.write('{"entity_id":"half'.padEnd(1_048_576));
  await waitFor(() => child.stdin.writableLength === 0, { what: 'the command to read its input', timeoutMs: 30_000 });
  child.kill('SIGINT');
  const { code, stdout, stderr } = await ended;
  assert.deepEqual([code, stdout, stderr], [1, '', 'inorder: interrupted before the first event\n']);
});

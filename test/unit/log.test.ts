import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { createLog } from '../../src/observability/log.ts';
import { redactUrls } from '../../src/printable.ts';
import { moduleUrl } from '../support/checkout.ts';

const logModule = moduleUrl('src/observability/log.ts').href;

function collect(level: 'debug' | 'info') {
  const lines: string[] = [];
  const log = createLog({ level, service: 'orders', writeLine: (line) => lines.push(line) });
  return { log, lines };
}

test('a line is one JSON object with level, time, service, message and its fields', () => {
  const { log, lines } = collect('info');
  log.warn({ shard: 3 }, 'two\nlines');
  assert.match(lines.join(''), /^[^\n]+\n$/);
  const { time, ...line } = JSON.parse(lines[0]!);
  assert.deepEqual(line, { level: 'warn', service: 'orders', shard: 3, message: 'two\nlines' });
  assert.ok(!Number.isNaN(Date.parse(time)));
});

test('what is below the level is not written', () => {
  const { log, lines } = collect('info');
  log.debug({}, 'detail');
  log.info({}, 'news');
  assert.equal(lines.length, 1);
});

test('no credentials of a URL appear, in messages, fields, nested fields or errors', () => {
  const { log, lines } = collect('debug');
  const url = 'amqp://user:hush@host/v';
  const error = new Error(`cannot reach ${url}`, { cause: new Error('rediss://:hush@cache:6380') });
  log.error({ url, nested: { urls: [url, 'redis+sentinel://:hush@a:1,b:2/main'] }, error }, `lost ${url}`);
  assert.ok(!lines.join().includes('hush'), lines.join());
  assert.ok(lines.join().includes('amqp://***@host/v'));
});

test('no secret of what was thrown appears, of its causes and stacks neither, and what is written is bounded', () => {
  const words = `password=hush Authorization: Bearer hush.hush {"client_secret":"hush"} ${'x'.repeat(1_000_000)}`;
  for (const error of [new Error(words, { cause: new Error(words) }), new AggregateError([new Error(words)], words), words]) {
    const { log, lines } = collect('debug');
    log.error({ error }, 'failed');
    assert.match(JSON.parse(lines[0]!).error.message, /^password=\*\*\* Authorization: \*\*\*/);
    assert.ok(!lines.join().includes('hush') && lines.join().length < 12_000);
  }
});

test('redaction takes passwords with an @ and leaves addresses and URLs without credentials alone', () => {
  assert.equal(redactUrls('amqp://u:a@b@host:5672/x, http://h/p'), 'amqp://***@host:5672/x, http://h/p');
  assert.equal(redactUrls('write to me@example.org'), 'write to me@example.org');
});

test('an error is written as code, message and causes; its other fields are not, and its stack only for debug', () => {
  const error = Object.assign(new Error('refused', { cause: new Error('closed') }), {
    code: 'ECONN',
    command: { args: ['hush'] },
  });
  for (const level of ['info', 'debug'] as const) {
    const { log, lines } = collect(level);
    log.error({ error }, 'it failed');
    const written = JSON.parse(lines[0]!).error;
    assert.deepEqual([written.code, written.message, written.cause.message], ['ECONN', 'refused', 'closed']);
    assert.equal('stack' in written, level === 'debug');
    assert.ok(!lines.join().includes('hush'));
  }
});

test('what was thrown and cannot be turned into text is logged as that', () => {
  const { log, lines } = collect('info');
  log.error({ error: Object.create(null) }, 'failed');
  log.error({ error: new Error('outer', { cause: Object.create(null) }) }, 'failed');
  const unprintable = { message: 'something that cannot be printed' };
  assert.deepEqual(
    lines.map((line) => JSON.parse(line).error),
    [unprintable, { message: 'outer', cause: unprintable }],
  );
});

test('a chain of causes that closes in a circle is cut', () => {
  const { log, lines } = collect('info');
  const error = new Error('round');
  error.cause = error;
  log.error({ error }, 'and round');
  assert.equal(lines.length, 1);
});

/** A program that logs, then shows on standard error that it still runs. */
function loggingProgram(t: TestContext, body: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'inorder-log-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'program.mts');
  writeFileSync(
    path,
    `import { createLog } from ${JSON.stringify(logModule)};\nconst log = createLog({ level: 'info', service: 's' });\n${body}`,
  );
  return path;
}

test('a log on a full disk does not stop the process', { skip: !existsSync('/dev/full') && 'there is no /dev/full here' }, (t) => {
  const path = loggingProgram(t, `for (let n = 0; n < 1000; n++) log.info({ n }, 'x'.repeat(1000));\nconsole.error('alive');`);
  const full = openSync('/dev/full', 'w');
  t.after(() => closeSync(full));
  const { status, stderr } = spawnSync(process.execPath, ['--import', 'tsx', path], {
    stdio: ['ignore', full, 'pipe'],
    encoding: 'utf8',
    timeout: 600_000,
  });
  assert.equal(status, 0, stderr);
  assert.match(stderr, /alive/);
});

test('a log whose reader has gone does not stop the process', async (t) => {
  const path = loggingProgram(
    t,
    `process.stdin.once('data', () => {\n  for (let n = 0; n < 1000; n++) log.info({ n }, 'x'.repeat(1000));\n  console.error('alive');\n  process.stdin.destroy();\n});`,
  );
  const child = spawn(process.execPath, ['--import', 'tsx', path], { stdio: 'pipe' });
  let stderr = '';
  child.stderr.on('data', (chunk) => (stderr += chunk));
  child.stdout.destroy();
  await new Promise((resolve) => child.stdout.once('close', resolve));
  child.stdin.on('error', () => undefined);
  child.stdin.write('go\n');
  const code = await new Promise((resolve) => child.once('exit', resolve));
  assert.equal(code, 0, stderr);
  assert.match(stderr, /alive/);
});

test('the last line before an exit is not lost', (t) => {
  const path = loggingProgram(t, `log.error({}, 'the end');\nprocess.exit(3);`);
  const out = join(path, '..', 'out.log');
  const fd = openSync(out, 'w');
  const { status } = spawnSync(process.execPath, ['--import', 'tsx', path], {
    stdio: ['ignore', fd, 'inherit'],
    timeout: 600_000,
  });
  closeSync(fd);
  assert.equal(status, 3);
  assert.match(readFileSync(out, 'utf8'), /"message":"the end"/);
});

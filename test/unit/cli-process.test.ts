import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { checkout, commandLine } from '../support/checkout.ts';
import { waitFor } from '../support/services.ts';

function inorder(...words: string[]) {
  return spawnSync(process.execPath, [...commandLine, ...words], { cwd: checkout, encoding: 'utf8', timeout: 600_000 });
}

test('the process prints the version of the package and exits 0', () => {
  const { version } = JSON.parse(readFileSync(`${checkout}package.json`, 'utf8'));
  const { status, stdout, stderr } = inorder('--version');
  assert.deepEqual([status, stdout, stderr], [0, `${version}\n`, '']);
});

test('bad usage exits 2 with one line on standard error', () => {
  const { status, stdout, stderr } = inorder('frobnicate');
  assert.equal(status, 2);
  assert.equal(stdout, '');
  assert.match(stderr, /^inorder: [^\n]+\n$/);
});

test('a reader that closes the pipe ends the command quietly', async () => {
  const child = spawn(process.execPath, [...commandLine, '--help'], { cwd: checkout, stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.destroy();
  let stderr = '';
  child.stderr.on('data', (chunk) => (stderr += chunk));
  const code = await new Promise((resolve) => child.once('exit', resolve));
  assert.equal(code, 0);
  assert.equal(stderr, '');
});

test('what a full disk does not take fails the command, also in the middle of a text', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'inorder-full-'));
  t.after(() => rmSync(folder, { recursive: true }));
  // Like a disk with room for 2 KiB: of a longer text the beginning is taken.
  const shell = 'ulimit -f 4; exec "$@" > "$0"';
  const file = join(folder, 'out');
  const command = [process.execPath, ...commandLine, '--help'];
  const { status, stderr } = spawnSync('sh', ['-c', shell, file, ...command], { cwd: checkout, encoding: 'utf8', timeout: 600_000 });
  assert.equal(status, 1);
  assert.match(stderr, /^inorder: not everything could be written to standard output: EFBIG[^\n]+\n$/);
  assert.equal(readFileSync(file).length, 2_048);
});

test('a command without anything to finish ends at the first signal', async (t) => {
  // It accepts connections and never answers: the command waits for the store.
  const silent = createServer((socket) => socket.resume()).listen(0, '127.0.0.1');
  t.after(() => silent.close());
  await new Promise((resolve) => silent.once('listening', resolve));
  const connected = new Promise((resolve) => silent.once('connection', resolve));
  const { port } = silent.address() as AddressInfo;
  const child = spawn(process.execPath, [...commandLine, 'entity', 'list'], {
    cwd: checkout,
    env: { ...process.env, REDIS_URL: `redis://127.0.0.1:${port}` },
    stdio: 'ignore',
  });
  const ended = new Promise((resolve) => child.once('exit', (_code, signal) => resolve(signal)));
  await connected;
  child.kill('SIGTERM');
  assert.equal(await ended, 'SIGTERM');
});

/** A program on the real process's io. */
function onProcessIo(t: TestContext, body: string) {
  const program = `import { processIo } from ${JSON.stringify(`${checkout}src/cli/process-io.ts`)};\nconst io = processIo();\n${body}`;
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
    cwd: checkout,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const exit = new Promise<number | null>((resolve) => child.once('exit', resolve));
  const heard: string[] = [];
  child.stdout.on('data', (chunk) => heard.push(...String(chunk).trim().split('\n')));
  const hear = (line: string) => waitFor(() => heard.includes(line), { what: line });
  return { child, exit, heard, hear };
}

test('once signals are taken, the first one asks to stop and the second ends the process with 1', async (t) => {
  const { child, exit, hear } = onProcessIo(
    t,
    `io.takeSignals().addEventListener('abort', () => io.logLine('asked\\n'));\nsetInterval(() => {}, 1000);\nio.logLine('ready\\n');`,
  );
  await hear('ready');
  child.kill('SIGTERM');
  await hear('asked');
  child.kill('SIGINT');
  assert.equal(await exit, 1);
});

test('an error that nobody caught is reported, and the process ends with 1', async (t) => {
  const { exit, heard } = onProcessIo(
    t,
    `io.onCrash((error) => io.logLine(\`reported \${error.message}\\n\`));\nsetInterval(() => {}, 1000);\nPromise.reject(new Error('lost'));`,
  );
  assert.equal(await exit, 1);
  assert.deepEqual(heard, ['reported lost']);
});

test('a report of an uncaught error that fails itself ends the process all the same', async (t) => {
  const { exit } = onProcessIo(
    t,
    `io.onCrash(async () => { throw new Error('no report'); });\nsetInterval(() => {}, 1000);\nPromise.reject(new Error('lost'));`,
  );
  assert.equal(await exit, 1);
});

test('an error that nobody caught in a module of an operator is printed as any other: on one line, without secrets', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'inorder-module-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'processor.mjs');
  writeFileSync(
    path,
    "setImmediate(() => { throw new Error('password=hunter2\\nlost'); }); await new Promise((resolve) => setTimeout(resolve, 60_000));",
  );
  const env = { ...process.env, PROCESSOR: path };
  const { status, stderr } = spawnSync(process.execPath, [...commandLine, 'worker'], { cwd: checkout, encoding: 'utf8', env });
  assert.deepEqual([status, stderr], [1, 'inorder: unexpected error: password=***; lost (LOG_LEVEL=debug prints where)\n']);
});

test('SIGUSR2 makes the log tell everything, and again only what was asked for', async (t) => {
  const { child, exit, heard, hear } = onProcessIo(
    t,
    `const { processLog } = await import(${JSON.stringify(`${checkout}src/cli/access.ts`)});
     const log = processLog({ logLevel: 'warn', serviceName: 'orders' }, io);
     io.takeSignals().addEventListener('abort', () => process.exit(0));
     let shown = 0;
     setInterval(() => { log.debug({}, 'detail'); io.logLine(shown++ + '\\n'); }, 20);
     io.logLine('ready\\n');`,
  );
  const messages = () => heard.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  const change = async (level: string) => {
    child.kill('SIGUSR2');
    await waitFor(() => messages().some((line) => line.message === 'the log level is changed' && line.log_level === level), {
      what: `level ${level}`,
    });
  };
  await hear('5');
  assert.deepEqual(messages(), [], 'a warning log tells no details');
  await change('debug');
  await waitFor(() => messages().some(({ message }) => message === 'detail'), { what: 'details' });
  await change('warn');
  const told = messages().length;
  const turn = Number(heard.filter((line) => /^\d+$/.test(line)).at(-1));
  await hear(String(turn + 5));
  assert.ok(messages().length <= told + 1, 'quiet again');
  child.kill('SIGTERM');
  assert.equal(await exit, 0);
});

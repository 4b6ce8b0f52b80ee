import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { Writable } from 'node:stream';
import test from 'node:test';
import { defineCommand, type Command } from '../../src/cli/command.ts';
import { command as doctor } from '../../src/cli/doctor.ts';
import { outputTo } from '../../src/cli/process-io.ts';
import { runCli } from '../../src/cli/run.ts';
import { worker } from '../../src/cli/worker.ts';
import { ConfigError, UnavailableError } from '../../src/errors.ts';
import type { Finding } from '../../src/finding.ts';
import { keptIo } from '../support/command-io.ts';

const seen: unknown[] = [];

const command = (name: string, run: Command['run'] = async () => 0): Command =>
  defineCommand({
    name,
    summary: `Does ${name}.`,
    description: `What ${name} does, at length.`,
    positionals: ['ID', '[FILE|-]'],
    options: {
      type: { kind: 'value', placeholder: 'T', meaning: 'Type of it.' },
      json: { kind: 'flag', meaning: 'As JSON.' },
    },
    variables: ['SHARDS'],
    run,
  });

const commands: readonly Command[] = [
  command('entity show', async (args) => {
    seen.push(args);
    return 0;
  }),
  command('dead-letters list'),
  { ...command('status'), positionals: [] },
  {
    ...command('misconfigured', async () => {
      throw new ConfigError(['SHARDS is "x": it must be a number', 'PREFETCH is "y": so must it']);
    }),
    positionals: [],
  },
  {
    ...command('away', async () => {
      throw new UnavailableError('no answer from amqp://u:hush@h\nfor 5 s', {
        cause: new Error('ECONN to redis://:hush@r'),
      });
    }),
    positionals: [],
  },
  {
    ...command('broken', async () => {
      throw new TypeError('x is not a function');
    }),
    positionals: [],
  },
];

async function run(words: string, env: Record<string, string> = {}) {
  const { io, out } = keptIo({ env });
  const code = await runCli({ commands, version: '1.2.3' }, words === '' ? [] : words.split(' '), io);
  return { code, stdout: out.stdout, stderr: out.stderr };
}

test('a command gets its arguments by name and type, wherever they stand', async () => {
  const { code } = await run('entity show --json 42 --type=ticket -');
  assert.equal(code, 0);
  assert.deepEqual(seen.pop(), { positionals: ['42', '-'], options: { type: 'ticket', json: true } });
  await run('entity show 42');
  assert.deepEqual(seen.pop(), { positionals: ['42'], options: { type: null, json: false } });
  await run('entity show -- --json');
  assert.deepEqual(seen.pop(), { positionals: ['--json'], options: { type: null, json: false } });
});

const usageErrors: readonly (readonly [words: string, line: RegExp])[] = [
  ['entty show 1', /unknown command "entty": did you mean `entity`\?/],
  ['frobnicate', /unknown command "frobnicate" \(see `inorder --help`\)/],
  ['--json', /unknown command "--json"/],
  ['entity', /`entity` needs one of show/],
  ['entity drop', /unknown command "entity drop": there are show/],
  ['entity show', /ID is missing/],
  ['entity show 1 2 3', /unexpected argument "3"/],
  ['entity show 1 --jsno', /unknown option --jsno: did you mean --json\?/],
  ['entity show 1 -x', /unknown option -x/],
  ['entity show 1 --json=yes', /--json takes no value/],
  ['entity show 1 --type', /--type needs a value: --type=T/],
  ['entity show 1 --type --json', /--type needs a value/],
  ['entity show 1 --constructor', /unknown option --constructor/],
];

for (const [words, line] of usageErrors) {
  test(`\`inorder ${words}\` is bad usage, said in one line`, async () => {
    const { code, stdout, stderr } = await run(words);
    assert.equal(code, 2);
    assert.equal(stdout, '');
    assert.match(stderr, /^inorder: [^\n]+\n$/);
    assert.match(stderr, line);
  });
}

test('without a command the list of commands goes to standard error, with --help to standard output', async () => {
  const bare = await run('');
  assert.deepEqual([bare.code, bare.stdout], [2, '']);
  for (const words of ['--help', '-h', 'help']) {
    const help = await run(words);
    assert.deepEqual([help.code, help.stderr], [0, '']);
    assert.equal(help.stdout, bare.stderr);
    for (const { name, summary } of commands) assert.match(help.stdout, new RegExp(`^  ${name} .*${summary}$`, 'm'));
  }
});

test("a command's help says its usage, options and variables, and does not run it", async () => {
  for (const words of ['entity show --help', 'entity show --help --nonsense', 'help entity show', 'entity show 1 -h']) {
    const { code, stdout } = await run(words);
    assert.equal(code, 0, words);
    assert.match(stdout, /^Usage: inorder entity show ID \[FILE\|-\] \[OPTIONS\]$/m);
    assert.match(stdout, /^  --type T  Type of it\.$/m);
    assert.match(stdout, /^  SHARDS  Number of shard queues/m);
    assert.equal(seen.length, 0);
  }
  for (const words of ['entity --help', 'help entity', '--help entity']) {
    const { code, stdout } = await run(words);
    assert.equal(code, 0, words);
    assert.match(stdout, /^  entity show ID/m);
  }
});

test('dlq is short for dead-letters', async () => {
  assert.equal((await run('dlq list 1')).code, 0);
  assert.match((await run('dlq list --help')).stdout, /^Usage: inorder dead-letters list/m);
});

test('--version prints the version', async () => {
  assert.deepEqual(await run('--version'), { code: 0, stdout: '1.2.3\n', stderr: '' });
});

test('each problem of a configuration is a line, and the exit code is 2', async () => {
  const { code, stderr } = await run('misconfigured');
  assert.equal(code, 2);
  assert.equal(stderr, 'inorder: SHARDS is "x": it must be a number\ninorder: PREFETCH is "y": so must it\n');
});

test('a failure is one line without credentials and without a stack, and the exit code is 1', async () => {
  const { code, stderr } = await run('away');
  assert.equal(code, 1);
  assert.equal(stderr, 'inorder: no answer from amqp://***@h; for 5 s\n');
});

test('a bug says that it is unexpected; LOG_LEVEL=debug shows where and why, without credentials', async () => {
  const broken = await run('broken');
  assert.equal(broken.code, 1);
  assert.match(broken.stderr, /^inorder: unexpected error: x is not a function \(LOG_LEVEL=debug prints where\)\n$/);
  const away = await run('away', { LOG_LEVEL: 'debug' });
  assert.match(away.stderr, /at .*cli\.test\.ts/);
  assert.match(away.stderr, /caused by Error: ECONN/);
  assert.ok(!away.stderr.includes('hush'));
});

test('nothing that a message quotes can steer the terminal, and what cannot be printed is told as that', async () => {
  const throwing = (thrown: unknown) => {
    const { io, out } = keptIo();
    const bad = { ...command('bad', () => Promise.reject(thrown)), positionals: [] };
    return runCli({ commands: [bad], version: '0' }, ['bad'], io).then((code) => [code, out.stderr]);
  };
  assert.deepEqual(await throwing(new UnavailableError('no \u001b[31mqueue\u202e')), [1, 'inorder: no \\x1b[31mqueue\\u{202e}\n']);
  const unexpected = (what: string) => `inorder: unexpected error: ${what} (LOG_LEVEL=debug prints where)\n`;
  assert.deepEqual(await throwing(Object.create(null)), [1, unexpected('something that cannot be printed')]);
  assert.deepEqual(await throwing(new AggregateError([])), [1, unexpected('AggregateError')]);
});

test('secrets of foreign code are in no line of an error and in no stack, and what is printed is bounded', async () => {
  const words = `password=hush and "token":"hush" ${'x'.repeat(1_000_000)}`;
  for (const thrown of [new Error(words, { cause: new Error(words) }), new UnavailableError(words), words]) {
    const { io, out } = keptIo({ env: { LOG_LEVEL: 'debug' } });
    await runCli({ commands: [{ ...command('bad', () => Promise.reject(thrown)), positionals: [] }], version: '0' }, ['bad'], io);
    assert.match(out.stderr, /password=\*\*\*/);
    assert.ok(!out.stderr.includes('hush') && out.stderr.length < 20_000);
  }
});

test('an output whose reader has gone answers false and throws nothing', async () => {
  const broken = new Writable({
    write: (_chunk, _encoding, done) => done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' })),
  });
  const output = outputTo(() => broken);
  assert.equal(await output.write('one\n'), false);
  assert.equal(await output.write('two\n'), false);
  assert.equal(output.trouble, null);
});

test('a command whose output could not be written fails, unless it has failed already', async () => {
  for (const [exitCode, seenAs] of [
    [0, 1],
    [1, 1],
    [2, 2],
  ] as const) {
    const { io, out } = keptIo();
    const full = new Writable({ write: (_chunk, _encoding, done) => done(Object.assign(new Error('no space left'), { code: 'ENOSPC' })) });
    const export_ = { ...command('export', async (_args, { stdout }) => ((await stdout.write('data\n')) ? 0 : exitCode)), positionals: [] };
    assert.equal(await runCli({ commands: [export_], version: '0' }, ['export'], { ...io, stdout: outputTo(() => full) }), seenAs);
    assert.equal(out.stderr, 'inorder: not everything could be written to standard output: no space left\n');
  }
});

test('an output waits until its reader has taken the text', async () => {
  let release = () => {};
  const slow = new Writable({
    write: (_chunk, _encoding, done) => {
      release = done;
    },
  });
  let written: boolean | null = null;
  const writing = outputTo(() => slow)
    .write('one\n')
    .then((still) => (written = still));
  await new Promise(setImmediate);
  assert.equal(written, null);
  release();
  await writing;
  assert.equal(written, true);
});

test('a worker that was asked to stop before it listened for that does not start', async () => {
  // Nothing listens there: a worker that started would wait for its store and its broker for ever.
  const env = { AMQP_URL: 'amqp://127.0.0.1:1', REDIS_URL: 'redis://127.0.0.1:1', HTTP_PORT: '0', LOG_LEVEL: 'error' };
  const { io, out, stop } = keptIo({ env });
  stop();
  assert.equal(await runCli({ commands: [worker], version: '1.2.3' }, ['worker'], io), 0);
  assert.equal(out.stderr, '');
});

test('a worker whose port is in use says so and leaves no connection open', async (t) => {
  const sockets = new Set<Socket>();
  const silent = createServer((socket) => {
    sockets.add(socket.on('error', () => undefined));
    socket.resume();
  });
  await once(silent.listen(0, '127.0.0.1'), 'listening');
  t.after(() => silent.close());
  const { port } = silent.address() as AddressInfo;
  const env = { AMQP_URL: 'amqp://127.0.0.1:1', REDIS_URL: `redis://127.0.0.1:${port}`, HTTP_PORT: `${port}`, LOG_LEVEL: 'error' };
  const { io, out } = keptIo({ env: { ...env, EVENT_STORE: 'redis', GAP_REPAIR: 'event-store' } });
  assert.equal(await runCli({ commands: [worker], version: '1.2.3' }, ['worker'], io), 2);
  assert.match(out.stderr, /HTTP_PORT is \d+: another process/);
  for (const socket of sockets) if (!socket.closed) await once(socket, 'close');
});

test('doctor advises to start what does not answer, and nothing that would need it', async () => {
  const env = { AMQP_URL: 'amqp://127.0.0.1:1', REDIS_URL: 'redis://127.0.0.1:1', HTTP_PORT: '0' };
  const { io, out } = keptIo({ env });
  assert.equal(await runCli({ commands: [doctor], version: '0' }, ['doctor', '--json'], io), 1);
  const findings = out.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Finding);
  const remedies = findings.filter(({ level }) => level === 'failure').map(({ subject, remedy }) => `${subject}: ${remedy}`);
  const broker = 'start RabbitMQ, or correct AMQP_URL';
  const store = 'start Redis, or correct REDIS_URL';
  assert.deepEqual(remedies, [`broker: ${broker}`, `topology: ${broker}`, `unrouted: ${broker}`, `store: ${store}`, `shards: ${store}`]);
});

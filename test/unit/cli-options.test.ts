import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import test from 'node:test';
import { commands, runCli } from '../../src/cli/run.ts';
import { filterOf, selectionOptions } from '../../src/cli/dead-letters.ts';
import { systemTime } from '../../src/time.ts';
import { keptIo } from '../support/command-io.ts';

// Nothing listens there: what gets as far as connecting fails with 1 and not with 2.
const env = { AMQP_URL: 'amqp://127.0.0.1:1', REDIS_URL: 'redis://127.0.0.1:1', MAX_STATE_BYTES: '8' };

async function inorder(...words: string[]) {
  const { io, out } = keptIo({ env });
  return { code: await runCli({ commands, version: '0' }, words, io), stderr: out.stderr };
}

const refused: readonly (readonly [words: string, problem: string])[] = [
  ['audit --limit=0', '--limit is "0": it must be a whole number from 1 up'],
  ['audit --limit=99999999999999999999', '--limit is "99999999999999999999": it must be a whole number from 1 up'],
  ['dead-letters list --limit=1e3', '--limit is "1e3": it must be a whole number from 1 up'],
  ['dead-letters list --group-by=x', '--group-by is "x": it must be one of `reason`, `type`, `entity`, `shard`, `detail`'],
  // Beyond 24 days between two letters a timer would not wait at all.
  ['dead-letters replay --all --rate=1e-9', '--rate is "1e-9": it must be a number of messages per second, from 0.01 to 1,000,000'],
  ['demo --orders=19', '--orders is "19": it must be a whole number from 20 to 100,000'],
  ['entity resync x --reason=y', '--version is missing: it must be a whole number from 0 up'],
  ['entity resync x --reason=y --version=1.5', '--version is "1.5": it must be a whole number from 0 up'],
];

test('a value that an option cannot have is named with what it must be, before anything is connected to', async () => {
  for (const [words, problem] of refused) {
    assert.deepEqual(await inorder(...words.split(' ')), { code: 2, stderr: `inorder: ${problem}\n` }, words);
  }
});

test('--since is a time, in UTC where it names no zone, or a time ago', () => {
  const none = Object.fromEntries(Object.keys(selectionOptions).map((name) => [name, null])) as {
    [Name in keyof typeof selectionOptions]: null;
  };
  const sinceMs = (since: string) => filterOf({ ...none, since }, systemTime).sinceMs;
  assert.equal(sinceMs('2026-01-31T08:00:00+02:00'), Date.UTC(2026, 0, 31, 6));
  const zone = process.env.TZ;
  process.env.TZ = 'America/New_York';
  try {
    assert.equal(sinceMs('2026-01-31T08:00'), Date.UTC(2026, 0, 31, 8));
    assert.equal(sinceMs('2026-01-31'), Date.UTC(2026, 0, 31));
  } finally {
    if (zone === undefined) delete process.env.TZ;
    else process.env.TZ = zone;
  }
  const before = Date.now();
  const since = sinceMs('15m')!;
  assert.ok(since >= before - 900_000 && since <= Date.now() - 900_000, String(before - since));
  for (const wrong of ['2026-13-01', '2026-01-31 (about noon)', '15', 'yesterday']) assert.throws(() => sinceMs(wrong), /--since is /);
});

test('a file that cannot be a state is refused before anything is connected to', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'inorder-state-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'state.json');
  const resync = () => inorder('entity', 'resync', 'x', '--version=1', '--reason=y', `--state=${file}`, '--yes');
  assert.match((await resync()).stderr, /state\.json cannot be read/);
  for (const [content, problem] of [
    [Buffer.from([0x22, 0xe9, 0x22]), /is not valid UTF-8/],
    ['\n', /is empty/],
    ['"123456"x', /is longer than 8 bytes/],
  ] as const) {
    writeFileSync(file, content);
    const { code, stderr } = await resync();
    assert.equal(code, 2);
    assert.match(stderr, problem);
  }
  // The line end of the last line is not part of it.
  writeFileSync(file, '"123456"\r\n');
  assert.equal((await resync()).code, 1);
});

test('at a terminal, a command that reads its input from a pipe asks for a file instead of waiting', async () => {
  for (const words of [['publish'], ['entity', 'import'], ['entity', 'import', '-']]) {
    const { io, out } = keptIo({ env });
    const stdin = Object.assign(new PassThrough(), { isTTY: true });
    assert.equal(await runCli({ commands, version: '0' }, words, { ...io, stdin }), 2);
    assert.equal(out.stderr, 'inorder: FILE is missing, and nothing is piped in\n');
  }
});

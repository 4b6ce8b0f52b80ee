/** The probe that a soak puts into its workers sees what a process keeps. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { moduleUrl } from '../support/checkout.ts';
import type { Holdings } from '../support/process-probe.ts';
import { waitFor } from '../support/services.ts';

/** For each line that it reads it keeps a hundred emitters with two listeners each, and as many timers that hold nothing up. */
const leaking = `
  const { EventEmitter } = require('node:events');
  const kept = [];
  process.stdin.on('data', () => {
    for (let n = 0; n < 100; n++) {
      const emitter = new EventEmitter();
      emitter.on('one', () => undefined).on('one', () => undefined);
      kept.push(emitter, setTimeout(() => undefined, 1e8).unref());
    }
    process.stdout.write('kept');
  });
  process.stdout.write('up');
`;

test('what a process keeps is counted, whoever refers to it', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'probe-'));
  const file = join(directory, 'answers');
  const imports = ['--import', import.meta.resolve('tsx'), '--import', moduleUrl('test/support/process-probe.ts').href];
  const child = spawn(process.execPath, [...imports, '-e', leaking], { env: { ...process.env, PROBE_FILE: file } });
  t.after(() => {
    child.kill('SIGKILL');
    rmSync(directory, { recursive: true });
  });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
  const lines = () => (existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(0, -1) : []);
  const holdings = async (): Promise<Holdings> => {
    const before = lines().length;
    child.kill('SIGWINCH');
    return JSON.parse(await waitFor(() => lines()[before], { what: 'an answer' }));
  };
  await waitFor(() => said === 'up', { what: 'the process' });
  const before = await holdings();
  assert.ok(before.heapBytes > 1_000_000 && before.residentBytes > before.heapBytes && before.descriptors >= 3, JSON.stringify(before));
  child.stdin.write('\n');
  await waitFor(() => said === 'upkept', { what: 'the leak' });
  const after = await holdings();
  // Node and the loader have some of their own, which come and go.
  for (const [what, kept] of [
    ['emitters', 100],
    ['listeners', 200],
    ['timers', 100],
  ] as const)
    assert.ok(Math.abs(after[what] - before[what] - kept) < 50, `${what}: ${JSON.stringify([before, after])}`);
});

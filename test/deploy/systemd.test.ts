/** The unit for systemd: right by systemd itself, and for the worker. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { findExecutable } from '../../deploy/local/rabbit-binaries.ts';
import { loadConfig } from '../../src/config/load.ts';
import { isVariableName } from '../../src/config/variables.ts';
import { checkout } from '../support/checkout.ts';

const unit = `${checkout}deploy/systemd/inorder-worker@.service`;
const text = readFileSync(unit, 'utf8');
const analyze = findExecutable('systemd-analyze');
const skip = analyze === null && 'there is no systemd-analyze';

test('systemd has nothing to complain of', { skip }, () => {
  const { status, stdout, stderr } = spawnSync(analyze!, ['verify', unit], { encoding: 'utf8' });
  assert.deepEqual([status, stdout, stderr], [0, '', '']);
});

test('systemd finds it hardened', { skip }, () => {
  const { status, stdout } = spawnSync(analyze!, ['security', '--offline=true', '--threshold=20', unit], { encoding: 'utf8' });
  assert.equal(status, 0, stdout);
});

test('an instance is a worker for the shard of its name', () => {
  const assignments = [...text.matchAll(/^Environment=(.+)$/gm)].flatMap(([, line = '']) => line.split(' '));
  const env = Object.fromEntries(assignments.map((assignment) => assignment.replaceAll('%i', '3').split('=') as [string, string]));
  assert.deepEqual(
    Object.keys(env).filter((name) => name !== 'NODE_ENV' && !isVariableName(name.replace(/_FILE$/, ''))),
    [],
  );
  const { WORKER_SHARDS, HTTP_PORT } = env;
  const { broker, http, shutdownTimeoutMs } = loadConfig({ WORKER_SHARDS, HTTP_PORT });
  assert.deepEqual([broker.workerShards, http.port], [[3], 9463]);
  assert.ok(Number(/^TimeoutStopSec=(\d+)$/m.exec(text)?.[1]) * 1_000 > shutdownTimeoutMs);
  assert.match(text, /^RestartPreventExitStatus=2$/m);
});

import assert from 'node:assert/strict';
import test from 'node:test';
import { versionFinding } from '../../src/rabbitmq/topology-check.ts';

test('versions that are too old or not known are said to be so', () => {
  const levels = ['3.9.13', '3.10.0', '3.13.7', '4.0.5', '4.3.0', '5.0.0', 'of an unknown version'].map(
    (version) => versionFinding(version).level,
  );
  assert.deepEqual(levels, ['failure', 'ok', 'ok', 'ok', 'ok', 'warning', 'warning']);
});

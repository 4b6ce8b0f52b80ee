/** What goes to the store together where the memory for states is short. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OperationEffect } from '../../src/ordering/facts.ts';
import { nextBatch } from '../../src/worker/store-batch.ts';

const entity = { entityType: 'order', entityId: 'a' };
const load = (op: number): OperationEffect => ({ kind: 'load', op, entity });
const commit = (op: number): OperationEffect => ({
  kind: 'commit',
  op,
  entity,
  expectedVersion: 0,
  expectedHoles: '',
  slots: [],
  adopts: false,
});
const reject = (op: number): OperationEffect => ({ kind: 'reject', op, rejections: [] });
const ops = (operations: readonly OperationEffect[]) => operations.map(({ op }) => op);

test('what reads is not kept waiting by commits that come without end, and rejections wait for neither', () => {
  let gathered: OperationEffect[] = [load(1), commit(2), commit(3), reject(4)];
  const { now, later } = nextBatch(gathered, 16, 1);
  assert.deepEqual([ops(now), ops(later)], [[4, 1, 2], [3]]);
  gathered = [...later, load(5), commit(6), commit(7)];
  const next = nextBatch(gathered, 16, 1);
  assert.deepEqual(
    [ops(next.now), ops(next.later)],
    [
      [3, 5],
      [6, 7],
    ],
  );
});

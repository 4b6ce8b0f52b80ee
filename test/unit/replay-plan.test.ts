/** Which letters of an entity a replay takes, and from which sequence it counts. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { isReady, type LetterSummary, planEntity } from '../../src/dead-letters/replay-plan.ts';
import type { Snapshot } from '../../src/ordering/entity.ts';

const entity = { entityType: 'thing', entityId: 'a' };
const letter = (sequence: number): LetterSummary => ({
  messageId: '',
  fingerprint: String(sequence),
  ...entity,
  sequence,
  reason: 'entity_parked',
});

function plan(
  firstSequence: 1 | 'any',
  { version = 0, parkedAt, matched }: { version?: number; parkedAt: number | null; matched: readonly number[] },
) {
  const parked =
    parkedAt === null ? null : ({ reason: 'handler_failed', sequence: parkedAt, detail: '', at: '', replaying: false } as const);
  const snapshot: Snapshot = { exists: parked !== null || version > 0, version, state: null, holes: '', parked };
  const { letters, blocked } = planEntity({ entity, matched: matched.map(letter), others: [], unread: [] }, snapshot, firstSequence);
  return { goes: letters.map(({ sequence }) => sequence), waitsFor: blocked?.missing ?? null };
}

test('a base line that was dead-lettered goes, and its followers behind it, where a running stream was adopted', () => {
  assert.deepEqual(plan('any', { parkedAt: 57, matched: [59, 57, 58] }), { goes: [57, 58, 59], waitsFor: null });
  assert.deepEqual(plan('any', { parkedAt: 57, matched: [57, 59] }), { goes: [57], waitsFor: 58 });
});

test('the followers of a base line that was dead-lettered do not take its place', () => {
  assert.deepEqual(plan('any', { parkedAt: 57, matched: [58, 59] }), { goes: [], waitsFor: 57 });
});

test('an entity that is not parked is adopted with its first letter; one that has a version goes on from that', () => {
  assert.deepEqual(plan('any', { parkedAt: null, matched: [58, 59] }), { goes: [58, 59], waitsFor: null });
  assert.deepEqual(plan('any', { version: 3, parkedAt: 5, matched: [5] }), { goes: [], waitsFor: 4 });
});

test('where entities begin with 1, what was parked for a later sequence waits for 1', () => {
  assert.deepEqual(plan(1, { parkedAt: 57, matched: [57, 58] }), { goes: [], waitsFor: 1 });
});

test('an entity is ready when its next letter only lacked its predecessor, and not when that failed by itself', () => {
  const snapshot = { exists: true, version: 3, state: null, holes: '', parked: null };
  const readyWith = (...matched: LetterSummary[]) => isReady(planEntity({ entity, matched, others: [], unread: [] }, snapshot, 1));
  const failed: LetterSummary = { ...letter(4), reason: 'handler_failed' };
  assert.equal(readyWith(letter(4), letter(5)), true);
  assert.equal(readyWith(failed, letter(5)), false);
  assert.equal(readyWith({ ...failed, sequence: 3 }, letter(4)), true, 'what the version has passed does not count');
  assert.equal(readyWith(letter(3)), false);
  assert.equal(readyWith(letter(5)), false, 'its predecessor is missing');
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Parked } from '../../src/ordering/entity.ts';
import { type Known, Lane, type LaneState, learned, type News } from '../../src/ordering/lane.ts';

const entity = { entityType: 'order', entityId: 'A' };
const parked: Parked = { reason: 'gap_timeout', detail: 'waited', sequence: 7, at: '2026-01-01T00:00:00Z', replaying: false };
const replaying: Parked = { ...parked, replaying: true };
const states: readonly LaneState[] = ['unknown', 'open', 'parked', 'parked-before', 'replaying', 'doubtful'];

function knownAs(state: LaneState): Known {
  return state === 'unknown' ? new Lane(entity, null).known : { ...new Lane(entity, 5).known, state, replaying: state === 'replaying' };
}

function stored(kind: 'read' | 'committed', now: Parked | null, version = 5): News {
  return { kind, version, holes: '', parked: now, atMs: 1_000 };
}

// The drawing in the header of lane.ts, from each state.
const transitions: readonly (readonly [what: string, news: News, next: (before: LaneState) => LaneState])[] = [
  ['a reading of an entity that is not parked', stored('read', null), () => 'open'],
  ['a reading of a parked one', stored('read', parked), () => 'parked'],
  ['a reading of one that is replayed', stored('read', replaying), () => 'replaying'],
  ['a commit', stored('committed', null, 6), (before) => (before === 'doubtful' ? before : 'open')],
  ['a commit that leaves it parked', stored('committed', parked, 6), (before) => (before === 'doubtful' ? before : 'parked')],
  ['a commit in a replay', stored('committed', replaying, 6), (before) => (before === 'doubtful' ? before : 'replaying')],
  ['its own parking', { kind: 'parked' }, (before) => (before === 'doubtful' ? before : 'parked')],
  ['a contradiction', { kind: 'contradicted' }, () => 'doubtful'],
  ['a wait, for an answer or a delivery', { kind: 'aged' }, (before) => (before === 'parked' ? 'parked-before' : before)],
  ['an arrival', { kind: 'seen', sequence: 9 }, (before) => before],
];

for (const [what, news, next] of transitions) {
  test(`what is known of an entity after ${what}`, () => {
    for (const state of states) assert.equal(learned(knownAs(state), news).state, next(state), `from ${state}`);
  });
}

test('what is held waits from the last move of a replay, or from its end', () => {
  const from = (state: LaneState, news: News) => learned({ ...knownAs(state), heldFromMs: 1 }, news).heldFromMs;
  assert.equal(from('replaying', stored('read', replaying)), 1, 'nothing has moved');
  assert.equal(from('replaying', stored('read', replaying, 6)), 1_000, 'the version has moved');
  assert.equal(from('replaying', stored('committed', replaying)), 1_000, 'a hole was closed');
  assert.equal(from('replaying', stored('read', null)), 1_000, 'the replay has ended');
  assert.equal(from('open', stored('read', replaying)), 1_000, 'the replay begins');
  const doubtful = learned({ ...knownAs('replaying'), heldFromMs: 1 }, { kind: 'contradicted' });
  assert.equal(learned(doubtful, stored('read', null)).heldFromMs, 1_000, 'it ended while the lane was in doubt');
  const parkedAgain = learned({ ...knownAs('replaying'), heldFromMs: 1 }, { kind: 'parked' });
  assert.equal(learned(parkedAgain, stored('read', null)).heldFromMs, 1_000, 'it ended when the entity was parked again');
  for (const state of ['open', 'parked-before', 'doubtful'] as const) {
    assert.equal(from(state, stored('read', null, 6)), 1, `of an entity that is ${state} the oldest event counts`);
    assert.equal(from(state, stored('committed', null, 6)), 1);
  }
});

test('at rest an entity is remembered by its version alone, or by what more there is to know of it', () => {
  const remembered = (known: Known) => new Lane(entity, known).remembered();
  assert.equal(remembered(knownAs('open')), 5);
  assert.deepEqual(remembered({ ...knownAs('open'), highest: 8 }), { ...knownAs('open'), highest: 8 });
  assert.deepEqual(remembered(knownAs('parked')), knownAs('parked-before'), 'it may be replayed when it is woken');
  assert.deepEqual(remembered(knownAs('replaying')), knownAs('replaying'));
  assert.equal(remembered({ ...knownAs('replaying'), version: 0 }), null, 'which event may be its base line is read again');
  for (const state of ['unknown', 'doubtful'] as const) assert.equal(remembered(knownAs(state)), null, state);
});

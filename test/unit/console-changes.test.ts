import assert from 'node:assert/strict';
import test from 'node:test';
import type { ChangeOutcome, ChangePlan } from '../../src/console/change-work.ts';
import { type Change, type ChangeRequest, Changes, type ChangeWork } from '../../src/console/changes.ts';
import { searchOf } from '../../src/console/letter-json.ts';
import { ManualTime } from '../support/manual-time.ts';

const request: ChangeRequest = {
  action: 'discard',
  search: searchOf({ entity_id: 'e' }),
  readyOnly: false,
  skipSequence: false,
  reason: 'broken',
  who: 'console a',
};
const letters = [{ messageId: 'm', fingerprint: 'f', entityType: null, entityId: null, sequence: null, reason: 'malformed' as const }];
const plan: ChangePlan = { action: 'discard', survey: { entities: [], unordered: letters } };
const outcome: ChangeOutcome = { action: 'discard', discarded: 1 };

function setUp(over: Partial<ChangeWork> = {}) {
  const carried: unknown[] = [];
  const clock = new ManualTime();
  const work: ChangeWork = {
    plan: async () => plan,
    carryOut: async (planned, asked) => {
      carried.push([planned, asked]);
      return async () => outcome;
    },
    ...over,
  };
  return { changes: new Changes(work, clock), carried, clock };
}

const stateOf = (change: Change) => change.view().state;

test('a change is planned, confirmed and carried out as it was planned', async () => {
  const { changes, carried } = setUp();
  const change = changes.begin(request);
  assert.equal(stateOf(change), 'planning');
  await change.settled;
  assert.deepEqual([stateOf(change), carried], ['planned', []]);
  assert.ok(change.confirm());
  await change.settled;
  assert.deepEqual([stateOf(change), carried], ['done', [[plan, request]]]);
  assert.equal(changes.find(change.id), change);
});

test('a plan is carried out once, however often it is confirmed', async () => {
  const { changes, carried } = setUp();
  const change = changes.begin(request);
  assert.ok(!change.confirm());
  await change.settled;
  assert.deepEqual([change.confirm(), change.confirm()], [true, false]);
  await change.settled;
  assert.ok(!change.confirm());
  assert.equal(carried.length, 1);
});

test('a plan that is too old is carried out no more', async () => {
  const { changes, carried, clock } = setUp();
  const change = changes.begin(request);
  await change.settled;
  clock.atMs = 11 * 60_000;
  assert.ok(!change.confirm());
  assert.deepEqual(carried, []);
});

test('a plan that was stopped is carried out no more', async () => {
  const { changes, carried } = setUp();
  const change = changes.begin(request);
  await change.settled;
  change.stop();
  assert.deepEqual([change.confirm(), stateOf(change), carried], [false, 'stopped', []]);
});

test('what fails is told in its words, with how far it had come', async () => {
  const { changes } = setUp({
    carryOut: async (_plan, _request, progress) => {
      progress(3);
      throw new Error('the broker went away');
    },
  });
  const change = changes.begin(request);
  await change.settled;
  change.confirm();
  await change.settled;
  const { state, done, error } = change.view();
  assert.deepEqual([state, done, error], ['failed', 3, 'the broker went away']);
});

test('closing stops what is under way and waits for it', async () => {
  const { changes } = setUp({
    carryOut: (_plan, _request, _progress, signal) =>
      new Promise((resolve) => signal.addEventListener('abort', () => setImmediate(() => resolve(async () => outcome)))),
  });
  const change = changes.begin(request);
  await change.settled;
  change.confirm();
  await changes.close();
  assert.equal(stateOf(change), 'stopped');
});

test('old changes are forgotten, those under way are not', async () => {
  let finish = () => {};
  const held = new Promise<ChangePlan>((resolve) => (finish = () => resolve(plan)));
  let calls = 0;
  const { changes } = setUp({ plan: () => (calls++ === 0 ? held : Promise.resolve(plan)) });
  const first = changes.begin(request);
  const others: Change[] = [];
  for (let index = 0; index < 60; index++) {
    others.push(changes.begin(request));
    await others.at(-1)?.settled;
  }
  assert.equal(changes.find(first.id), first);
  assert.equal(changes.find(others[0]!.id), null);
  assert.equal(changes.find(others[59]!.id), others[59]);
  finish();
  await first.settled;
});

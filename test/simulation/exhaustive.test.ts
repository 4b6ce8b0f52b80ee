/** All that can happen in small worlds; and that copies of the core are the core, and a broken rule is found by the shortest way. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { defaultSequencerLimits, type Fact } from '../../src/ordering/facts.ts';
import { explore, scopes, summaryOf } from './exhaustive.ts';
import { copyOf, dumpOf, forFullWindows, forOutages, openCore } from './opened-core.ts';
import { mutants } from './planted-defects.ts';
import { eventNamed } from './small-store.ts';

describe('whatever happens in a small world, in whichever order', async () => {
  const core = await openCore();
  for (const scope of scopes) {
    it(`every promise is kept, and all comes to rest: ${scope.name}`, (test) => {
      const exploration = explore(core, scope);
      assert.equal(exploration.breach, null, JSON.stringify(exploration.breach, null, 2));
      test.diagnostic(summaryOf(scope, exploration));
    });
  }
});

describe('a copy of a sequencer', async () => {
  const { ShardSequencer } = await openCore();
  const options = { nameOf: String, without: [] };
  const delivered = (...names: string[]): Fact => {
    return { kind: 'delivered', deliveries: names.map((name) => ({ tag: Number(name.slice(1)), event: eventNamed(name) })) };
  };
  const snapshot = { exists: false, version: 0, state: null, holes: '', parked: null };
  const life: readonly (readonly [nowMs: number, fact: Fact])[] = [
    [0, delivered('a2')],
    [5, { kind: 'loaded', op: 1, snapshot }],
    [7, { kind: 'storeUnavailable', ops: [2], retryInMs: 100 }],
    [107, { kind: 'timePassed' }],
    [109, { kind: 'loaded', op: 2, snapshot }],
    [200, delivered('a1', 'a3')],
    [210, { kind: 'committed', op: 3, done: 2, parked: null, failure: { reason: 'handler_failed', detail: 'it fails' } }],
    [220, { kind: 'parked', op: 4 }],
    [230, { kind: 'rejected', op: 5 }],
  ];

  it('goes on like its original, and what it does leaves the original as it was', () => {
    const original = new ShardSequencer(defaultSequencerLimits);
    const fromTheFirst = copyOf(original);
    for (const [nowMs, fact] of life) {
      const before = dumpOf(original, options);
      const copy = copyOf(original);
      const effects = copy.handle(nowMs, fact);
      assert.equal(dumpOf(original, options), before);
      assert.deepEqual(original.handle(nowMs, fact), effects);
      assert.deepEqual(fromTheFirst.handle(nowMs, fact), effects);
      for (const one of [copy, fromTheFirst]) assert.equal(dumpOf(original, options), dumpOf(one, options));
      assert.notEqual(dumpOf(original, options), before, `${fact.kind} changes nothing`);
    }
  });

  it('is the same some time later, but for what waits that long', () => {
    const [early, late] = [new ShardSequencer(defaultSequencerLimits), new ShardSequencer(defaultSequencerLimits)];
    early.handle(0, delivered('a2'));
    late.handle(500, delivered('a2'));
    const withoutUnread = { ...options, without: [...forFullWindows, ...forOutages] };
    assert.equal(dumpOf(early, withoutUnread), dumpOf(late, withoutUnread));
    for (const one of [early, late]) one.handle(500, { kind: 'loaded', op: 1, snapshot });
    assert.equal(dumpOf(early, withoutUnread), dumpOf(late, withoutUnread));
    for (const one of [early, late]) one.handle(one === early ? 600 : 700, { kind: 'loaded', op: 2, snapshot });
    assert.notEqual(dumpOf(early, withoutUnread), dumpOf(late, withoutUnread));
  });
});

/** The defect, the scope in which it is looked for, what is said of it, and in how many steps it shows. */
const found: readonly (readonly [defect: string, scope: string, symptom: string, steps: number])[] = [
  ['the version does not fence a commit', 'a1 a2 a1 b1; channel lost', 'a stale commit of a went through: for version 0 at 1', 9],
  ['a commit is a duplicate without its token', 'a1 a2 a1 b1; channel lost', 'a commit of a was taken for one that had gone through', 9],
  ['a claim is not fenced', 'a2, at any time a1; channel lost', 'a stale owner has claimed or parked a', 9],
  ['a park is not fenced', 'a2, at any time a1; channel lost', 'a stale owner has claimed or parked a', 13],
  ['a park does not look at the version', 'a2, at any time a1; channel lost', 'a was parked for version 0 at 2', 15],
  [
    'a parking never ends',
    'a1 a2 a3; handler fails; replay; replay dies',
    'a is parked at 3, and none of its events is among the dead letters',
    20,
  ],
  ['what a stale commit came back with is not taken over', 'a2, at any time a1; channel lost', 'it never comes to rest', 14],
  [
    'events are rejected without parking their entity',
    'a1 a2 a3; handler fails; replay; replay dies',
    'a2 was rejected and its entity was never parked',
    10,
  ],
  ['what is held is applied over a gap', 'a2 a2 a3, at any time a1', 'a2 was applied after a0', 4],
  ['of two copies that are held one is forgotten', 'a2 a2 a3, at any time a1', '1 deliveries are kept, but 2 are undecided', 4],
  ['a gap never ends', 'a2 b1; request lost', 'it never comes to rest', 10],
  ['operations that got no answer are not asked again', 'a1 a2 b1; reply lost', 'it never comes to rest', 8],
  ['an entity whose keys were unusable is not tried again', 'a1 a2 b1; keys unusable 2 times', 'a1 is lost', 6],
];

describe('a broken rule', () => {
  for (const [defect, name, symptom, steps] of found) {
    it(`is found by the shortest way to it: ${defect}`, async () => {
      const mutant = mutants.find((one) => one.name === defect);
      const scope = scopes.find((one) => one.name === name);
      assert.ok(mutant !== undefined && scope !== undefined);
      const { breach } = explore(await openCore(mutant), scope);
      assert.deepEqual([breach?.symptom, breach?.trace.length], [symptom, steps], breach?.trace.join('\n'));
    });
  }

  it('is not looked for where its place in the sources is gone', async () => {
    await assert.rejects(
      openCore({ name: 'x', edits: [{ file: 'ordering/plan.ts', find: 'nowhere', put: '' }] }),
      /no longer has "nowhere"/,
    );
  });
});

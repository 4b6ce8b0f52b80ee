/** The whole system in worlds that are drawn at random; and that the judge, the shrinking and the repetition do what they are for. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { checkout } from '../support/checkout.ts';
import { Ledger, type Letter } from './ledger.ts';
import { mutants } from './planted-defects.ts';
import { type Outcome, scenarioOf, shrink, simulate } from './simulation.ts';
import { Schedule } from './virtual-time.ts';
import { faults, sometimes } from './world.ts';

const seeds = 3_000;
const twiceEvery = 100;

describe('whatever goes wrong', () => {
  it('every promise is kept, everything comes to rest, and a seed repeats byte for byte', async () => {
    const seen = new Set<string>();
    for (let seed = 1; seed <= seeds; seed++) {
      const outcome = await simulate(scenarioOf(seed), seed % twiceEvery === 0);
      assert.equal(outcome.failure, null, `npm run simulate -- --seeds 1 --from ${seed}: ${JSON.stringify(outcome.failure)}`);
      for (const what of outcome.seen) seen.add(what);
      if (seed % twiceEvery !== 0) continue;
      const { trace } = await simulate(outcome.scenario, true);
      assert.equal(trace.join('\n'), outcome.trace.join('\n'), `seed ${seed} does not repeat`);
    }
    assert.deepEqual(
      sometimes.filter((what) => !seen.has(what)),
      [],
      'reached by no seed',
    );
  });
});

describe('the judge', () => {
  const first: Letter = { id: 'a-1', kind: 'event', entityId: 'a', sequence: 1, value: 10, shard: 0 };
  const second: Letter = { ...first, id: 'a-2', sequence: 2, value: 20 };
  const commit = { entityId: 'a', token: 't1', expectedVersion: 0, newVersion: 1, state: '{"values":[10]}', events: [first] };
  const next = { ...commit, token: 't2', expectedVersion: 1, newVersion: 2, state: '{"values":[10,20]}', events: [second] };
  const park = { entityId: 'a', epoch: 1, expectedVersion: 0, reason: 'gap_timeout' };

  const breaches: Readonly<Record<string, (ledger: Ledger, schedule: Schedule) => void>> = {
    'a stale commit went through': (ledger) => ledger.committed({ ...next, newVersion: 2 }),
    'two commits had one token': (ledger) => [commit, { ...next, token: 't1' }].forEach((one) => ledger.committed(one)),
    'something was applied that nobody published': (ledger) => ledger.committed({ ...commit, events: [{ ...first, id: 'x' }] }),
    'an event was applied in the wrong place': (ledger) => ledger.committed({ ...commit, events: [{ ...second, sequence: 1 }] }),
    'an event was applied out of order': (ledger) => ledger.committed({ ...commit, events: [second] }),
    'the version is not what was applied': (ledger) => ledger.committed({ ...commit, newVersion: 2 }),
    'the state is not that of its events': (ledger) => ledger.committed({ ...commit, state: '{"values":[]}' }),
    'a commit was taken for one that went through': (ledger) => ledger.wasDuplicate(commit),
    'a stale owner claimed an entity': (ledger) => [2, 1].forEach((epoch) => ledger.claimed({ entityId: 'a', epoch })),
    'a stale owner parked an entity': (ledger) => {
      ledger.claimed({ entityId: 'a', epoch: 2 });
      ledger.parked(park, false);
    },
    'an entity was parked that had moved on': (ledger) => ledger.parked({ ...park, expectedVersion: 1 }, false),
    'a gap ended although the missing event was there': (ledger, schedule) => {
      ledger.arrived(first);
      schedule.nowMs += 60_000;
      ledger.parked(park, true);
    },
    'a handler ran ahead of its predecessor': (ledger) => ledger.handled('a', 2),
    'a message that is no event was acknowledged': (ledger) => ledger.acknowledged({ ...first, kind: 'malformed' }),
    'an event was acknowledged that is not applied': (ledger) => ledger.acknowledged(first),
    'an event was acknowledged in whose place another one is applied': (ledger) => {
      ledger.committed(commit);
      ledger.acknowledged({ ...first, id: 'a-1-forged', kind: 'forged' });
    },
    'an event was rejected before its reason was recorded': (ledger) => ledger.rejected(first),
    'an event was rejected whose entity was never parked': (ledger) => {
      ledger.recorded('a-1');
      ledger.rejected(first);
    },
    'an entity is parked at rest, with nothing to wait for': (ledger) => ledger.rested([], ['a'], false),
    'an entity is not complete at rest': (ledger) => ledger.rested([], [], true),
    'the metrics do not say what was settled': (ledger) => {
      ledger.counted('acknowledged', 1);
      ledger.rested([], [], true);
    },
    'an applied event is left among the dead letters': (ledger) => {
      for (const one of [commit, next]) ledger.committed(one);
      ledger.rested([first], [], false);
    },
  };

  for (const [symptom, breach] of Object.entries(breaches)) {
    it(`says that ${symptom}`, () => {
      const schedule = new Schedule();
      const ledger = new Ledger(schedule);
      for (const letter of [first, second]) ledger.letters.set(letter.id, letter);
      breach(ledger, schedule);
      assert.equal(ledger.failure?.symptom, symptom);
    });
  }

  it('has nothing to say where all is as it should be', () => {
    const ledger = new Ledger(new Schedule());
    for (const letter of [first, second]) {
      ledger.letters.set(letter.id, letter);
      ledger.arrived(letter);
    }
    ledger.parked(park, true);
    for (const one of [commit, next]) {
      ledger.committed(one);
      ledger.wasDuplicate(one);
    }
    for (const letter of [first, second]) ledger.acknowledged(letter);
    ledger.counted('acknowledged', 2);
    ledger.rested([], [], true);
    assert.equal(ledger.failure, null);
    assert.equal(ledger.unsettled, 0);
  });
});

describe('a failing seed', () => {
  it('shrinks to the faults, the entities and the events that it takes', async () => {
    const run = async (scenario: Outcome['scenario']): Promise<Outcome> => {
      const fails = !scenario.without.includes('kills') && scenario.maxEvents >= 3 && scenario.maxEntities >= 2;
      const failure = fails ? { symptom: 'it broke', detail: '', atMs: 0, step: 0 } : null;
      return { scenario, failure, steps: 0, seen: new Set(), trace: [] };
    };
    const failed = await run({ ...scenarioOf(7), without: [] });
    const { scenario } = await shrink(failed, run);
    assert.deepEqual([scenario.maxEntities, scenario.maxEvents], [2, 3]);
    assert.equal(scenario.without.includes('kills'), false);
    assert.equal((await run({ ...scenario, without: [...scenario.without, 'kills'] })).failure, null);
    assert.equal(scenario.without.length, faults.length - 1);
  });
});

describe('a planted defect', () => {
  for (const { name, file, find } of mutants) {
    it(`has its place in the sources: ${name}`, () => {
      assert.ok(readFileSync(join(checkout, 'src', file), 'utf8').includes(find), `src/${file} no longer has ${find}: plant it anew`);
    });
  }
});

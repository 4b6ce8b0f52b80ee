/** The whole system in worlds that are drawn at random; and that the judge, the shrinking and the repetition do what they are for. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { checkout } from '../support/checkout.ts';
import { Account, Ledger, type Letter, Sender } from './ledger.ts';
import { rowsOf } from './mutants.ts';
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
  const park = { shard: 0, entityId: 'a', epoch: 1, session: 's1', expectedVersion: 0, reason: 'gap_timeout' };

  const breaches: Readonly<Record<string, (ledger: Ledger, schedule: Schedule) => void>> = {
    'a stale commit went through': (ledger) => ledger.account.committed({ ...next, newVersion: 2 }),
    'two commits had one token': (ledger) => [commit, { ...next, token: 't1' }].forEach((one) => ledger.account.committed(one)),
    'something was applied that nobody published': (ledger) => ledger.account.committed({ ...commit, events: [{ ...first, id: 'x' }] }),
    'an event was applied in the wrong place': (ledger) => ledger.account.committed({ ...commit, events: [{ ...second, sequence: 1 }] }),
    'an event was applied out of order': (ledger) => ledger.account.committed({ ...commit, events: [second] }),
    'the version is not what was applied': (ledger) => ledger.account.committed({ ...commit, newVersion: 2 }),
    'the state is not that of its events': (ledger) => ledger.account.committed({ ...commit, state: '{"values":[]}' }),
    'a commit was taken for one that went through': (ledger) => ledger.account.wasDuplicate(commit),
    'a stale owner claimed an entity': (ledger) =>
      [2, 1].forEach((epoch) => ledger.account.claimed({ entityId: 'a', shard: 0, epoch, session: 's1' })),
    'a stale owner parked an entity': (ledger) => {
      ledger.account.claimed({ entityId: 'a', shard: 0, epoch: 2, session: 's1' });
      ledger.account.parked(park, false);
    },
    'an owner parked an entity that another one with its epoch has claimed': (ledger) => {
      ledger.account.claimed({ entityId: 'a', shard: 0, epoch: 1, session: 's2' });
      ledger.account.parked(park, false);
    },
    'an entity was parked that had moved on': (ledger) => ledger.account.parked({ ...park, expectedVersion: 1 }, false),
    'a gap ended although the missing event was there': (ledger, schedule) => {
      ledger.arrived(first);
      schedule.nowMs += 60_000;
      ledger.account.parked(park, true);
    },
    'an event was passed over that should be applied, or applied against it': (ledger) => {
      ledger.rule = 'skip';
      ledger.account.committed({ ...next, expectedVersion: 0 });
    },
    'an event was passed over that had come before': (ledger) => {
      ledger.rule = 'log_and_process';
      for (const one of [first, second]) ledger.arrived(one);
      ledger.account.committed({ ...next, expectedVersion: 0 }, true);
    },
    'a gap was leapt over although the missing event was there': (ledger, schedule) => {
      ledger.rule = 'skip-ahead';
      ledger.arrived(first);
      schedule.nowMs += 2_001;
      ledger.account.committed({ ...next, expectedVersion: 0 }, true);
    },
    'an event without a sequence was applied twice': (ledger) => {
      ledger.letters.set('a-1', { ...first, isUnsequenced: true });
      for (const one of [commit, { ...next, events: [{ ...second, id: 'a-1' }] }]) ledger.account.committed(one);
    },
    'an event without a sequence overtook another one': (ledger) => {
      for (const one of [first, second]) {
        ledger.letters.set(one.id, { ...one, isUnsequenced: true });
        ledger.arrived({ ...one, isUnsequenced: true });
      }
      ledger.account.committed({ ...commit, events: [{ ...second, sequence: 1 }] }, true);
    },
    'an event was rejected for a reason that its strategy does not have': (ledger) => ledger.recorded('a-1', 'out_of_order', 'w'),
    'an event was rejected as late that was not passed over': (ledger) => {
      ledger.rule = 'skip-ahead';
      ledger.account.committed(commit);
      ledger.recorded('a-1', 'late', 'w');
      ledger.rejected(first);
    },
    'an event is neither applied nor among the dead letters': (ledger) => {
      ledger.rule = 'skip-ahead';
      ledger.account.committed({ ...next, expectedVersion: 0, state: '{"values":[20]}' });
      ledger.rested([], [], false);
    },
    'a hole is left at rest': (ledger) => {
      ledger.rule = 'log_and_process';
      ledger.account.committed({ ...next, expectedVersion: 0, state: '{"values":[20]}' });
      ledger.rested([first], [], false);
    },
    'an innocent event was taken for the one that ended the process': (ledger) => {
      for (const worker of ['w', 'v']) ledger.cameBack(worker, first);
      ledger.recorded('a-1', 'process_killed', 'w');
    },
    'an event was said to block that ends the process': (ledger) => {
      ledger.letters.set('a-1', { ...first, poison: 'kills' });
      ledger.recorded('a-1', 'process_blocked', 'w');
    },
    'more processes ended than an event may cost': (ledger) => {
      ledger.mostPoisoned = 1;
      for (let times = 0; times < 2; times++) ledger.suffers({ ...first, poison: 'kills' });
    },
    'a handler ran ahead of its predecessor': (ledger) => ledger.handled('a', 2),
    'a message that is no event was acknowledged': (ledger) => ledger.acknowledged({ ...first, kind: 'malformed' }, 'w', 0),
    'an event was acknowledged that is not applied': (ledger) => ledger.acknowledged(first, 'w', 0),
    'an event was acknowledged in whose place another one is applied': (ledger) => {
      ledger.account.committed(commit);
      ledger.acknowledged({ ...first, id: 'a-1-forged', kind: 'forged' }, 'w', 0);
    },
    'a gap ended without a turn of the broker': (ledger, schedule) => {
      ledger.turned('w', 0);
      schedule.nowMs += 1_001;
      ledger.endedGap('w', 0);
    },
    'an event was rejected before its reason was recorded': (ledger) => ledger.rejected(first),
    'an event was rejected whose entity was never parked': (ledger) => {
      ledger.recorded('a-1', 'entity_parked', 'w');
      ledger.rejected(first);
    },
    'an entity is parked at rest, with nothing to wait for': (ledger) => ledger.rested([], ['a'], false),
    'an entity is not complete at rest': (ledger) => ledger.rested([], [], true),
    'the metrics do not say what was settled': (ledger) => {
      ledger.counted('acknowledged', 1);
      ledger.rested([], [], true);
    },
    'a message is neither applied nor among the dead letters': (ledger) => {
      for (const one of [commit, next]) ledger.account.committed(one);
      ledger.letters.set('a-2-malformed', { ...second, id: 'a-2-malformed', kind: 'malformed' });
      ledger.rested([], [], false);
    },
    'an event of the log was published before its predecessor': (ledger) => {
      ledger.logged.add('a');
      for (const letter of [first, second].reverse()) ledger.arrived(letter);
    },
    'an event overtook an earlier one of its publisher': (ledger) => {
      const sender = new Sender(ledger, 'p', false);
      for (const mark of ['a-1', 'a-2'].map((id) => sender.asked(id)).reverse()) sender.stored(mark);
    },
    'a publish was confirmed that the broker does not have': (ledger) => {
      const sender = new Sender(ledger, 'p', false);
      sender.ended(sender.asked('a-1'), 'confirmed');
    },
    'an applied event is left among the dead letters': (ledger) => {
      for (const one of [commit, next]) ledger.account.committed(one);
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

  it('says why a gap may not end: its event was there at the turn, or its time is not over without what the store was away for', () => {
    const schedule = new Schedule();
    const ledger = new Ledger(schedule);
    const gap = { shard: 0, entityId: 'a', missing: 1 };
    ledger.gapTimeoutMs = 1_000;
    ledger.deliveredSince = (_worker, _shard, _entityId, sequence) => (sequence === 2 ? 100 : null);
    const mayNotEndAt = (nowMs: number, turnAtMs = nowMs) => {
      schedule.nowMs = turnAtMs;
      ledger.turned('w', 0);
      schedule.nowMs = nowMs;
      return ledger.whyGapMayNotEnd('w', gap);
    };
    assert.equal(mayNotEndAt(1_099), 'a gap ended before its time');
    assert.equal(mayNotEndAt(1_100), null);
    ledger.paused({ of: 'another', fromMs: 200, toMs: 900, unnoticedMs: 0 });
    assert.equal(mayNotEndAt(1_100), null);
    ledger.paused({ of: null, fromMs: 200, toMs: 900, unnoticedMs: 100 });
    assert.equal(mayNotEndAt(1_699), 'a gap ended before its time');
    assert.equal(mayNotEndAt(1_700), null);
    ledger.arrived(first);
    assert.equal(mayNotEndAt(2_000, 1_900), null);
    assert.equal(mayNotEndAt(2_000, 1_901), 'a gap ended although the missing event was there');
    ledger.recorded('a-1', 'handler_failed', 'w');
    ledger.account.parked({ ...park, reason: 'handler_failed' }, false);
    ledger.rejected(first);
    assert.equal(mayNotEndAt(2_000), null);
  });

  it('says that an event was acknowledged of which the store said only before its delivery that it is applied', () => {
    const schedule = new Schedule();
    const ledger = new Ledger(schedule);
    ledger.letters.set(first.id, first);
    ledger.account.committed(commit);
    ledger.told('w', { account: ledger.account, id: first.id });
    // Then the store lost it, and the broker delivered it again.
    ledger.account = new Account(ledger);
    ledger.acknowledged(first, 'w', 1);
    assert.equal(ledger.failure?.symptom, 'an event was acknowledged that is not applied');
    assert.deepEqual([...ledger.behind()], [['a', 1]]);
  });

  it('has nothing to say where all is as it should be', () => {
    const ledger = new Ledger(new Schedule());
    for (const letter of [first, second]) {
      ledger.letters.set(letter.id, letter);
      ledger.arrived(letter);
    }
    ledger.account.parked(park, true);
    for (const one of [commit, next]) {
      ledger.account.committed(one);
      ledger.account.wasDuplicate(one);
      for (const { id } of one.events) ledger.told('w', { account: ledger.account, id });
    }
    for (const letter of [first, second]) ledger.acknowledged(letter, 'w', 0);
    ledger.counted('acknowledged', 2);
    ledger.rested([], [], true);
    assert.equal(ledger.failure, null);
    assert.equal(ledger.unsettled, 0);
  });
});

describe('the judge of a publisher', () => {
  it('lets an event overtake one that the broker has refused, unless they are sent one by one', () => {
    for (const [oneByOne, symptom] of [
      [false, undefined],
      [true, 'an event overtook an earlier one of its publisher'],
    ] as const) {
      const ledger = new Ledger(new Schedule());
      const sender = new Sender(ledger, 'p', oneByOne);
      const [first, second] = [sender.asked('a-1'), sender.asked('a-2')];
      sender.refused(first);
      sender.stored(second);
      assert.equal(ledger.failure?.symptom, symptom);
      assert.equal(sender.stored(first), false);
      assert.equal(sender.stored(first), true, 'it came again');
      assert.equal(sender.ended(first, 'confirmed'), true, 'it was refused before');
      assert.equal(sender.open, 1);
    }
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
  for (const { name, edits } of mutants) {
    it(`has its place in the sources: ${name}`, () => {
      for (const { file, find } of edits)
        assert.ok(readFileSync(join(checkout, 'src', file), 'utf8').includes(find), `src/${file} no longer has ${find}: plant it anew`);
    });
  }
});

describe('the table of what was found', () => {
  it('has only planted defects, each once and as its own line', () => {
    const names = rowsOf(readFileSync(join(checkout, 'test/README.md'), 'utf8')).map(([name]) => name);
    assert.ok(names.length > 0);
    assert.deepEqual(
      names,
      mutants.map(({ name }) => name).filter((name) => names.includes(name)),
    );
  });
});

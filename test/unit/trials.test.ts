/** Who is accused when processes die, who is guilty, and that nobody else is. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { UnavailableError } from '../../src/errors.ts';
import type { Slot } from '../../src/ordering/facts.ts';
import { systemTime } from '../../src/time.ts';
import { trialsAsText } from '../../src/cli/status.ts';
import { TrialBench, Trials } from '../../src/worker/trials.ts';
import { eventOf } from '../support/event-of.ts';
import { waitFor } from '../support/services.ts';

function slotOf(entityId: string, mayRepeat = true): Slot {
  const event = eventOf({ entityId, id: entityId });
  return { delivery: { tag: 1, event, mayRepeat }, sequence: 1, action: 'apply', versionAfter: 1, holesAfter: '' };
}

/** What sessions have written, `null` being a leave that leaves nothing. */
const leaves = new WeakMap<Trials, (string | null)[]>();

/** A session; `notes` are what it has put on record, the last one being what a death leaves. */
function session(
  t: TestContext,
  unfinished: string,
  { bench = new TrialBench(), epoch = 1, write = async () => {} }: { bench?: TrialBench; epoch?: number; write?: () => Promise<void> } = {},
) {
  const notes = [unfinished];
  const written: (string | null)[] = [];
  const said: string[] = [];
  const life = new AbortController();
  t.after(() => life.abort());
  const trials = new Trials({
    shard: 0,
    unfinished,
    bench,
    life: life.signal,
    time: systemTime,
    log: { info: (_fields, message) => void said.push(`info ${message}`), warn: (_fields, message) => void said.push(`warn ${message}`) },
    fail: (error) => assert.fail(String(error)),
    epoch,
    record: {
      async noteSession(_shard, _epoch, text) {
        await write();
        notes.push(text ?? 'leave');
        written.push(text);
      },
    },
  });
  leaves.set(trials, written);
  const die = () => {
    life.abort();
    return notes.at(-1)!;
  };
  return { trials, notes, said, life, die };
}

/** What it leaves to the next session. */
async function left(trials: Trials): Promise<string | null> {
  await trials.leave();
  return leaves.get(trials)!.at(-1) ?? null;
}

const never = () => new Promise<never>(() => {});
const untilAborted = (signal: AbortSignal) => new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
const begun = (trials: Trials, entityId: string, work: () => unknown) =>
  new Promise<void>((resolve) => {
    const run = () => {
      resolve();
      return work();
    };
    trials.run([slotOf(entityId)], run).catch(() => undefined);
  });

/** The note of a session in which these were being processed at its death. */
async function diedWith(t: TestContext, unfinished: string, ...entities: readonly string[]): Promise<string> {
  const { trials, die } = session(t, unfinished);
  await Promise.all(entities.map((entity) => begun(trials, entity, never)));
  return die();
}

test('an event is guilty once two processes have died while it was tried alone, and no other is accused for long', async (t) => {
  const together = await diedWith(t, '', 'a', 'poison', 'b');
  const { trials: accusing } = session(t, together);
  assert.equal(accusing.verdictOn(slotOf('poison').delivery), null);
  assert.equal(accusing.together([slotOf('x'), slotOf('poison'), slotOf('y')]), 1, 'up to the accused one');
  assert.equal(accusing.together([slotOf('poison'), slotOf('a')]), 1, 'and that alone');
  const once = await diedWith(t, together, 'poison');
  const { trials: suspecting } = session(t, once);
  assert.equal(suspecting.verdictOn(slotOf('poison').delivery), null, 'one death may have had another cause');
  const twice = await diedWith(t, once, 'poison');
  const { trials } = session(t, twice);
  const verdict = trials.verdictOn(slotOf('poison').delivery);
  assert.equal(verdict?.reason, 'process_killed');
  for (const innocent of ['a', 'b', 'x']) assert.equal(trials.verdictOn(slotOf(innocent).delivery), null);
  assert.equal(trials.verdictOn(slotOf('poison', false).delivery), null, 'a copy that is new, for instance of a replay, is tried again');
  trials.settled(eventOf({ entityId: 'poison', id: 'poison' }));
  assert.equal(trials.verdictOn(slotOf('poison').delivery)?.reason, 'process_killed', 'a further copy that comes again');
  assert.equal(trials.together([slotOf('x'), slotOf('poison')]), 1, 'also behind others');
  assert.equal(JSON.parse((await left(trials))!).accused.length, 2, 'the next session knows nothing of it');
});

test('another event with the sequence of one that ends the process is innocent', async (t) => {
  const { trials } = session(t, await diedWith(t, await diedWith(t, await diedWith(t, '', 'poison', 'a'), 'poison'), 'poison'));
  const { delivery } = slotOf('poison');
  assert.equal(trials.verdictOn(delivery)?.reason, 'process_killed');
  assert.equal(trials.verdictOn({ ...delivery, event: { ...delivery.event, id: 'another' } }), null);
});

test('a trial holds back what is new, of any shard, until its patience is over, and then it is on record with others', async (t) => {
  const bench = new TrialBench();
  const { trials, notes } = session(t, await diedWith(t, '', 'slow'), { bench });
  const [other, neighbour] = [session(t, '', { bench }).trials, bench];
  await begun(trials, 'slow', never);
  assert.notEqual(JSON.parse(notes.at(-1)!).alone, null);
  const recordAt = async (what: Pick<Trials, 'concerns' | 'run'>) => {
    assert.equal(what.concerns([slotOf('fresh', false)]), true);
    return what.run([slotOf('fresh', false)], () => JSON.parse(notes.at(-1)!));
  };
  for (const { together, alone } of await Promise.all([recordAt(trials), recordAt(other), recordAt(neighbour)])) {
    assert.deepEqual([together.length, alone], [1, null]);
  }
});

test('the status says how many are accused and who is on trial, and a command in a sentence why the shard is slow', async (t) => {
  const { trials } = session(t, await diedWith(t, '', 'slow\n'));
  const about = (entity_id: string, alone: boolean) => ({ entity_type: 'thing', entity_id, sequence: 1, alone });
  assert.deepEqual(trials.status(), { accused: 1, on_trial: [] });
  const said = 'shard 3 looks for what its process died of: accused and tried alone: 1';
  assert.deepEqual(trialsAsText({ shard: 3, trials: trials.status() }), [said]);
  await begun(trials, 'slow\n', never);
  assert.deepEqual(trials.status(), { accused: 1, on_trial: [about('slow\n', true)] });
  assert.deepEqual(trialsAsText({ shard: 3, trials: trials.status() }), [String.raw`${said}; alone now: thing slow\n 1`]);
  const suspects = Array.from({ length: 12 }, (_, n) => `suspect-${n}`);
  for (const suspect of suspects) await begun(trials, suspect, never);
  const shown = suspects.slice(0, 9).map((suspect) => about(suspect, false));
  assert.deepEqual(trials.status(), { accused: 1, on_trial: [about('slow\n', false), ...shown] });
  assert.match(
    trialsAsText({ shard: 3, trials: trials.status() })[0]!,
    /: 1; on record beside others: thing slow\\n 1, thing suspect-0 1, /,
  );
  assert.deepEqual(trialsAsText({ shard: 3, trials: { accused: 0, on_trial: [] } }), []);
  assert.deepEqual(trialsAsText({ shard: 3, trials: null }), []);
});

test('a trial waits for what is running, and where that does not end a death convicts nobody', async (t) => {
  const bench = new TrialBench();
  const note = await diedWith(t, '', 'a');
  const quick = bench.run([], () => new Promise((resolve) => setImmediate(resolve)));
  const { trials, notes } = session(t, note, { bench });
  await trials.run([slotOf('a')], () => assert.notEqual(JSON.parse(notes.at(-1)!).alone, null));
  await quick;
  void bench.run([], never);
  const company = session(t, note, { bench });
  await begun(company.trials, 'a', never);
  const { together, alone } = JSON.parse(company.notes.at(-1)!);
  assert.deepEqual([together.length, alone], [1, null]);
});

test('who is slow to end the process is not excused by others for ever, and these are innocent', async (t) => {
  let note = await diedWith(t, '', 'poison', 'slow');
  for (let deaths = 1; deaths <= 2; deaths++) {
    const { trials, die } = session(t, note);
    // Ends the process when the patience with it is over.
    await Promise.all(['poison', 'slow'].map((entity) => begun(trials, entity, never)));
    note = die();
    for (const entity of ['poison', 'slow']) assert.equal(session(t, note).trials.verdictOn(slotOf(entity).delivery), null);
  }
  for (let deaths = 3; deaths <= 4; deaths++) note = await diedWith(t, note, 'poison');
  assert.equal(session(t, note).trials.verdictOn(slotOf('poison').delivery)?.reason, 'process_killed');
  assert.equal(session(t, note).trials.verdictOn(slotOf('slow').delivery), null);
});

test('of two shards, the one whose trial is over has that on record before the other one begins its own', async (t) => {
  const bench = new TrialBench();
  const [one, other] = [
    session(t, await diedWith(t, '', 'slow'), { bench }),
    session(t, await diedWith(t, '', 'quick', 'last'), { bench }),
  ];
  await other.trials.run([slotOf('quick')], () => undefined);
  await begun(one.trials, 'slow', () => {
    assert.equal(JSON.parse(other.notes.at(-1)!).alone, null);
    return never();
  });
  await begun(other.trials, 'last', never);
  assert.equal(JSON.parse(one.notes.at(-1)!).alone, null);
});

test('a note of the same process is of no death', async (t) => {
  const bench = new TrialBench();
  let note = await diedWith(t, '', 'slow');
  for (let sessions = 0; sessions < 3; sessions++) {
    const { trials, die } = session(t, note, { bench });
    await begun(trials, 'slow', never);
    note = die();
    await trials.run([slotOf('slow')], never).catch(() => undefined);
  }
  assert.equal(session(t, note, { bench }).trials.verdictOn(slotOf('slow').delivery), null);
});

test('what was being processed is on record before it runs, and not much longer', async (t) => {
  const { trials, notes } = session(t, '');
  const seen: number[] = [];
  await Promise.all(['a', 'b'].map((entity) => trials.run([slotOf(entity)], () => seen.push(JSON.parse(notes.at(-1)!).together.length))));
  assert.deepEqual(seen, [2, 2], 'together, in one write');
  await waitFor(() => JSON.parse(notes.at(-1)!).together.length === 0, { what: 'an empty record' });
  assert.equal(notes.length, 3, 'the one before, that of both, and the empty one');
  assert.equal(trials.concerns([slotOf('new', false)]), false, 'what comes for the first time is on no record');
});

test('an innocent event is not convicted because two workers in turn were cut off while they tried it, and took their leave late', async (t) => {
  const benches = [new TrialBench(), new TrialBench()];
  let note = await diedWith(t, '', 'innocent');
  for (let epoch = 1; epoch <= 5; epoch++) {
    const { trials, die, life } = session(t, note, { bench: benches[epoch % 2]!, epoch });
    assert.equal(trials.verdictOn(slotOf('innocent').delivery), null, `in epoch ${epoch}`);
    await begun(trials, 'innocent', () => untilAborted(life.signal));
    // Its successor begins with this; the leave comes to nothing.
    note = die();
    await trials.leave();
  }
  const { trials } = session(t, note, { bench: benches[0]!, epoch: 6 });
  assert.equal(trials.verdictOn(slotOf('innocent').delivery), null);
});

test('an event is guilty although its process had been cut off before it died', async (t) => {
  const bench = new TrialBench();
  const cutOff = session(t, await diedWith(t, '', 'poison'), { bench, epoch: 1 });
  await begun(cutOff.trials, 'poison', () => untilAborted(cutOff.life.signal));
  let note = cutOff.die();
  await cutOff.trials.leave();
  for (const epoch of [2, 3]) {
    const { trials, die } = session(t, note, { bench: epoch === 2 ? bench : new TrialBench(), epoch });
    assert.equal(trials.verdictOn(slotOf('poison').delivery), null, `in epoch ${epoch}`);
    await begun(trials, 'poison', never);
    note = die();
  }
  const { trials } = session(t, note, { epoch: 4 });
  assert.equal(trials.verdictOn(slotOf('poison').delivery)?.reason, 'process_killed');
});

test('the accused are tried one at a time, whatever shard they are of', async (t) => {
  const note = await diedWith(t, '', 'a', 'b');
  const bench = new TrialBench();
  const [one, other] = [session(t, note, { bench }), session(t, note, { bench })];
  let running = 0;
  const most: number[] = [];
  const work = async () => {
    most.push(++running);
    await new Promise(setImmediate);
    running--;
  };
  await Promise.all([one.trials.run([slotOf('a')], work), other.trials.run([slotOf('a')], work), one.trials.run([slotOf('b')], work)]);
  assert.deepEqual(most, [1, 1, 1]);
});

test('a store that does not answer is asked again, and ended sessions run nothing', async (t) => {
  let failures = 2;
  const write = async () => {
    if (failures-- > 0) throw new UnavailableError('away');
  };
  const { trials, life } = session(t, '', { write });
  assert.equal(await trials.run([slotOf('a')], () => 'done'), 'done');
  life.abort();
  await assert.rejects(
    trials.run([slotOf('b')], () => assert.fail('it runs')),
    UnavailableError,
  );
});

test('accusations outlive a leave, for some sessions, and notes that cannot be read accuse nobody', async (t) => {
  let note = await left(session(t, await diedWith(t, '', 'a')).trials);
  for (let sessions = 1; sessions < 10; sessions++) {
    const { trials, said } = session(t, note!);
    assert.equal(trials.together([slotOf('b'), slotOf('a')]), 1);
    assert.deepEqual([trials.concerns([slotOf('a')]), trials.concerns([slotOf('b')])], [true, false], 'nobody else is suspect');
    assert.match(said[0]!, /^info /);
    note = await left(trials);
  }
  assert.equal(note, null, 'it may never come again');
  const { trials } = session(t, await diedWith(t, '', 'a'));
  trials.settled(eventOf({ entityId: 'a', id: 'a' }));
  assert.equal(await left(trials), null);
  for (const unreadable of ['', '{', '[]', '{"together":1}', 'null']) assert.equal(await left(session(t, unreadable).trials), null);
});

test('a leave comes after what is being written', async (t) => {
  let write = () => {};
  const { trials, notes, life } = session(t, await diedWith(t, '', 'a'), { write: () => new Promise((resolve) => (write = resolve)) });
  trials.run([slotOf('b')], never).catch(() => undefined);
  await waitFor(() => trials.concerns([slotOf('b')]) && notes.length === 1, { what: 'a write' });
  const first = write;
  life.abort();
  const leaving = trials.leave();
  await new Promise(setImmediate);
  assert.equal(write, first, 'it waits');
  first();
  await waitFor(() => write !== first, { what: 'the leave' });
  write();
  await leaving;
  assert.deepEqual(
    notes.slice(-2).map((note) => JSON.parse(note).isLeave ?? false),
    [false, true],
  );
});

test('of too many accused those with the least evidence are forgotten', async (t) => {
  const [evident, ...others] = Array.from({ length: 10_001 }, (_, at) => [`event ${at}`, at === 0 ? 2 : 1, at === 0 ? 1 : 0, false]);
  const note = JSON.stringify({ together: [], alone: null, accused: [evident, ...others] });
  const { accused } = JSON.parse((await left(session(t, note).trials))!);
  assert.deepEqual([accused.length, accused[0][0]], [10_000, evident![0]]);
});

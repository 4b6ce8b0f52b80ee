import assert from 'node:assert/strict';
import test from 'node:test';
import type { EncodedEvent, NewEvent } from '../../src/events/encode.ts';
import { defaultEventLimits } from '../../src/events/event.ts';
import type { GapRepairOutcome } from '../../src/observability/metrics.ts';
import type { OpenShardChannel } from '../../src/rabbitmq/shard-channel.ts';
import { GapRepair, type RepairableGap, type RepairableShard } from '../../src/worker/gap-repair.ts';
import type { GapSource, MissingEvents } from '../../src/stores/event-store.ts';
import { ManualTime } from '../support/manual-time.ts';
import { KeptLog } from '../support/rabbitmq.ts';
import { waitFor } from '../support/services.ts';

/** Only which one it is matters here. */
const aChannel = () => ({}) as OpenShardChannel;
const present = aChannel();
const gapOf = (entityId: string, from: number, to = from, channel = present): RepairableGap => ({
  entity: { entityType: 'thing', entityId },
  from,
  to,
  channel,
});
const event = (sequence: number, over: Partial<NewEvent> = {}): NewEvent => ({ sequence, type: 'Happened', ...over });
const everything = ({ from, to }: MissingEvents) => Array.from({ length: to - from + 1 }, (_, index) => event(from + index));

function setUp(source: GapSource) {
  const state = { gaps: [] as RepairableGap[], channel: present };
  const time = new ManualTime();
  const delivered: string[] = [];
  const asked: string[] = [];
  const outcomes: GapRepairOutcome[] = [];
  const log = new KeptLog();
  const shard: RepairableShard = {
    shard: 0,
    gapsOlderThan: (ms) => (ms === 100 ? state.gaps : []),
    deliverMissing(channel, events: readonly EncodedEvent[]) {
      if (channel !== state.channel) return false;
      delivered.push(...events.map(({ event: { entityId, sequence } }) => `${entityId}/${sequence}`));
      return true;
    },
  };
  const repair = new GapRepair({
    source(missing) {
      asked.push(`${missing.entity.entityId} ${missing.from}-${missing.to}`);
      return source(missing);
    },
    shards: [shard],
    afterMs: 100,
    limits: defaultEventLimits,
    metrics: { gapRepairEnded: (outcome) => void outcomes.push(outcome) },
    log,
    time,
  });
  const untilEnded = (count: number) => waitFor(() => outcomes.length >= count, { what: `${count} repairs ended` });
  return { state, time, repair, delivered, asked, outcomes, log, untilEnded };
}

test('asks for exactly what is missing, and delivers what the source has, in order and each once', async () => {
  const { state, repair, delivered, asked, outcomes, untilEnded } = setUp(async () => [event(4), event(2), event(3), event(2)]);
  state.gaps = [gapOf('a', 2, 4)];
  repair.look();
  await untilEnded(1);
  assert.deepEqual([asked, delivered, outcomes], [['a 2-4'], ['a/2', 'a/3', 'a/4'], ['repaired']]);
});

test('asks for a bounded number of events at once, and of a bounded number of entities', async () => {
  const { state, repair, asked } = setUp(() => new Promise(() => undefined));
  state.gaps = [gapOf('long', 1, 1_000_000), ...Array.from({ length: 100 }, (_, index) => gapOf(`e${index}`, 1))];
  for (let look = 0; look < 20; look++) repair.look();
  assert.equal(asked[0], 'long 1-500');
  assert.equal(asked.length, 8, 'the others wait until one of them has ended');
});

test('an entity is asked for once at a time, and again with growing pauses as long as the source has nothing', async () => {
  const { state, time, repair, asked, outcomes, untilEnded, log } = setUp(() => []);
  state.gaps = [gapOf('a', 3)];
  repair.look();
  repair.look();
  await untilEnded(1);
  const pauses: number[] = [];
  for (let tries = 1; tries < 5; tries++) {
    const sinceMs = time.atMs;
    // To the millisecond: `random` is 0, so each pause is a tenth of its ceiling.
    for (; asked.length === tries; time.atMs++) repair.look();
    pauses.push(time.atMs - 1 - sinceMs);
    await untilEnded(tries + 1);
  }
  assert.deepEqual(
    pauses.map((ms, index) => Math.round(ms / pauses[0]!) === 2 ** index),
    [true, true, true, true],
    String(pauses),
  );
  assert.deepEqual(outcomes, Array(5).fill('missing'));
  assert.equal(log.lines.length, 1, 'said once');
});

test('a source that fails is asked again, and what it had to say is logged until it answers', async () => {
  let away = true;
  const { state, time, repair, outcomes, delivered, log, untilEnded } = setUp((missing) => {
    if (away) throw new Error('the database is away');
    return everything(missing);
  });
  state.gaps = [gapOf('a', 2)];
  repair.look();
  await untilEnded(1);
  time.atMs += 60_000;
  repair.look();
  await untilEnded(2);
  away = false;
  time.atMs += 60_000;
  repair.look();
  await untilEnded(3);
  assert.deepEqual([outcomes, delivered], [['failed', 'failed', 'repaired'], ['a/2']]);
  assert.equal(log.lines.filter((line) => JSON.stringify(line).includes('the database is away')).length, 1);
});

test('what was not asked for, or is no event, is not delivered', async () => {
  for (const wrong of [
    event(9),
    event(2, { entityId: 'b' }),
    event(2, { entityType: 'other' }),
    { type: 'Happened' },
    event(2, { type: '' }),
  ]) {
    const { state, repair, outcomes, delivered, untilEnded } = setUp(() => [event(2), wrong]);
    state.gaps = [gapOf('a', 2, 3)];
    repair.look();
    await untilEnded(1);
    assert.deepEqual([outcomes, delivered], [['failed'], []], JSON.stringify(wrong));
  }
});

test('what comes when the channel is another by now is left', async () => {
  let answer: (events: NewEvent[]) => void = () => undefined;
  const { state, repair, delivered, outcomes } = setUp(() => new Promise((resolve) => (answer = resolve)));
  state.gaps = [gapOf('a', 2)];
  repair.look();
  state.channel = aChannel();
  answer([event(2)]);
  await repair.stop(1_000);
  assert.deepEqual([delivered, outcomes], [[], []]);
});

test('once stopped it asks no more, and waits for no source', async () => {
  const { state, repair, asked, outcomes } = setUp(() => new Promise(() => undefined));
  state.gaps = [gapOf('a', 2)];
  repair.look();
  await repair.stop(60_000);
  state.gaps = [gapOf('b', 2)];
  repair.look();
  assert.deepEqual([asked, outcomes], [['a 2-2'], []]);
});

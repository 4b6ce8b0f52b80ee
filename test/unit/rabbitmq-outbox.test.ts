import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { Outbox, type OutboxEntry } from '../../src/rabbitmq/outbox.ts';

const limits = { maxEntries: 3, maxBytes: 100 };
const message = (name: string, bytes = 1) => ({ routingKey: name, body: Buffer.alloc(bytes), properties: {} });
const ignore = () => {};
const name = (entry: OutboxEntry | null) => entry?.message.routingKey ?? null;

function filled(...names: readonly string[]): Outbox {
  const outbox = new Outbox(limits);
  for (const each of names) outbox.add(message(each), ignore);
  return outbox;
}

function takeAll(outbox: Outbox): OutboxEntry[] {
  const taken: OutboxEntry[] = [];
  for (let entry = outbox.takeNext(); entry !== null; entry = outbox.takeNext()) taken.push(entry);
  return taken;
}

test('entries are taken in the order in which they were added, each once', () => {
  const outbox = filled('a', 'b', 'c');
  assert.deepEqual(takeAll(outbox).map(name), ['a', 'b', 'c']);
  assert.equal(outbox.takeNext(), null);
  outbox.add(message('d'), ignore);
  assert.equal(name(outbox.takeNext()), 'd');
  assert.equal(outbox.inFlight, 4);
});

test('after a rewind what has no outcome is taken again in order, before what was never taken', () => {
  const outbox = filled('a', 'b', 'c', 'd', 'e');
  const [, b, c] = [outbox.takeNext(), outbox.takeNext(), outbox.takeNext(), outbox.takeNext()];
  outbox.settle(b!, { status: 'confirmed' });
  c!.returned = 'NO_ROUTE';
  outbox.rewind();
  assert.equal(outbox.inFlight, 0);
  assert.equal(c!.returned, null, 'whether it is returned is decided by its next sending');
  assert.deepEqual(takeAll(outbox).map(name), ['a', 'c', 'd', 'e']);
});

test('what was put back is taken again only after a rewind, in its place', () => {
  const outbox = filled('a', 'b', 'c');
  const [, b] = takeAll(outbox);
  outbox.putBack(b!);
  assert.deepEqual([outbox.inFlight, b!.refusals], [2, 1]);
  assert.equal(outbox.takeNext(), null);
  outbox.add(message('d'), ignore);
  outbox.rewind();
  assert.deepEqual(takeAll(outbox).map(name), ['a', 'b', 'c', 'd']);
});

test('there is room below both limits, and always for one event', () => {
  const outbox = filled('a', 'b');
  assert.equal(outbox.hasRoom, true);
  outbox.add(message('c'), ignore);
  assert.equal(outbox.hasRoom, false);
  outbox.settle(outbox.takeNext()!, { status: 'confirmed' });
  assert.equal(outbox.hasRoom, true);
  outbox.add(message('large', 1_000), ignore);
  for (const entry of takeAll(outbox).slice(0, 2)) outbox.settle(entry, { status: 'confirmed' });
  assert.equal(outbox.size, 1);
  assert.equal(outbox.hasRoom, false, 'the large one fills it');
  outbox.settleAll({ status: 'failed', error: new Error('given up') });
  assert.equal(outbox.hasRoom, true);
});

test('each entry has one outcome, whatever is said about it afterwards', () => {
  const outcomes: string[] = [];
  const outbox = new Outbox(limits);
  outbox.add(message('a'), ({ status }) => outcomes.push(status));
  const entry = outbox.takeNext()!;
  outbox.settle(entry, { status: 'returned', detail: 'NO_ROUTE' });
  outbox.settle(entry, { status: 'confirmed' });
  outbox.settleAll({ status: 'confirmed' });
  assert.deepEqual(outcomes, ['returned']);
  assert.deepEqual([outbox.size, outbox.inFlight], [0, 0]);
});

test('any interleaving of adding, taking, settling and losing keeps the order and the counts of a plain list', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('add' as const), count: fc.integer({ min: 1, max: 700 }) }),
    fc.record({ kind: fc.constant('take' as const), count: fc.integer({ min: 1, max: 900 }) }),
    fc.record({ kind: fc.constant('settle' as const), from: fc.nat(50), count: fc.integer({ min: 1, max: 600 }) }),
    fc.constant({ kind: 'rewind' as const }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const outbox = new Outbox({ maxEntries: 1_000, maxBytes: 1e9 });
      let added = 0;
      /** The model: what has no outcome, in order, with its entry once it is in flight. */
      let model: { readonly name: string; entry: OutboxEntry | null }[] = [];
      for (const each of steps) {
        if (each.kind === 'add') {
          for (let n = 0; n < each.count; n++) {
            outbox.add(message(String(added)), ignore);
            model.push({ name: String(added++), entry: null });
          }
        } else if (each.kind === 'take') {
          for (let n = 0; n < each.count; n++) {
            const entry = outbox.takeNext();
            const expected = model.find((candidate) => candidate.entry === null);
            assert.equal(name(entry), expected?.name ?? null);
            if (expected !== undefined) expected.entry = entry;
            else break;
          }
        } else if (each.kind === 'settle') {
          const chosen = model.filter(({ entry }) => entry !== null).slice(each.from, each.from + each.count);
          for (const { entry } of chosen) outbox.settle(entry!, { status: 'confirmed' });
          model = model.filter((candidate) => !chosen.includes(candidate));
        } else {
          outbox.rewind();
          for (const candidate of model) candidate.entry = null;
        }
        const inFlight = model.filter(({ entry }) => entry !== null);
        assert.equal(outbox.size, model.length);
        assert.equal(outbox.inFlight, inFlight.length);
        assert.equal(name(outbox.newestInFlight), inFlight.at(-1)?.name ?? null);
        assert.equal(name(outbox.findInFlight(() => true)), inFlight[0]?.name ?? null);
      }
    }),
    { numRuns: 60 },
  );
});

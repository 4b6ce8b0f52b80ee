/** What a shard lets in by its bytes, and when it calls the rest back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RawDelivery } from '../../src/rabbitmq/shard-channel.ts';
import { systemTime } from '../../src/time.ts';
import { type Admitted, deliveryBytes, DeliveryMemory, Intake, type IntakeOptions } from '../../src/worker/intake.ts';
import { waitFor } from '../support/services.ts';
import { rawMessage } from '../support/raw-message.ts';

const size = 10_000;
const each = deliveryBytes({ body: new Uint8Array(size) });

function delivery(tag: number, id: number, { redelivered = false, bytes = size } = {}): RawDelivery {
  return { tag, redelivered, message: rawMessage({ body: new Uint8Array(bytes), routingKey: 'a', messageId: `m-${id}` }) };
}

const numbered = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => delivery(from + index, from + index));
const tags = (admitted: readonly Admitted[]) => admitted.map(({ delivery }) => delivery.tag);

/** A shard alone takes half of the memory: what stays free is as much. */
function setUp(memory = new DeliveryMemory(each * 8), options: Partial<IntakeOptions> = {}) {
  const given: number[] = [];
  let missed = 0;
  const intake = new Intake({
    memory,
    waiting: () => 0,
    giveBack: (tag) => given.push(tag),
    onMissed: () => missed++,
    time: systemTime,
    ...options,
  });
  return { intake, memory, given, missed: () => missed };
}

test('what fits is let in; the rest is given back in order as room comes, and let in when it comes again', () => {
  const { intake, memory, given } = setUp();
  assert.deepEqual(tags(intake.admit(numbered(1, 10))), [1, 2, 3, 4]);
  assert.equal(intake.outside, 6);
  assert.equal(intake.refill(), 0);
  intake.settled(1);
  intake.settled(2);
  assert.equal(intake.refill(), 2);
  assert.deepEqual(given, [5, 6]);
  // What is new comes in between and waits behind.
  assert.deepEqual(
    tags(intake.admit([delivery(11, 11), delivery(12, 5, { redelivered: true }), delivery(13, 6, { redelivered: true })])),
    [12, 13],
  );
  assert.equal(intake.outside, 5);
  for (const tag of [3, 4, 12, 13]) intake.settled(tag);
  intake.refill();
  assert.deepEqual(given, [5, 6, 7, 8, 9, 10]);
  intake.end();
  assert.equal(memory.usedBytes, 0);
});

test('one is let in whatever its size where nothing is in work, also beside what is held', () => {
  let held = 0;
  const { intake, given } = setUp(new DeliveryMemory(each * 2), { waiting: () => held });
  assert.deepEqual(tags(intake.admit([delivery(1, 1, { bytes: 1_000_000 }), delivery(2, 2)])), [1]);
  held = 1;
  assert.equal(intake.refill(), 1);
  assert.deepEqual(given, [2]);
  assert.deepEqual(tags(intake.admit([delivery(3, 2, { redelivered: true }), delivery(4, 4)])), [3]);
  intake.end();
});

test('beside what is stuck in work the rest is let in one at a time', () => {
  let waiting = 0;
  const { intake, given } = setUp(new DeliveryMemory(each * 2), { waiting: () => waiting });
  assert.deepEqual(tags(intake.admit(numbered(1, 4))), [1]);
  assert.equal(intake.refill(), 0, 'it may make room');
  waiting = 1;
  assert.equal(intake.refill(), 1);
  assert.equal(intake.refill(), 0);
  assert.deepEqual(tags(intake.admit([delivery(5, 2, { redelivered: true })])), [5]);
  assert.equal(intake.refill(), 0);
  intake.settled(5);
  assert.equal(intake.refill(), 1);
  assert.deepEqual(given, [2, 3]);
  intake.end();
});

test('a shard that is full leaves room for the others', () => {
  const memory = new DeliveryMemory(each * 9);
  const shards = [setUp(memory), setUp(memory), setUp(memory)];
  const taken = shards.map(({ intake }) => intake.admit(numbered(1, 100)).length);
  assert.ok(
    taken.every((count) => count >= 1),
    `${taken}`,
  );
  assert.ok(memory.usedBytes <= memory.maxBytes);
  for (const { intake } of shards) intake.end();
});

test('what does not come again, for its queue was purged, keeps no room for ever', async () => {
  const { intake, given, missed } = setUp(new DeliveryMemory(each * 2), { patienceMs: 1 });
  intake.admit(numbered(1, 3));
  intake.settled(1);
  intake.refill();
  assert.deepEqual(given, [2]);
  await waitFor(() => missed() > 0, { what: 'the room to be free again' });
  intake.refill();
  assert.deepEqual(given, [2, 3]);
  intake.end();
});

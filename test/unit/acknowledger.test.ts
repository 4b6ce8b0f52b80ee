import assert from 'node:assert/strict';
import test from 'node:test';
import { Acknowledger } from '../../src/rabbitmq/shard-channel.ts';
import { heapBytes } from '../support/heap.ts';

function setUp(arrivals: number) {
  const frames: (readonly [tag: number, kind: 'one' | 'multiple' | 'reject' | 'give back'])[] = [];
  const acknowledger = new Acknowledger({
    ack: (tag, multiple) => frames.push([tag, multiple ? 'multiple' : 'one']),
    reject: (tag) => frames.push([tag, 'reject']),
    giveBack: (tag) => frames.push([tag, 'give back']),
  });
  for (let tag = 1; tag <= arrivals; tag++) acknowledger.arrived(tag);
  return { acknowledger, frames };
}

test('tags are acknowledged together as far as everything below is settled, and one by one above a held one', () => {
  const { acknowledger, frames } = setUp(8);
  for (const tag of [1, 3, 4, 6]) acknowledger.ack(tag);
  acknowledger.flush();
  assert.deepEqual(frames.splice(0), [
    [1, 'one'],
    [3, 'one'],
    [4, 'one'],
    [6, 'one'],
  ]);
  for (const tag of [2, 5, 7]) acknowledger.ack(tag);
  acknowledger.flush();
  assert.deepEqual(frames.splice(0), [[7, 'multiple']]);
});

test('a rejected tag is settled, and is never covered by an acknowledgement before it left', () => {
  const { acknowledger, frames } = setUp(3);
  acknowledger.ack(1);
  acknowledger.reject(2);
  acknowledger.ack(3);
  acknowledger.flush();
  assert.deepEqual(frames, [
    [2, 'reject'],
    [3, 'multiple'],
  ]);
});

test('the last tag of all is acknowledged with those before it', () => {
  const { acknowledger, frames } = setUp(2);
  for (const tag of [1, 2]) acknowledger.ack(tag);
  acknowledger.flush();
  assert.deepEqual(frames, [[2, 'multiple']]);
});

test('what goes past a held delivery takes no memory, however long it is held', () => {
  const acknowledger = new Acknowledger({ ack: () => {}, reject: () => {}, giveBack: () => {} });
  acknowledger.arrived(1);
  const before = heapBytes();
  for (let tag = 2; tag <= 500_000; tag++) {
    acknowledger.arrived(tag);
    acknowledger.ack(tag);
    if (tag % 100 === 0) acknowledger.flush();
  }
  const grown = heapBytes() - before;
  assert.ok(grown < 2_000_000, `${grown} bytes were kept`);
  acknowledger.ack(1);
  acknowledger.flush();
});

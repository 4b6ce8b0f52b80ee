import assert from 'node:assert/strict';
import test from 'node:test';
import { isShardQueueName, planTopology, shardQueueName } from '../../src/rabbitmq/topology-plan.ts';

const options = { stream: 'events', shards: 12, queueType: 'quorum', exchangeType: 'x-consistent-hash' } as const;

test('shards are bound once each with weight "1", in the order of their padded names', () => {
  const ring = planTopology(options).bindings.filter(({ exchange }) => exchange === 'events');
  assert.equal(ring.length, 12);
  assert.deepEqual(ring[11], { exchange: 'events', queue: 'events.shard.011', routingKey: '1' });
  assert.deepEqual(
    ring.map(({ queue }) => queue),
    ring.map(({ queue }) => queue).toSorted(),
  );
  assert.deepEqual(new Set(ring.map(({ routingKey }) => routingKey)), new Set(['1']));
});

test('adding shards changes nothing of those that are there, and comes after them', () => {
  const before = planTopology(options);
  const after = planTopology({ ...options, shards: 14 });
  assert.deepEqual(after.bindings.slice(0, before.bindings.length), before.bindings);
  assert.deepEqual(after.queues.slice(0, before.queues.length), before.queues);
});

test('quorum shards keep order and lose nothing by their arguments, and have none that breaks either', () => {
  const shard = planTopology(options).queues.find(({ name }) => name === 'events.shard.000');
  assert.deepEqual(shard?.arguments, {
    'x-queue-type': 'quorum',
    'x-single-active-consumer': true,
    'x-delivery-limit': 1_000_000,
    'x-dead-letter-exchange': 'events.dlx',
    'x-dead-letter-strategy': 'at-least-once',
    'x-overflow': 'reject-publish',
  });
});

test('classic shards have only arguments that classic queues know; dead letters stay on quorum queues', () => {
  const plan = planTopology({ ...options, queueType: 'classic' });
  const args = Object.fromEntries(plan.queues.map((queue) => [queue.name, queue.arguments]));
  assert.deepEqual(args['events.shard.000'], {
    'x-queue-type': 'classic',
    'x-single-active-consumer': true,
    'x-dead-letter-exchange': 'events.dlx',
  });
  assert.deepEqual(args['events.dead-letters'], { 'x-queue-type': 'quorum', 'x-delivery-limit': 1_000_000 });
});

test('an exchange is made after what it names, and a queue after the exchange of its dead letters', () => {
  const { exchanges, queues } = planTopology(options);
  assert.deepEqual(
    exchanges.map(({ name }) => name),
    ['events.unrouted', 'events.dlx', 'events'],
  );
  assert.deepEqual(
    queues.slice(0, 3).map(({ name }) => name),
    ['events.unrouted', 'events.dead-letters', 'events.shard.000'],
  );
});

test('names of shard queues are told from others that look like them', () => {
  for (const shard of [0, 7, 999, 1_000]) assert.equal(isShardQueueName('events', shardQueueName('events', shard)), true);
  for (const name of ['events.shard.7', 'events.shard.0007', 'events.shard.', 'events.shard.abc', 'other.shard.001', 'xevents.shard.001']) {
    assert.equal(isShardQueueName('events', name), false, name);
  }
});

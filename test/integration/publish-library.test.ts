/** `createPublisher`, as a program uses it, against a real broker. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { EventError } from '../../src/errors.ts';
import { decodeMessage } from '../../src/events/decode.ts';
import { defaultEventLimits, type Event } from '../../src/events/event.ts';
import type { NewEvent } from '../../src/events/encode.ts';
import { createPublisher, type PublisherOptions } from '../../src/publishing/create-publisher.ts';
import { bodiesOf, firstArrivals, messagesOf, outOfOrder, useTopology } from '../support/published.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';

async function usePublisher(t: TestContext, name: string, options: PublisherOptions = {}) {
  const { amqpUrl, stream } = await useTopology(t, name);
  const publisher = createPublisher({ urls: [amqpUrl], stream, ...options });
  t.after(() => publisher.close(0));
  return { publisher, amqpUrl, stream };
}

/** What a worker makes of everything that has been published. */
async function decoded(amqpUrl: string, stream: string): Promise<Event[]> {
  const options = { limits: defaultEventLimits, defaultEntityType: 'order', unsequenced: 'process' as const };
  return (await messagesOf(amqpUrl, stream)).map((message) => {
    const result = decodeMessage(message, options);
    assert.ok(result.ok, JSON.stringify(result));
    return result.event;
  });
}

const moved = (entityId: string, sequence: number): NewEvent => ({
  entityId,
  sequence,
  type: 'moved',
  data: { sequence },
});

test('events arrive in the order of the calls, though nobody waits in between', async (t) => {
  const { publisher, amqpUrl, stream } = await usePublisher(t, 'library-order');
  const outcomes = await Promise.all(Array.from({ length: 500 }, (_, n) => publisher.publish(moved(`e-${n % 5}`, Math.floor(n / 5) + 1))));
  assert.deepEqual(new Set(outcomes.map(({ status }) => status)), new Set(['confirmed']));
  const bodies = await bodiesOf(amqpUrl, stream);
  assert.equal(bodies.length, 500);
  assert.deepEqual(outOfOrder(bodies), []);
});

test('an event reads the same in every format', async (t) => {
  const event: NewEvent = {
    id: 'e1',
    entityType: 'ticket',
    entityId: 'a',
    sequence: 3,
    type: 'moved',
    timestamp: new Date(1_333_472_138_000),
    dataJson: '{"big":12345678901234567890,"one":1.0}',
    metadata: { tenant: 'x' },
  };
  for (const format of ['envelope', 'cloudevents-structured', 'cloudevents-binary'] as const) {
    const { publisher, amqpUrl, stream } = await usePublisher(t, 'library-format', { format });
    assert.deepEqual(await publisher.publish(event), { status: 'confirmed' });
    const [{ id, entityType, entityId, sequence, type, timestampMs, dataJson, metadata }] = (await decoded(amqpUrl, stream)) as [Event];
    assert.deepEqual(
      { id, entityType, entityId, sequence, type, timestampMs, dataJson },
      {
        id: 'e1',
        entityType: 'ticket',
        entityId: 'a',
        sequence: 3,
        type: 'moved',
        timestampMs: 1_333_472_138_000,
        dataJson: event.dataJson,
      },
    );
    assert.equal(metadata.tenant, 'x');
  }
});

test('an event that a handler was given can be sent on as it was', async (t) => {
  const { publisher, amqpUrl, stream } = await usePublisher(t, 'library-forward');
  await publisher.publish({
    ...moved('a', 1),
    dataJson: '{"one":1.0}',
    data: undefined,
    timestamp: '2012-04-03 16:55:38',
  });
  const [received] = (await decoded(amqpUrl, stream)) as [Event];
  await publisher.publish(received);
  assert.deepEqual(await decoded(amqpUrl, stream), [{ ...received, idDerived: false }]);
});

test('events without an entity are spread over the shards by their ids, unsequenced', async (t) => {
  const { publisher, amqpUrl, stream } = await usePublisher(t, 'library-spread', { unsequenced: 'process' });
  await Promise.all(Array.from({ length: 100 }, (_, n) => publisher.publish({ type: 'seen', data: { n } })));
  const messages = await messagesOf(amqpUrl, stream);
  assert.equal(new Set(messages.map(({ routingKey }) => routingKey)).size, 100);
  for (const { routingKey, messageId } of messages) assert.equal(routingKey, messageId);
});

test('an event that a worker would refuse is refused here, and the others go', async (t) => {
  const { publisher, amqpUrl, stream } = await usePublisher(t, 'library-refused', { limits: { maxBodyBytes: 300 } });
  const refused = async (event: NewEvent, reason: string) => {
    await assert.rejects(publisher.publish(event), (error) => error instanceof EventError && error.reason === reason);
  };
  await refused({ ...moved('a', 1), sequence: 1.5 }, 'invalid_sequence');
  await refused({ ...moved('', 1) }, 'invalid_entity');
  await refused({ ...moved('a', 1), sequence: undefined }, 'invalid_sequence');
  await refused({ type: 'moved' }, 'invalid_entity');
  await refused({ ...moved('a', 1), data: 'x'.repeat(300) }, 'too_large');
  assert.deepEqual(await publisher.publish(moved('a', 1)), { status: 'confirmed' });
  assert.equal((await bodiesOf(amqpUrl, stream)).length, 1);
});

test('publishAll counts and tells, and over a connection that is cut sends again in order', async (t) => {
  const { amqpUrl, stream } = await useTopology(t, 'library-all');
  const proxy = await TcpProxy.start(amqpUrl);
  t.after(() => proxy.stop());
  const publisher = createPublisher({ urls: [proxy.through(amqpUrl)], stream, maxOutstanding: 100 });
  t.after(() => publisher.close(0));
  async function* events(): AsyncGenerator<NewEvent> {
    for (let n = 0; n < 3_000; n++) yield moved(`e-${n % 7}`, Math.floor(n / 7) + 1);
  }
  let confirmed = 0;
  const counts = await publisher.publishAll(events(), {
    onProgress: (so) => {
      assert.ok(so.confirmed > confirmed && so.published - so.confirmed <= 100, JSON.stringify(so));
      confirmed = so.confirmed;
      if (confirmed === 500 || confirmed === 1_500) proxy.cut();
    },
  });
  assert.deepEqual(counts, { published: 3_000, confirmed: 3_000, returned: 0, failed: 0 });
  assert.equal(proxy.acceptedConnections, 3);
  const firsts = firstArrivals(await bodiesOf(amqpUrl, stream));
  assert.equal(firsts.length, 3_000);
  assert.deepEqual(outOfOrder(firsts), []);
});

test('publishAll ends with the first event that a worker would refuse; what came before has its outcome', async (t) => {
  const { publisher, amqpUrl, stream } = await usePublisher(t, 'library-all-refused');
  async function* events(): AsyncGenerator<NewEvent> {
    yield moved('a', 1);
    yield moved('a', 0);
    assert.fail('the stream is read no further');
  }
  await assert.rejects(publisher.publishAll(events()), EventError);
  assert.equal((await bodiesOf(amqpUrl, stream)).length, 1);
});

test('closing waits for what is on its way, and what comes after fails', async (t) => {
  const { publisher, amqpUrl, stream } = await usePublisher(t, 'library-close');
  const sent = publisher.publish(moved('a', 1));
  await publisher.close();
  assert.deepEqual(await sent, { status: 'confirmed' });
  assert.equal((await publisher.publish(moved('a', 2))).status, 'failed');
  assert.equal((await bodiesOf(amqpUrl, stream)).length, 1);
});

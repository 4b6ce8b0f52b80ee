import assert from 'node:assert/strict';
import test from 'node:test';
import { defaultEventLimits } from '../../src/events/event.ts';
import { parseFieldMap } from '../../src/publishing/field-map.ts';
import { lineEvents, type LineEvent, type LineEventOptions } from '../../src/publishing/line-events.ts';
import type { TextLine } from '../../src/publishing/text-lines.ts';

const defaults = {
  format: 'envelope',
  limits: defaultEventLimits,
  defaultEntityType: 'order',
  entityType: null,
  map: new Map(),
  sequences: 'number',
  unsequenced: 'reject',
} as const;

async function read(texts: readonly (string | null)[], options: Partial<LineEventOptions> = {}) {
  async function* lines(): AsyncGenerator<TextLine> {
    for (const [index, text] of texts.entries()) yield { line: index + 1, text, problem: text === null ? 'it cannot be read' : null };
  }
  const events: LineEvent[] = [];
  const problems: string[] = [];
  const onProblem = (line: number, problem: string) => void problems.push(`${line}: ${problem}`);
  for await (const event of lineEvents(lines(), { ...defaults, onProblem, ...options })) events.push(event);
  return { events, problems, bodies: events.map(({ body }) => body.toString()) };
}

const event = (entityId: string, more: Record<string, unknown> = {}) => JSON.stringify({ entity_id: entityId, type: 't', ...more });

test('lines without a sequence are numbered 1, 2, 3 per entity in the order of the lines', async () => {
  const { events, problems } = await read([event('a'), event('b'), event('a'), event('a', { entity_type: 'other' }), event('a')]);
  assert.deepEqual(problems, []);
  assert.deepEqual(
    events.map(({ line, event: { entityType, entityId, sequence } }) => [line, entityType, entityId, sequence]),
    [
      [1, '', 'a', 1],
      [2, '', 'b', 1],
      [3, '', 'a', 2],
      [4, 'other', 'a', 1],
      [5, '', 'a', 3],
    ],
  );
});

test('the same entity is the same whether its type is written, defaulted or given for all', async () => {
  const written = await read([event('a'), event('a', { entity_type: 'order' })]);
  assert.deepEqual(
    written.events.map(({ event }) => event.sequence),
    [1, 2],
  );
  const given = await read([event('a'), event('a', { entity_type: 'ticket' })], { entityType: 'ticket' });
  assert.deepEqual(
    given.events.map(({ event }) => [event.entityType, event.sequence]),
    [
      ['ticket', 1],
      ['ticket', 2],
    ],
  );
  assert.match(given.bodies[0]!, /"entity_type":"ticket"/);
});

test('a line that lacks nothing is published as it stands, byte for byte', async () => {
  const text = '{ "entity_id":"a", "type":"t", "sequence":7,"data":{"big":12345678901234567890, "one":1.0} }';
  assert.deepEqual((await read([text])).bodies, [text]);
});

test('a line that is completed keeps the values it has as they were written, and a null gives way', async () => {
  const { bodies, problems } = await read(['{"entity_id":"a","sequence":null,"type":"t","data":{"big":12345678901234567890,"one":1.0}}']);
  assert.deepEqual(problems, []);
  assert.deepEqual(bodies, ['{"entity_id":"a","type":"t","data":{"big":12345678901234567890,"one":1.0},"sequence":1}']);
});

test('the id, type, entity and time of the event are on the outside of its message', async () => {
  const { events } = await read([event('a', { timestamp: '2012-04-03 16:55:38' })]);
  const { routingKey, properties, event: read1 } = events[0]!;
  assert.equal(routingKey, 'a');
  const timestamp = Date.UTC(2012, 3, 3, 16, 55, 38) / 1_000;
  assert.deepEqual(properties, {
    contentType: 'application/json',
    persistent: true,
    messageId: read1.id,
    type: 't',
    timestamp,
    headers: {},
  });
});

test('an entity with events with and without a sequence is refused where they meet, and no other is', async () => {
  const mixture = 'has events with a sequence and events without: give all of them one, or none';
  const { events, problems } = await read([
    event('a', { sequence: 1 }),
    event('a'),
    event('b'),
    event('b', { sequence: 2 }),
    event('c'),
    event('b'),
  ]);
  assert.deepEqual(problems, [`2: entity "a" ${mixture}`, `4: entity "b" ${mixture}`]);
  assert.deepEqual(
    events.map(({ line, event }) => [line, event.sequence]),
    [
      [1, 1],
      [3, 1],
      [5, 1],
      [6, 2],
    ],
  );
});

test('an event of no entity is spread by its id and has no sequence', async () => {
  const { events, problems } = await read(['{"type":"t","data":1}', '{"type":"t","data":2}'], { unsequenced: 'process' });
  assert.deepEqual(problems, []);
  for (const { event, routingKey } of events) {
    assert.equal(routingKey, event.id);
    assert.equal(event.sequence, null);
  }
  assert.notEqual(events[0]!.event.id, events[1]!.event.id);
});

test('lines that are no events are reported with their numbers, and the others come out', async () => {
  const { events, problems } = await read([
    event('a'),
    '{"entity_id":"a"',
    '[1]',
    null,
    '{"entity_id":7,"type":"t"}',
    '{"entity_id":"x","type":"t","sequence":1.5}',
    '{"entity_id":"x","type":"t","timestamp":"yesterday"}',
    '{"sequence":1,"type":"t"}',
    `{"entity_id":"x","type":"t","sequence":1,"data":"${'x'.repeat(1_048_576)}"}`,
    `{"entity_id":"x","type":"t","sequence":1,"data":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
    event('x'.repeat(256)),
    event('b'),
  ]);
  assert.deepEqual(
    events.map(({ line }) => line),
    [1, 12],
  );
  assert.equal(problems.length, 10);
  for (const [index, expected] of [
    /^2: malformed/,
    /^3: malformed/,
    /^4: it cannot/,
    /^5: invalid_entity/,
    /^6: invalid_sequence/,
    /^7: /,
    /^8: invalid_entity/,
    /^9: too_large/,
    /^10: malformed/,
    /^11: invalid_entity/,
  ].entries()) {
    assert.match(problems[index]!, expected);
  }
});

test('a line that cannot be read is judged as it stands, not as what would be added to it', async () => {
  const { problems } = await read(['oops', '{}'], { entityType: 'ticket' });
  assert.match(problems[0]!, /^1: malformed: the body is not JSON/);
  assert.match(problems[1]!, /^2: malformed: type is missing/);
});

test('a bad line of a known entity keeps its number, so that its successors wait for the corrected one', async () => {
  const { events, problems } = await read([event('a'), '{"entity_id":"a"}', event('a')]);
  assert.equal(problems.length, 1);
  assert.deepEqual(
    events.map(({ event }) => event.sequence),
    [1, 3],
  );
});

test('structured CloudEvents are read and numbered', async () => {
  const text = JSON.stringify({ specversion: '1.0', id: 'e1', source: '/s', type: 't', subject: 'a', data: [] });
  const { events, problems, bodies } = await read([text], { format: 'cloudevents', entityType: 'ticket' });
  assert.deepEqual(problems, []);
  assert.equal(events[0]!.properties.contentType, 'application/cloudevents+json');
  assert.deepEqual([events[0]!.event.entityType, events[0]!.event.entityId, events[0]!.event.sequence], ['ticket', 'a', 1]);
  assert.match(bodies[0]!, /"entitytype":"ticket","sequence":"1"}$/);
});

test('a CloudEvent among envelopes is noticed instead of being taken for an event of no entity', async () => {
  const { problems } = await read(['{"specversion":"1.0","id":"e1","source":"/s","type":"t","subject":"a"}']);
  assert.deepEqual(problems, ['1: this is a CloudEvent: give --format cloudevents']);
});

test('what a map names may be the place of another field: neither is lost, whatever the order', async () => {
  const idsOf = async (text: string, map: string) =>
    (await read([text], { map: parseFieldMap(map) })).events.map(({ event }) => `${event.id} of ${event.entityId}`);
  for (const map of ['id=eventId,entity_id=id', 'entity_id=id,id=eventId'])
    assert.deepEqual(await idsOf('{"id":"A","eventId":"e-1","type":"t"}', map), ['e-1 of A'], map);
  for (const map of ['id=entity_id,entity_id=id', 'entity_id=id,id=entity_id'])
    assert.deepEqual(await idsOf('{"id":"A","entity_id":"e-1","type":"t"}', map), ['e-1 of A'], map);
  assert.deepEqual(await idsOf('{"key":7,"type":"t"}', 'id=key,entity_id=key'), ['7 of 7']);
});

test('for a stream that counts from 0 lines are numbered from 0', async () => {
  const { events } = await read([event('a'), event('b'), event('a')], { limits: { ...defaultEventLimits, firstSequence: 0 } });
  assert.deepEqual(
    events.map(({ event: { entityId, sequence } }) => `${entityId}${sequence}`),
    ['a0', 'b0', 'a1'],
  );
});

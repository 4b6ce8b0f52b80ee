import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test from 'node:test';
import fc from 'fast-check';
import { type DecodeOptions, decodeMessage } from '../../src/events/decode.ts';
import { type Event, defaultEventLimits, type RawMessage, type Refusal } from '../../src/events/event.ts';
import { fingerprint } from '../../src/events/identity.ts';
import { rawMessage } from '../support/raw-message.ts';

const options: DecodeOptions = { limits: defaultEventLimits, defaultEntityType: 'order', unsequenced: 'reject' };
const unsequenced: DecodeOptions = { ...options, unsequenced: 'process' };

const plain = { id: 'e-1', entity_type: 'thing', entity_id: 'a', sequence: 3, type: 'Happened', data: { n: 1 } };

function raw(body: unknown, rest: Partial<RawMessage> = {}): RawMessage {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return rawMessage({ body: Buffer.from(text), routingKey: 'a', contentType: 'application/json', ...rest });
}

function eventOf(body: unknown, rest: Partial<RawMessage> = {}, how = options): Event {
  const decoded = decodeMessage(raw(body, rest), how);
  assert.ok(decoded.ok, decoded.ok ? '' : decoded.refusal.detail);
  return decoded.event;
}

function refusalOf(body: unknown, rest: Partial<RawMessage> = {}, how = options): Refusal {
  const decoded = decodeMessage(raw(body, rest), how);
  assert.ok(!decoded.ok, 'it was accepted');
  return decoded.refusal;
}

test('an envelope becomes the event that it describes', () => {
  const body = { ...plain, timestamp: '2024-05-01T12:00:00.5Z', metadata: { by: 'shop' } };
  const { payloadHash, ...rest } = eventOf(body);
  assert.match(payloadHash, /^[\w-]{16}$/);
  assert.deepEqual(rest, {
    id: 'e-1',
    idDerived: false,
    entityType: 'thing',
    entityId: 'a',
    sequence: 3,
    type: 'Happened',
    timestamp: '2024-05-01T12:00:00.5Z',
    timestampMs: Date.UTC(2024, 4, 1, 12, 0, 0, 500),
    data: { n: 1 },
    dataJson: '{"n":1}',
    metadata: { by: 'shop' },
  });
});

test('what an envelope leaves out or gives as null has its default', () => {
  for (const absent of [undefined, null]) {
    const body = { entity_type: absent, timestamp: absent, data: absent, metadata: absent, sequence: absent, schema_version: absent };
    const event = eventOf({ ...plain, ...body });
    assert.equal(event.entityType, 'order');
    assert.equal(event.sequence, null);
    assert.equal(event.timestampMs, null);
    assert.equal(event.data, null);
    assert.equal(event.dataJson, 'null');
    assert.deepEqual(event.metadata, {});
  }
});

test('a refusal carries every field that could be read', () => {
  const refusal = refusalOf({ ...plain, sequence: 0 });
  assert.deepEqual(
    { ...refusal, detail: '' },
    { reason: 'invalid_sequence', detail: '', id: 'e-1', entityType: 'thing', entityId: 'a', sequence: null, type: 'Happened' },
  );
  assert.equal(refusalOf(plain, { routingKey: 'b' }).sequence, 3);
  assert.equal(refusalOf({ ...plain, type: 7 }).entityId, 'a');
});

test('a refusal carries no field that is bad, for it goes into keys and records', () => {
  const refusal = refusalOf({ ...plain, id: 'a\nb', entity_id: 'x'.repeat(513), type: 'y'.repeat(513) });
  assert.deepEqual([refusal.id, refusal.entityType, refusal.entityId, refusal.type], [null, 'thing', 'a', null]);
  assert.equal(refusalOf({ ...plain, entity_id: 7 }, { routingKey: 'a\nb' }).entityId, null);
});

test('no detail repeats anything of the payload', () => {
  const secret = 'hunter2';
  const bodies = [
    `{"data":"${secret}`,
    `"${secret}"`,
    `${secret}`,
    JSON.stringify({ ...plain, sequence: secret }),
    JSON.stringify({ ...plain, entity_id: { secret } }),
    JSON.stringify({ ...plain, entity_id: `${secret}\n` }),
    JSON.stringify({ ...plain, timestamp: secret }),
    JSON.stringify({ ...plain, schema_version: secret }),
    JSON.stringify({ ...plain, metadata: secret }),
    `{"${secret}":1,"${secret}":1}`,
  ];
  for (const body of bodies) assert.doesNotMatch(refusalOf(body).detail, /hunter2/);
});

test('the detail names the field as the format calls it', () => {
  assert.match(refusalOf({ ...plain, entity_id: 7 }).detail, /^entity_id is a number/);
  const cloudEvent = { specversion: '1.0', id: '1', source: '/', type: 'T' };
  assert.match(refusalOf(cloudEvent, { contentType: 'application/cloudevents+json' }).detail, /^subject is missing/);
});

test('the detail says what is wrong with the text, and where', () => {
  assert.match(refusalOf('\ufeff{}').detail, /byte-order mark$/);
  assert.match(refusalOf('').detail, /empty$/);
  assert.match(refusalOf(' \n').detail, /blank$/);
  assert.match(refusalOf('{"a":1,}').detail, /at character 7$/);
});

test('each limit holds exactly', () => {
  const limits = { maxBodyBytes: 200, maxEntityIdBytes: 10, maxHeaderBytes: 12, maxJsonDepth: 3, firstSequence: 1 } as const;
  const tight = { ...options, limits };
  const padded = (length: number) => JSON.stringify(plain).padEnd(length, ' ');
  eventOf(padded(200), {}, tight);
  assert.equal(refusalOf(padded(201), {}, tight).reason, 'too_large');
  eventOf({ ...plain, entity_id: 'ééééé' }, { routingKey: 'ééééé' }, tight);
  assert.equal(refusalOf({ ...plain, entity_id: 'éééééa' }, { routingKey: 'éééééa' }, tight).reason, 'invalid_entity');
  eventOf(plain, { headers: { key: 'ninebytes' } }, tight);
  assert.equal(refusalOf(plain, { headers: { key: 'ten bytes!' } }, tight).reason, 'too_large');
  assert.equal(refusalOf(plain, { headers: { key: [{ a: 1 }, Buffer.alloc(9)] } }, tight).reason, 'too_large');
  eventOf({ ...plain, data: [[]] }, {}, tight);
  assert.equal(refusalOf({ ...plain, data: [[[]]] }, {}, tight).reason, 'malformed');
});

test('headers nested without end are measured without recursion', () => {
  let headers: Record<string, unknown> = {};
  for (let depth = 0; depth < 50_000; depth++) headers = { a: headers };
  eventOf(plain, { headers });
});

test('an event without id gets the first 32 hex digits of the SHA-256 of its canonical envelope', () => {
  const canonical = '{"data":{"a":[2,{"b":1,"c":1}],"z":1.5},"entity_id":"a","sequence":1,"type":"T"}';
  const expected = createHash('sha256').update(canonical).digest('hex').slice(0, 32);
  const event = eventOf('{ "type": "T", "sequence": 1.0, "data": {"z":1.50,"a":[2,{"c":1,"b":1}]}, "\\u0065ntity_id": "a" }');
  assert.equal(event.id, expected);
  assert.ok(event.idDerived);
});

test('the payload hash is the first 16 base64url characters of a SHA-256 over type and canonical data', () => {
  const expected = createHash('sha256').update('"Happened"{"n":1}').digest('base64url').slice(0, 16);
  assert.equal(eventOf(plain).payloadHash, expected);
});

const hashOf = (data: string, type = 'T') =>
  eventOf(`{"entity_id":"a","sequence":1,"type":${JSON.stringify(type)},"data":${data}}`).payloadHash;

test('payloads that mean the same have the same hash', () => {
  for (const [one, other] of [
    ['{"a":1,"b":[{"c":2,"d":3}]}', '{ "b" : [ { "d" : 3, "c" : 2 } ], "a" : 1 }'],
    ['"é"', '"\\u00e9"'],
    ['{"é":1}', '{"\\u00E9":1}'],
    ['100', '1e2'],
    ['1', '1.0'],
    ['0', '-0'],
    ['12345678901234567890', '1234567890123456789e1'],
  ] as const) {
    assert.equal(hashOf(one), hashOf(other), `${one} and ${other}`);
  }
});

test('payloads that differ have different hashes, also where JavaScript numbers do not', () => {
  for (const [one, other] of [
    ['9007199254740992', '9007199254740993'],
    ['0.1', '0.1000000000000000055511151231257827'],
    ['1e400', '1e401'],
    ['1e-400', '0'],
    ['1e90071992547409930', '1e90071992547409931'],
    ['12345678901234567891', '"12345678901234567891"'],
    ['{"a":1,"b":2}', '{"a":2,"b":1}'],
    ['[1,2]', '[2,1]'],
    ['[]', '{}'],
    ['null', '"null"'],
  ] as const) {
    assert.notEqual(hashOf(one), hashOf(other), `${one} and ${other}`);
  }
  assert.notEqual(hashOf('1', 'T'), hashOf('1', 'U'));
});

test('the same event hashes alike in every format', () => {
  const type = 'application/cloudevents+json';
  const attributes = { specversion: '1.0', id: 'e-1', source: '/', type: 'Happened', subject: 'a', sequence: '3' };
  const structured = eventOf({ ...attributes, data: { n: 1 } }, { contentType: type });
  const headers = Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`cloudEvents:${name}`, value]));
  const binary = eventOf({ n: 1 }, { headers });
  assert.equal(structured.payloadHash, eventOf(plain).payloadHash);
  assert.equal(binary.payloadHash, eventOf(plain).payloadHash);
});

test('a fingerprint is the first 32 hex digits of the SHA-256 of the bytes', () => {
  assert.equal(fingerprint(Buffer.from('abc')), 'ba7816bf8f01cfea414140de5dae2223');
});

test('attributes of a CloudEvent that have no other place become metadata', () => {
  const headers = {
    'cloudEvents:specversion': '1.0',
    'cloudEvents:id': '1',
    'cloudEvents:source': '/shop',
    'cloudEvents:type': 'T',
    'cloudEvents:subject': 'a',
    cloudEvents_sequence: 2,
    'cloudEvents:time': { '!': 'timestamp', value: 1_714_564_800 },
    'cloudEvents:tenant': 'x',
    'cloudEvents:__proto__': { entitytype: 'forged' },
    'cloudEvents:Tenant': 'no attribute: it is not in lower case',
    traceparent: '00-1-1-01',
  };
  const event = eventOf('1', { headers });
  assert.deepEqual(event.metadata, { source: '/shop', tenant: 'x' });
  assert.equal(event.timestamp, '2024-05-01T12:00:00.000Z');
  assert.equal(event.sequence, 2);
  assert.equal(event.entityType, 'order');
});

test('a time without an offset is UTC, in whatever zone the worker stands', (t) => {
  const zone = process.env.TZ;
  t.after(() => {
    if (zone === undefined) delete process.env.TZ;
    else process.env.TZ = zone;
  });
  process.env.TZ = 'America/New_York';
  assert.notEqual(new Date(0).getTimezoneOffset(), 0);
  const noon = Date.UTC(2024, 4, 1, 12);
  const forms = [
    '2024-05-01T12:00:00Z',
    '2024-05-01 12:00:00',
    '2024-05-01T12:00',
    '2024-05-01T14:00:00+02:00',
    '2024-05-01 07:00:00.000 -0500',
    '2024-05-01T12:00:00,0z',
    '2024-05-01T13:00+01',
  ];
  for (const timestamp of forms) assert.equal(eventOf({ ...plain, timestamp }).timestampMs, noon, timestamp);
  assert.equal(eventOf({ ...plain, timestamp: '2024-05-01' }).timestampMs, Date.UTC(2024, 4, 1));
  for (const timestamp of ['2024-13-01', '2024-05-01T25:00Z', '1714564800', '', '2024-05-01T', 'Wed May 1 2024']) {
    assert.equal(refusalOf({ ...plain, timestamp }).reason, 'malformed', timestamp);
  }
});

test('the AMQP timestamp stands in for one in the event, if it is sane', () => {
  assert.equal(eventOf(plain, { timestamp: 1_714_564_800 }).timestamp, '2024-05-01T12:00:00.000Z');
  assert.equal(eventOf({ ...plain, timestamp: '2020-01-01' }, { timestamp: 1_714_564_800 }).timestamp, '2020-01-01');
  for (const timestamp of [0, -1, 1e300, Number.NaN]) assert.equal(eventOf(plain, { timestamp }).timestamp, null);
});

test('with UNSEQUENCED=process an event of no entity is its own, wherever it was routed', () => {
  const named = eventOf({ id: 'e-9', type: 'T' }, { routingKey: 'anything' }, unsequenced);
  assert.deepEqual([named.entityId, named.sequence, named.entityType], ['e-9', null, 'order']);
  const nameless = eventOf({ type: 'T' }, { routingKey: '' }, unsequenced);
  assert.equal(nameless.entityId, nameless.id);
  assert.equal(refusalOf({ type: 'T' }).reason, 'invalid_entity');
});

test('with UNSEQUENCED=process an entity id is still checked, and a sequence still needs one', () => {
  assert.equal(refusalOf({ type: 'T', entity_id: 'a' }, { routingKey: 'b' }, unsequenced).reason, 'misrouted');
  assert.equal(refusalOf({ type: 'T', entity_id: '' }, {}, unsequenced).reason, 'invalid_entity');
  assert.equal(refusalOf({ type: 'T', sequence: 1 }, {}, unsequenced).reason, 'invalid_entity');
  assert.equal(eventOf({ type: 'T', entity_id: 'a' }, {}, unsequenced).entityId, 'a');
});

const headerValue = fc.oneof(fc.string(), fc.double(), fc.boolean(), fc.constant(null), fc.dictionary(fc.string(), fc.string()));
const properties = fc.record({
  contentType: fc.constantFrom(undefined, 'application/json', 'application/cloudevents+json', 'text/plain', ';', 'a/b;charset'),
  contentEncoding: fc.option(fc.string(), { nil: undefined }),
  headers: fc.dictionary(
    fc.constantFrom('cloudEvents:specversion', 'cloudEvents:id', 'cloudEvents_sequence', 'cloudEvents:time', 'x'),
    headerValue,
  ),
  timestamp: fc.option(fc.double(), { nil: undefined }),
});

test('no bytes and no properties make the decoder throw', () => {
  const member = fc.constantFrom('id', 'entity_id', 'sequence', 'type', 'data', 'metadata', 'timestamp', 'specversion', 'subject');
  const body = fc.oneof(
    fc.uint8Array(),
    fc.json().map((text) => Buffer.from(text)),
    fc.dictionary(member, fc.jsonValue()).map((value) => Buffer.from(JSON.stringify(value))),
  );
  fc.assert(
    fc.property(body, properties, fc.constantFrom('reject' as const, 'process' as const), (bytes, rest, unsequencedIs) => {
      const decoded = decodeMessage(raw('', { ...rest, body: bytes }), { ...options, unsequenced: unsequencedIs });
      assert.equal(typeof decoded.ok, 'boolean');
    }),
    { numRuns: 2_000 },
  );
});

test('whatever is cut out of an envelope or put into it, an accepted event is a good one', () => {
  const text = JSON.stringify({ ...plain, metadata: { é: '\n' } });
  const edit = fc.record({
    at: fc.nat(text.length),
    cut: fc.nat(4),
    put: fc.constantFrom('', '"', '\\', '{', '}', ',', ':', '0', '1', '\\ud800', ' '),
  });
  fc.assert(
    fc.property(edit, ({ at, cut, put }) => {
      const edited = text.slice(0, at) + put + text.slice(at + cut);
      const decoded = decodeMessage(raw(edited), options);
      if (!decoded.ok) return;
      assert.equal(decoded.event.entityId, 'a');
      assert.deepEqual(JSON.parse(decoded.event.dataJson), decoded.event.data);
      assert.ok(edited.includes(decoded.event.dataJson) || decoded.event.dataJson === 'null');
    }),
    { numRuns: 3_000 },
  );
});

test('a stream that counts from 0 takes a sequence 0 in every format; elsewhere the detail of a 0 names the setting, and of nothing else', () => {
  const zero = { ...options, limits: { ...defaultEventLimits, firstSequence: 0 } } as const;
  const body = (sequence: string) => `{"entity_id":"a","type":"T","sequence":${sequence}}`;
  for (const text of ['0', '0.0', '-0', '0e3']) assert.ok(Object.is(eventOf(body(text), {}, zero).sequence, 0), text);
  assert.equal(refusalOf(body('-1'), {}, zero).detail, 'sequence is not a whole number from 0 to 2^53 - 1');
  const headers = {
    'cloudEvents:specversion': '1.0',
    'cloudEvents:id': 'e',
    'cloudEvents:source': '/',
    'cloudEvents:type': 'T',
    'cloudEvents:subject': 'a',
    'cloudEvents:sequence': '0',
  };
  assert.equal(eventOf('', { headers }, zero).sequence, 0);
  assert.equal(refusalOf('{"entity_id":"a","sequence":0,"type":"T"', {}, zero).sequence, 0);
  for (const refusal of [refusalOf(body('0')), refusalOf('', { headers })]) {
    assert.deepEqual(
      [refusal.reason, refusal.detail],
      ['invalid_sequence', 'sequence is not a whole number from 1 to 2^53 - 1; for producers that count from 0 set FIRST_SEQUENCE=0'],
    );
  }
  assert.equal(refusalOf(body('1.5')).detail, 'sequence is not a whole number from 1 to 2^53 - 1');
});

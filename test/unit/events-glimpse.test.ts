import assert from 'node:assert/strict';
import test from 'node:test';
import { deflateSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { decodeMessage } from '../../src/events/decode.ts';
import { defaultEventLimits, type RawMessage } from '../../src/events/event.ts';
import { glimpseMembers } from '../../src/events/glimpse.ts';
import { messageFingerprint } from '../../src/events/identity.ts';
import { rawMessage } from '../support/raw-message.ts';

const text = '{"id":"e-1","entity_type":"thing","entity_id":"a","sequence":3,"type":"Happened","data":{"n":1,"type":"inner"}}';
const noise = Array.from({ length: 10_000 }, (_, n) => ((n * 7_919) % 99_991).toString(36)).join('');
const whole = ['e-1', 'thing', 'a', 3, 'Happened'];

function raw(body: string | Uint8Array, rest: Partial<RawMessage> = {}): RawMessage {
  return rawMessage({ body: Buffer.from(body as string), routingKey: 'a', contentType: 'application/json', ...rest });
}

/** What the record of the refused message says: id, entity type, entity id, sequence, type. */
function readOf(
  body: string | Uint8Array,
  rest: Partial<RawMessage> = {},
  unsequenced: 'reject' | 'process' = 'reject',
): readonly unknown[] {
  const decoded = decodeMessage(raw(body, rest), { limits: defaultEventLimits, defaultEntityType: 'order', unsequenced });
  assert.ok(!decoded.ok, 'it was accepted');
  const { id, entityType, entityId, sequence, type } = decoded.refusal;
  return [id, entityType, entityId, sequence, type];
}

test('a message that is refused for its form still tells whose event it is', () => {
  const refused: readonly (readonly [name: string, body: string | Uint8Array, rest?: Partial<RawMessage>])[] = [
    ['a wrong content type', text, { contentType: 'text/plain' }],
    ['another character set', text, { contentType: 'application/json; charset=iso-8859-1' }],
    ['a wrong content encoding', text, { contentEncoding: 'gzip' }],
    ['a compressed body', gzipSync(text), { contentEncoding: 'gzip' }],
    ['a body that is compressed another way', deflateSync(text), { contentEncoding: 'deflate' }],
    [
      'a compressed body that is cut off',
      gzipSync(`${text.slice(0, -1)},"more":"${noise}"}`).subarray(0, 2_000),
      { contentEncoding: 'gzip' },
    ],
    ['a compressed body over the limit', gzipSync(`${text.slice(0, -1)},"more":"${'x'.repeat(4_000_000)}"}`), { contentEncoding: 'gzip' }],
    ['a byte-order mark', `\ufeff${text}`],
    ['a NaN', text.replace('"n":1', '"n":NaN')],
    ['a doubled key in the data', text.replace('"n":1', '"n":1,"n":2')],
    ['a key doubled with the same value', `${text.slice(0, -1)},"type":"Happened"}`],
    ['__proto__', `${text.slice(0, -1)},"__proto__":1}`],
    ['a comma too many', `${text.slice(0, -1)},}`],
    ['spaces everywhere', `${text.replaceAll(/([:,{}])/g, ' $1\n')} ,`],
    [
      'bad UTF-8 in the data',
      Buffer.concat([Buffer.from(text.slice(0, -1)), Buffer.from(',"x":"'), Buffer.from([0xc3, 0x28]), Buffer.from('"}')]),
    ],
    ['a body over the limit', `${text.slice(0, -1)},"more":"${'x'.repeat(1_048_576)}"}`, {}],
    ['headers over the limit', text, { headers: { padding: 'x'.repeat(100_000) } }],
    ['headers that nest too deep', text, { unreadable: true }],
    ['100,000 levels', `${text.slice(0, -1)},"deep":${'['.repeat(100_000)}${']'.repeat(100_000)}}`],
    ['a schema version that is not read', `${text.slice(0, -1)},"schema_version":2}`],
    ['a body that is cut off', text.slice(0, -5)],
  ];
  for (const [name, body, rest] of refused) assert.deepEqual(readOf(body, rest), whole, name);
});

test('what the body does not tell, the properties do', () => {
  for (const body of ['', '{', '[1]', 'null', '\u0000']) {
    assert.deepEqual(readOf(body, { messageId: 'm-1', type: 'Happened' }), ['m-1', null, 'a', null, 'Happened'], body);
  }
  assert.deepEqual(readOf('{', { messageId: 'm-1', type: 'T' }, 'process'), ['m-1', null, 'a', null, 'T']);
  // An event that belongs to no entity is spread by its own id.
  assert.deepEqual(readOf('{"id":"x"}', {}, 'process'), ['x', null, null, null, null]);
  assert.deepEqual(readOf('{"type":"T","sequence":2}'), [null, 'order', 'a', 2, 'T']);
});

test('of two answers none is taken', () => {
  const doubled = (members: string) => `${text.slice(0, -1)},${members}}`;
  assert.deepEqual(readOf(doubled('"sequence":4')), ['e-1', 'thing', 'a', null, 'Happened']);
  assert.deepEqual(readOf(doubled('"s\\u0065quence":4')), ['e-1', 'thing', 'a', null, 'Happened']);
  assert.deepEqual(readOf(doubled('"entity_id":"b"'), { routingKey: 'c' }), ['e-1', 'thing', 'c', 3, 'Happened']);
  assert.deepEqual(readOf(doubled('"id":{}')), [null, 'thing', 'a', 3, 'Happened']);
});

test('a name or a sequence that is bad is not taken from what cannot be read either', () => {
  const cut = (members: string) => `{${members},"data":NaN}`;
  assert.deepEqual(readOf(cut('"entity_id":"a\\nb","sequence":"3","type":7,"id":""')), [null, 'order', 'a', null, null]);
  for (const sequence of ['-1', '1.5', '9007199254740993', '1e999', '"3"', 'true', '[3]', 'NaN'])
    assert.equal(readOf(cut(`"sequence":${sequence}`))[3], null, sequence);
  const badBytes = Buffer.concat([Buffer.from('{"entity_id":"b'), Buffer.from([0xff]), Buffer.from('","type":"T"}')]);
  assert.deepEqual(readOf(badBytes), [null, 'order', 'a', null, 'T']);
});

const attributes = { specversion: '1.0', id: 'c-1', source: '/s', type: 'A', subject: 'a', sequence: '3', entitytype: 'thing' };

test('a refused CloudEvent tells whose event it is, from its headers or from its body', () => {
  const headers = Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`cloudEvents:${name}`, value]));
  const read = ['c-1', 'thing', 'a', 3, 'A'];
  for (const rest of [{ contentType: 'text/plain' }, { contentEncoding: 'br' }]) {
    assert.deepEqual(readOf('{"n":1}', { headers, ...rest }), read);
    assert.deepEqual(readOf(JSON.stringify(attributes), rest), read);
  }
  assert.deepEqual(readOf('{"n":', { headers }), read);
  assert.deepEqual(readOf(JSON.stringify(attributes).replace('}', ',"data":NaN}'), { contentType: 'application/cloudevents+json' }), read);
  assert.deepEqual(readOf(JSON.stringify([attributes]), { contentType: 'application/cloudevents-batch+json' }), [
    null,
    null,
    'a',
    null,
    null,
  ]);
});

test('whatever the bytes, looking for what can be read throws nothing, and finds nothing that is not there', () => {
  fc.assert(fc.property(fc.uint8Array(), (bytes) => void readOf(bytes, { contentType: 'text/plain' })));
  const value = fc.oneof(
    fc.string(),
    fc.integer(),
    fc.constant(null),
    fc.json().map((json) => JSON.parse(json) as unknown),
  );
  fc.assert(
    fc.property(fc.record({ id: value, sequence: value, subject: value, other: value }), fc.constantFrom('', ' '), (object, space) => {
      const { members, isComplete } = glimpseMembers(JSON.stringify(object, null, space));
      assert.ok(isComplete);
      for (const name of ['id', 'sequence', 'subject'] as const) {
        const plain =
          typeof object[name] === 'string'
            ? !/[\ud800-\udfff]/u.test(object[name]) && !object[name].includes('\ufffd')
            : typeof object[name] === 'number';
        if (plain && !Object.is(object[name], -0)) assert.equal(members.get(name), object[name]);
      }
      assert.equal(members.has('other'), false);
    }),
    { numRuns: 1_000 },
  );
});

test('the work of looking grows with the text and not with its square', () => {
  const shapes = [
    (n: number) => '"'.repeat(n),
    (n: number) => `{${'"a'.repeat(n / 2)}`,
    (n: number) => `{"a":${' '.repeat(n)}`,
    (n: number) => '{"a":['.repeat(n / 6),
    (n: number) => `{"id":${'\\'.repeat(n)}`,
    (n: number) => `{"${'\\"'.repeat(n / 2)}`,
  ];
  const fastestMs = (text: string) =>
    Math.min(
      ...Array.from({ length: 5 }, () => {
        const startedMs = performance.now();
        glimpseMembers(text);
        return performance.now() - startedMs;
      }),
    );
  // 32 times the text takes 32 times as long, or, as a square, 1,024 times. On a busy machine any one measurement may be too long.
  const isLinear = (shape: (n: number) => string) => fastestMs(shape(131_072)) < 256 * Math.max(fastestMs(shape(4_096)), 0.05);
  for (const shape of shapes) {
    fastestMs(shape(4_096));
    assert.ok(
      Array.from({ length: 10 }).some(() => isLinear(shape)),
      `${shape(12)}: 32 times the text takes more than 256 times as long`,
    );
  }
});

test('messages that are read from other headers have other fingerprints, also where those are of another binding', () => {
  const of = (headers: Readonly<Record<string, unknown>>) => messageFingerprint(raw('{}', { headers }));
  const ids = ['ce-id', 'ce_id', 'cloudevents:id', 'cloudEvents:id', 'Ce-Id'].flatMap((header) => [
    of({ [header]: '1' }),
    of({ [header]: '2' }),
  ]);
  assert.equal(new Set([...ids, of({})]).size, ids.length + 1);
  assert.equal(of({}), of({ traceparent: 'x' }));
});

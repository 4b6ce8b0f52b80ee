/**
 * Every line of bad input, and every hostile line that is nevertheless good: as messages, with the outcome that
 * each must have. Used by the unit tests through the decoder and by the integration tests through a worker,
 * with the default limits and UNSEQUENCED=reject.
 */
import type { RejectionReason } from '../../src/events/reasons.ts';

/** What a publisher hands to the broker. */
export interface CorpusMessage {
  readonly body: Buffer;
  readonly routingKey: string;
  readonly contentType?: string;
  readonly contentEncoding?: string;
  readonly messageId?: string;
  readonly headers?: Readonly<Record<string, unknown>>;
}

export interface BadLine {
  readonly name: string;
  readonly reason: RejectionReason;
  readonly message: CorpusMessage;
}

export interface GoodLine {
  readonly name: string;
  readonly entityId: string;
  readonly sequence: number;
  /** The text of `data` as it must come back, byte for byte. */
  readonly dataJson: string;
  readonly message: CorpusMessage;
}

const entityId = 'victim-1';
const json = 'application/json';

/** An envelope of which `members` are written as they stand: JSON text, or null to leave one out. */
function envelope(members: Readonly<Record<string, string | null>> = {}): string {
  const all: Record<string, string | null> = {
    id: '"e-1"',
    entity_type: '"thing"',
    entity_id: JSON.stringify(entityId),
    sequence: '1',
    type: '"Happened"',
    data: '{"n":1}',
    ...members,
  };
  const written = Object.entries(all).filter(([, text]) => text !== null);
  return `{${written.map(([key, text]) => `${JSON.stringify(key)}:${text}`).join(',')}}`;
}

function message(body: string | Uint8Array, rest: Partial<CorpusMessage> = {}): CorpusMessage {
  return { body: Buffer.from(body as string), routingKey: entityId, contentType: json, ...rest };
}

function bad(reason: RejectionReason, name: string, body: string | Uint8Array, rest: Partial<CorpusMessage> = {}): BadLine {
  return { name, reason, message: message(body, rest) };
}

/** An envelope with these bytes in a string of its data. */
function withBytes(bytes: readonly number[]): Buffer {
  const [before = '', after = ''] = envelope({ data: '"<here>"' }).split('<here>');
  return Buffer.concat([Buffer.from(before), Buffer.from(bytes), Buffer.from(after)]);
}

const deep = 100_000;

const bodies: readonly BadLine[] = [
  bad('malformed', 'an empty body', ''),
  bad('malformed', 'a body of spaces', '  \n '),
  bad('malformed', 'truncated JSON', envelope().slice(0, -7)),
  bad('malformed', 'two values', `${envelope()}{}`),
  bad('malformed', 'null', 'null'),
  bad('malformed', 'an array', `[${envelope()}]`),
  bad('malformed', 'a number', '42'),
  bad('malformed', 'a string', '"event"'),
  bad('malformed', 'a boolean', 'true'),
  bad('malformed', 'a byte-order mark', `\ufeff${envelope()}`),
  bad('malformed', 'bad UTF-8 in a string', withBytes([0xc3, 0x28])),
  bad('malformed', 'an overlong UTF-8 form in a string', withBytes([0xc1, 0xa1])),
  bad('malformed', 'a surrogate in UTF-8 in a string', withBytes([0xed, 0xa0, 0x80])),
  bad('malformed', 'a UTF-8 sequence that is cut off', withBytes([0xf0, 0x9f, 0x98])),
  bad('malformed', 'UTF-16', Buffer.from(envelope(), 'utf16le')),
  bad('malformed', 'an escaped lone high surrogate', envelope({ data: '{"text":"\\ud83d!"}' })),
  bad('malformed', 'an escaped lone low surrogate as a key', envelope({ data: '{"\\uDE00":1}' })),
  bad('malformed', 'surrogates in the wrong order', envelope({ data: '"\\ude00\\ud83d"' })),
  bad('malformed', 'a duplicate key', `${envelope().slice(0, -1)},"sequence":2}`),
  bad('malformed', 'a duplicate key that is written differently', `${envelope().slice(0, -1)},"s\\u0065quence":2}`),
  bad('malformed', 'a duplicate key deep in the data', envelope({ data: '{"a":[{"b":1,"c":2,"b":1}]}' })),
  bad('malformed', 'a duplicate key in the metadata', envelope({ metadata: '{"a":1,"a":1}' })),
  bad('malformed', '__proto__ at the top', `{"__proto__":{"sequence":9},${envelope().slice(1)}`),
  bad('malformed', '__proto__ deep in the data', envelope({ data: '[[{"__proto__":null}]]' })),
  bad('malformed', '__proto__ in escapes', envelope({ data: '{"\\u005f_proto__":1}' })),
  bad('malformed', '100,000 levels of arrays', envelope({ data: '['.repeat(deep) + ']'.repeat(deep) })),
  bad('malformed', '100,000 levels of objects', envelope({ data: '{"a":'.repeat(deep) + '1' + '}'.repeat(deep) })),
  bad('malformed', '100,000 brackets that are never closed', '['.repeat(deep)),
  bad('malformed', 'a wrong content type', envelope(), { contentType: 'text/plain' }),
  bad('malformed', 'an attribute that is a table with a toString of its own', envelope(), {
    contentType: 'text/plain',
    headers: { 'cloudEvents:a': { toString: 'x' } },
  }),
  bad('malformed', 'a content type of another CloudEvents format', envelope(), { contentType: 'application/cloudevents+avro' }),
  bad('malformed', 'no type', envelope({ type: null })),
  bad('malformed', 'an empty type', envelope({ type: '""' })),
  bad('malformed', 'a type that is an object', envelope({ type: '{}' })),
  bad('malformed', 'an id that is a number', envelope({ id: '7' })),
  bad('malformed', 'an empty id', envelope({ id: '""' })),
  bad('malformed', 'an id with a line break', envelope({ id: '"a\\nb"' })),
  bad('malformed', 'metadata that is an array', envelope({ metadata: '[]' })),
  bad('malformed', 'a timestamp that is none', envelope({ timestamp: '"yesterday"' })),
  bad('malformed', 'a timestamp that is a number', envelope({ timestamp: '1714564800' })),
  ...[
    '2026-02-30T10:00:00Z',
    '2023-02-29',
    '2026-01-31T24:00:00Z',
    '2026-01-31T10:00:00+99:99',
    '2016-12-31T23:59:60Z',
    '0000-01-01',
    '31/01/2026',
    '1714564800000',
  ].map((text) => bad('malformed', `the timestamp ${text}`, envelope({ timestamp: JSON.stringify(text) }))),
  bad('too_large', 'a body over the limit', envelope({ data: JSON.stringify('x'.repeat(1_048_576)) })),
  bad('too_large', '100 KB of headers', envelope(), { headers: { padding: 'x'.repeat(100_000) } }),
  bad('too_large', '100 KB of headers in many small ones', envelope(), {
    headers: Object.fromEntries(Array.from({ length: 2_000 }, (_, n) => [`x-header-number-${n}`, 'value'.repeat(7)])),
  }),
  bad('unsupported', 'a compressed body', envelope(), { contentEncoding: 'gzip' }),
  bad('unsupported', 'another character set', envelope(), { contentType: 'application/json; charset=iso-8859-1' }),
  bad('unsupported', 'a later schema version', envelope({ schema_version: '2' })),
  bad('unsupported', 'a schema version that is text', envelope({ schema_version: '"1"' })),
];

const entities: readonly BadLine[] = [
  bad('invalid_entity', 'no entity id', envelope({ entity_id: null })),
  bad('invalid_entity', 'an entity id of null', envelope({ entity_id: 'null' })),
  bad('invalid_entity', 'an empty entity id', envelope({ entity_id: '""' }), { routingKey: '' }),
  bad('invalid_entity', 'an entity id that is a number', envelope({ entity_id: '7' }), { routingKey: '7' }),
  bad('invalid_entity', 'an entity id that is an object', envelope({ entity_id: '{}' })),
  bad('invalid_entity', 'an entity id over the limit', envelope({ entity_id: JSON.stringify('é'.repeat(257)) })),
  bad('invalid_entity', 'an entity id with NUL', envelope({ entity_id: '"a\\u0000b"' }), { routingKey: 'a\0b' }),
  bad('invalid_entity', 'an entity id with a carriage return', envelope({ entity_id: '"a\\rb"' }), { routingKey: 'a\rb' }),
  bad('invalid_entity', 'an entity id with a line feed', envelope({ entity_id: '"a\\nb"' }), { routingKey: 'a\nb' }),
  bad('invalid_entity', 'an entity type that is a number', envelope({ entity_type: '7' })),
  bad('invalid_entity', 'an empty entity type', envelope({ entity_type: '""' })),
  bad('misrouted', 'another routing key', envelope(), { routingKey: 'victim-2' }),
  bad('misrouted', 'a routing key in another case', envelope(), { routingKey: 'Victim-1' }),
  bad('misrouted', 'a routing key in another normal form', envelope({ entity_id: '"caf\u00e9"' }), { routingKey: 'cafe\u0301' }),
  bad('misrouted', 'an empty routing key', envelope(), { routingKey: '' }),
];

const badSequences: readonly (readonly [name: string, text: string | null])[] = [
  ['0', '0'],
  ['-1', '-1'],
  ['-0', '-0'],
  ['1.5', '1.5'],
  ['"1"', '"1"'],
  ['" 7 "', '" 7 "'],
  ['"0x10"', '"0x10"'],
  ['"1e3"', '"1e3"'],
  ['"NaN"', '"NaN"'],
  ['true', 'true'],
  ['[1]', '[1]'],
  ['{}', '{}'],
  ['2^53', '9007199254740992'],
  ['2^53 + 1', '9007199254740993'],
  ['2^63', '9223372036854775808'],
  ['1e400', '1e400'],
  ['a fraction that rounds to a whole number', '9007199254740991.4'],
];

const sequences: readonly BadLine[] = [
  ...badSequences.map(([name, text]) => bad('invalid_sequence', `the sequence ${name}`, envelope({ sequence: text }))),
  // JSON knows no NaN, so it spoils the whole body.
  bad('malformed', 'the sequence NaN', envelope({ sequence: 'NaN' })),
];

/** The decoder lets these pass: whether they are bad depends on the configuration and on the entity's version. */
export const badForTheSequencer: readonly BadLine[] = [
  bad('invalid_sequence', 'no sequence', envelope({ sequence: null })),
  bad('invalid_sequence', 'a sequence of null', envelope({ sequence: 'null' })),
  bad('invalid_sequence', 'a sequence 1,000,001 ahead of the version', envelope({ sequence: '1000001' })),
];

function cloudEvent(attributes: Readonly<Record<string, unknown>> = {}): Readonly<Record<string, unknown>> {
  return {
    specversion: '1.0',
    id: 'c-1',
    source: '/shop',
    type: 'Happened',
    subject: entityId,
    sequence: '1',
    entitytype: 'thing',
    ...attributes,
  };
}

function structured(attributes: Readonly<Record<string, unknown>> = {}): readonly [string, Partial<CorpusMessage>] {
  return [JSON.stringify({ ...cloudEvent(attributes), data: { n: 1 } }), { contentType: 'application/cloudevents+json' }];
}

function binary(
  attributes: Readonly<Record<string, unknown>> = {},
  prefix = 'cloudEvents:',
  body = '{"n":1}',
): readonly [string, Partial<CorpusMessage>] {
  const present = Object.entries(cloudEvent(attributes)).filter(([, value]) => value !== undefined);
  return [body, { headers: Object.fromEntries(present.map(([name, value]) => [prefix + name, value])) }];
}

const cloudEvents: readonly BadLine[] = [
  bad('unsupported', 'a CloudEvent of version 0.3', ...structured({ specversion: '0.3' })),
  bad('malformed', 'a CloudEvent without a version', ...structured({ specversion: undefined })),
  bad('malformed', 'a CloudEvent without an id', ...structured({ id: undefined })),
  bad('malformed', 'a CloudEvent without a source', ...structured({ source: undefined })),
  bad('malformed', 'a CloudEvent without a type', ...structured({ type: undefined })),
  bad('malformed', 'a CloudEvent as plain text', structured()[0], { contentType: 'text/plain' }),
  bad('malformed', 'a batch of CloudEvents', `[${structured()[0]}]`, { contentType: 'application/cloudevents-batch+json' }),
  bad('malformed', 'a CloudEvent on 30 February', ...structured({ time: '2026-02-30T10:00:00Z' })),
  bad('invalid_sequence', 'a CloudEvent as plain JSON with the sequence "1e3"', structured({ sequence: '1e3' })[0]),
  bad('malformed', 'a binary CloudEvent of another binding with a value that may be encoded', ...binary({ subject: 'caf%C3%A9' }, 'ce-')),
  bad('malformed', 'a CloudEvent that is an array', '[]', { contentType: 'application/cloudevents+json' }),
  bad('unsupported', 'a CloudEvent with binary data', ...structured({ data_base64: 'AAAA' })),
  bad('invalid_entity', 'a CloudEvent without a subject', ...structured({ subject: undefined })),
  ...['0', '-1', ' 7 ', '0x10', '1e3', '1.5', 'NaN', '9007199254740993', '', 0, 1.5, true].map((sequence) =>
    bad('invalid_sequence', `a CloudEvent with the sequence ${JSON.stringify(sequence)}`, ...structured({ sequence })),
  ),
  bad('misrouted', 'a CloudEvent with another routing key', structured()[0], { ...structured()[1], routingKey: 'victim-2' }),
  bad('unsupported', 'a binary CloudEvent of version 2.0', ...binary({ specversion: '2.0' })),
  bad('malformed', 'a binary CloudEvent without a source', ...binary({ source: undefined })),
  bad('malformed', 'a binary CloudEvent with bad JSON', ...binary({}, 'cloudEvents:', '{"n":')),
  bad('malformed', 'a binary CloudEvent with duplicate keys', ...binary({}, 'cloudEvents_', '[{"n":1,"n":1}]')),
  bad('malformed', 'a binary CloudEvent with a text body', 'n=1', { ...binary()[1], contentType: 'text/plain' }),
  bad('invalid_sequence', 'a binary CloudEvent with the sequence "1e3"', ...binary({ sequence: '1e3' })),
  bad('invalid_entity', 'a binary CloudEvent with a line break in its subject', ...binary({ subject: 'a\r\nb' })),
];

/** What the decoder refuses, each under its reason. */
export const badLines: readonly BadLine[] = [...bodies, ...entities, ...sequences, ...cloudEvents];

/** Each of an entity of its own, and its first event. */
export const goodLines: readonly GoodLine[] = goodOnes();

function goodOnes(): GoodLine[] {
  const lines: GoodLine[] = [];
  const good = (name: string, id: string, members: Readonly<Record<string, string>> = {}, rest: Partial<CorpusMessage> = {}): void => {
    const dataJson = members.data ?? '{"n":1}';
    const body = envelope({ id: JSON.stringify(`g-${lines.length}`), entity_id: JSON.stringify(id), ...members });
    lines.push({ name, entityId: id, sequence: 1, dataJson, message: message(body, { routingKey: id, ...rest }) });
  };
  const ids = ['{}', ':', '*', '}x', ' ', ' spaces ', '"', "'; --", '../..', '%00', '__proto__', 'constructor', 'caf\u00e9', 'cafe\u0301'];
  for (const id of [...ids, 'UPPER', 'upper', '\u{1f600}', 'x'.repeat(255)]) good(`the entity id ${JSON.stringify(id)}`, id);
  const data = ['[]', '{}', 'null', '""', '0', '1.0', '-0.0', '12345678901234567890123', '0.1000000000000000055511151231257827', '1E400'];
  const spelled = [...data, '{ "b" : 1,\t"a" : [ 1.0 ] }', '{"constructor":{"prototype":{"polluted":true}}}', '"\\u00e9\\ud83d\\ude00\\/"'];
  for (const text of [...spelled, '['.repeat(63) + ']'.repeat(63)])
    good(`the data ${text.slice(0, 40)}`, `data ${lines.length}`, { data: text });
  for (const text of ['1.0', '1e0', '0.1e1']) good(`the sequence ${text}`, `sequence ${text}`, { sequence: text });
  good(
    'forged x-death headers',
    'forged',
    {},
    {
      headers: { 'x-death': [{ count: 99, queue: 'q', reason: 'rejected' }], 'x-first-death-reason': 'expired', 'x-inorder-replay': '1' },
    },
  );
  good('a type named constructor', 'type', { type: '"constructor"' });
  good('members that the envelope does not know', 'unknown', { constructor: '1', correlation: '"c"' });
  good('a content type with a charset', 'charset', {}, { contentType: 'Application/JSON; charset="UTF-8"', contentEncoding: 'utf-8' });
  good('no content type', 'untyped', {}, { contentType: undefined });
  good('another message id than the id', 'message id', {}, { messageId: 'other' });
  return [...lines, ...goodCloudEvents()];
}

function goodCloudEvents(): GoodLine[] {
  const { headers: colon } = binary({ id: 'gc-1', subject: 'ce 1', sequence: 1 })[1];
  const { headers: underscore } = binary({ id: 'gc-2', subject: 'ce 2', sequence: '1' }, 'cloudEvents_')[1];
  const text = JSON.stringify(cloudEvent({ id: 'gc-3', subject: 'ce 3' }));
  const withData = `${text.slice(0, -1)},"data":[1.0,{}]}`;
  const cloudEventsJson = 'application/cloudevents+json; charset=utf-8';
  const { headers: foreign } = binary({ id: 'gc-4', subject: 'ce 4' }, 'Ce-')[1];
  const line = (name: string, n: number, dataJson: string, body: string, rest: Partial<CorpusMessage>): GoodLine => {
    return { name, entityId: `ce ${n}`, sequence: 1, dataJson, message: message(body, { routingKey: `ce ${n}`, ...rest }) };
  };
  return [
    line('a binary CloudEvent with a number for its sequence', 1, '[1.0]', '[1.0]', { headers: colon }),
    line('a binary CloudEvent with underscores, digits and no data', 2, 'null', '', { headers: underscore, contentType: undefined }),
    line('a binary CloudEvent under the prefix of another binding', 4, '{"n":1}', '{"n":1}', { headers: foreign }),
    line('a structured CloudEvent as plain JSON', 5, '[1.0,{}]', withData.replaceAll('gc-3', 'gc-5').replaceAll('ce 3', 'ce 5'), {}),
    line('a structured CloudEvent', 3, '[1.0,{}]', withData, { contentType: cloudEventsJson }),
  ];
}

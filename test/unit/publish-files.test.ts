/** Files as people have them: packed, in other encodings, from other programs, printed over many lines. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { gzipSync } from 'node:zlib';
import { ConfigError, InputError } from '../../src/errors.ts';
import { defaultEventLimits } from '../../src/events/event.ts';
import { parseFieldMap } from '../../src/publishing/field-map.ts';
import { lineEvents } from '../../src/publishing/line-events.ts';
import { openInput } from '../../src/publishing/open-input.ts';
import { guessFormat, readInput, textsOf } from '../../src/publishing/read-input.ts';
import { readingRequest } from '../../src/publishing/publish-request.ts';

interface Reading {
  readonly map?: string;
  readonly delimiter?: string;
  readonly format?: string;
  /** Through a pipe, so many bytes at a time. */
  readonly piped?: number;
}

/** Everything that comes of a file: events as `entity sequence type data`, problems as `line: problem`. */
async function read(t: TestContext, name: string, content: string | Uint8Array, { map, delimiter, format, piped }: Reading = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'files-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = piped === undefined ? join(directory, name) : '-';
  const bytes = Buffer.from(content);
  if (piped === undefined) writeFileSync(path, bytes);
  const stdin = Readable.from(
    Array.from({ length: Math.ceil(bytes.length / (piped ?? 1)) }, (_, at) => bytes.subarray(at * piped!, (at + 1) * piped!)),
  );
  const input = await openInput(path, stdin, new AbortController().signal);
  const wrong: string[] = [];
  const request = readingRequest(path, { format: format ?? guessFormat(name), map: map ?? null, delimiter: delimiter ?? null }, wrong);
  assert.deepEqual(wrong, []);
  const problems: string[] = [];
  const options = {
    limits: defaultEventLimits,
    defaultEntityType: 'order',
    entityType: null,
    sequences: 'number',
    unsequenced: 'reject',
    ofNoEntity: 'events of no entity need --unsequenced',
  } as const;
  const events: string[] = [];
  try {
    const texts = await readInput(input, request);
    for await (const { event } of lineEvents(texts, {
      ...options,
      ...textsOf(request),
      onProblem: (line, problem) => void problems.push(`${line}: ${problem}`),
    }))
      events.push(`${event.entityId} ${event.sequence} ${event.type} ${event.dataJson}`);
  } finally {
    input.close();
  }
  return { events, problems };
}

async function refusal(t: TestContext, ...given: Parameters<typeof read> extends [unknown, ...infer Rest] ? Rest : never): Promise<string> {
  const error = await read(t, ...given).then(
    () => assert.fail('it was read'),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof ConfigError || error instanceof InputError, String(error));
  return error.message;
}

const two = ['A-1 1 Open {"x":"1"}', 'A-1 2 Close {"x":"2"}'];

test('a table is read whatever separates its fields, packed or not, from a file or a pipe', async (t) => {
  for (const [delimiter, before] of [
    [',', ''],
    [';', ''],
    ['\t', ''],
    ['|', ''],
    [';', 'sep=;\r\n'],
    ['^', 'sep=^\n'],
    [';', '\ufeffsep=;\n'],
    [';', '\ufeff'],
  ] as const) {
    const rows = ['entity_id,type,x', 'A-1,Open,1', 'A-1,Close,2'].map((row) => row.replaceAll(',', delimiter)).join('\r\n');
    for (const packed of [false, true]) {
      for (const piped of [undefined, 1, 1_000]) {
        const content = packed ? gzipSync(before + rows) : before + rows;
        assert.deepEqual(
          await read(t, `a.csv${packed ? '.gz' : ''}`, content, { piped }),
          { events: two, problems: [] },
          JSON.stringify({ delimiter, before, packed, piped }),
        );
      }
    }
  }
  assert.deepEqual((await read(t, 'a.csv', 'entity_id^type^x\nA-1^Open^1\nA-1^Close^2', { delimiter: '^' })).events, two);
  assert.deepEqual((await read(t, 'a.tsv', 'entity_id\ttype\tx\nA-1\tOpen\t1\nA-1\tClose\t2', { delimiter: 'tab' })).events, two);
});

test('the delimiter is the one with which the columns that are asked for are there', async (t) => {
  const map = 'entity_id=Case ID,type=Activity';
  const { events, problems } = await read(
    t,
    'a.csv',
    '\ufeffCase ID;Activity;Complete Timestamp;"a,b,c,d,e,f"\r\nA-1;"Open; new";05/01/2026 09:00;1\r\n',
    { map },
  );
  assert.deepEqual([events, problems], [['A-1 1 Open; new {"Complete Timestamp":"05/01/2026 09:00","a,b,c,d,e,f":"1"}'], []]);
});

test('columns without a name go nowhere, and names are without the space around them', async (t) => {
  const { events, problems } = await read(t, 'a.csv', ',entity_id , type,,x,\n0,A-1,Open,,1,\n1,A-1,Close,,2,\n');
  assert.deepEqual([events, problems], [two, []]);
});

test('a column whose name has a comma or an equals sign is mapped in quotes', async (t) => {
  const { events } = await read(t, 'a.csv', '"Case, ID","Type=of",x\nA-1,Open,1\n', { map: 'entity_id="Case, ID",type=Type=of' });
  assert.deepEqual(events, ['A-1 1 Open {"x":"1"}']);
  assert.match(
    await refusal(t, 'a.csv', '"Case, ID","Type=of",x\nA-1,Open,1\n'),
    /a\.csv: no column is called entity_id or type: --map 'entity_id="Case, ID",type=…' says what is type; there are "Case, ID", "Type=of", "x"$/,
  );
});

test('an input in another encoding, of another program or format, or broken, is named for what it is', async (t) => {
  const row = 'entity_id,type\nA,Open\n';
  const cases: readonly (readonly [name: string, content: string | Uint8Array, said: RegExp])[] = [
    ['a.csv', Buffer.from(`\ufeff${row}`, 'utf16le'), /^\S+a\.csv: it is UTF-16: save it as UTF-8/],
    ['a.csv', Buffer.from(row, 'utf16le'), /^\S+a\.csv: it is UTF-16/],
    ['a.csv', Buffer.from('504b030414000600', 'hex'), /workbook \(\.xlsx, \.ods\)/],
    ['a.ndjson', Buffer.from('28b52ffd00', 'hex'), /packed with zstd/],
    ['a.csv', Buffer.from('F\u00e4lle,type\nA,Open\n', 'latin1'), /a\.csv: the header: it is not valid UTF-8: is it Latin-1/],
    [
      'a.csv',
      '{"entity_id":"A","type":"t"}\n',
      /it begins with "\{\\"entity_id\\":\\"A\\",\\"type\\":\\"t\\"\}", which is JSON and no header: give --format ndjson/,
    ],
    ['a.ndjson', row, /it begins with "entity_id,type", which is no JSON: for a table with a header give --format csv/],
    ['a.csv.gz', Buffer.from('1f8b0000', 'hex'), /a\.csv\.gz: its gzip data are broken \(.+\)$/],
    ['a.csv.gz', gzipSync(row).subarray(0, 12), /its gzip data end too early: is it cut off\?$/],
    ['a.csv.gz', gzipSync(''), /there are no events in it$/],
  ];
  for (const [name, content, said] of cases) assert.match(await refusal(t, name, content), said);
});

test('of a packed file that is cut off, what is whole is read, and where it ends is said', async (t) => {
  const lines = Array.from({ length: 20_000 }, (_, n) => `{"entity_id":"e-${(n * 7_919) % 20_011}","type":"t"}`);
  const whole = gzipSync(lines.join('\n'));
  const { events, problems } = await read(t, 'a.ndjson.gz', whole.subarray(0, whole.length / 2));
  assert.ok(events.length > 1_000 && events.length < 20_000);
  assert.equal(problems.length, 1);
  assert.match(
    problems[0]!,
    new RegExp(`^${events.length + 1}: \\S+: its gzip data end too early: is it cut off\\?; nothing from here on was read$`),
  );
});

test('an object may be printed over several lines, one behind the other or all in an array', async (t) => {
  const objects = [1, 2].map((n) => ({ entity_id: 'A', type: `t${n}`, data: { list: [{ a: '}{"' }, { b: '\\' }], n } }));
  const expected = objects.map(({ data }, index) => [`A ${index + 1} t${index + 1}`, data]);
  for (const indent of [0, 1, 4, '\t']) {
    for (const text of [objects.map((one) => JSON.stringify(one, null, indent)).join('\n\n'), JSON.stringify(objects, null, indent)]) {
      const { events, problems } = await read(t, 'a.json', text);
      assert.deepEqual([events.map((event) => [event.slice(0, 6), JSON.parse(event.slice(7))]), problems], [expected, []], text);
    }
  }
  // Without any indentation, as some tools print; a member that stands alone on its line is no event of its own.
  assert.equal((await read(t, 'a.json', '{\n"entity_id":"A",\n"type":"t",\n"data":\n{"x":1}\n}\n')).events.length, 1);
});

test('an object that is cut off swallows nothing of what comes behind it', async (t) => {
  const good = (n: number) => `{"entity_id":"A","type":"t${n}"}`;
  const cut = [
    '{"entity_id":"B","ty',
    '{"entity_id":"B"',
    '{"entity_id":"B","type":',
    '{',
    '{"entity_id":"B","data":[',
    '{"entity_id":"B","data":{"x":[1,2',
  ];
  for (const half of cut) {
    const { events, problems } = await read(t, 'a.ndjson', [good(1), half, good(2), good(3)].join('\n'));
    assert.deepEqual(
      events.map((event) => event.slice(0, 6)),
      ['A 1 t1', 'A 2 t2', 'A 3 t3'],
      half,
    );
    assert.deepEqual(
      problems.map((problem) => problem.slice(0, 12)),
      ['2: malformed'],
      half,
    );
  }
  const first = await read(t, 'a.ndjson', [cut[1], good(1), good(2)].join('\n'));
  assert.equal(first.events.length, 2);
});

test('where the first lines all fail for one cause that is said once, and nothing is done', async (t) => {
  const lines = (count: number) =>
    Array.from({ length: count }, (_, n) => JSON.stringify({ aggregateId: `a-${n}`, type: 't', n })).join('\n');
  const said = await refusal(t, 'a.ndjson', lines(1_000));
  assert.equal(
    said,
    'nothing was done, for the first 20 are all refused for one cause; line 1: invalid_entity: entity_id is missing; is entity_id "aggregateId"? Then --map entity_id=aggregateId; events of no entity need --unsequenced',
  );
  assert.equal((await read(t, 'a.ndjson', lines(19))).problems.length, 19);
  const mixed = await read(t, 'a.ndjson', `${lines(5)}\n{"entity_id":"A","type":"t"}\n${lines(100)}`);
  assert.deepEqual([mixed.events.length, mixed.problems.length], [1, 105], 'one good line, and each is told for itself');
});

test('a line without an entity is refused with what probably names it, in that very line', async (t) => {
  const hintFor = async (line: object, format?: string) => (await read(t, 'a.ndjson', JSON.stringify(line), { format })).problems[0] ?? '';
  const hints: readonly (readonly [line: object, said: RegExp])[] = [
    [{ eventId: 'e', aggregateId: '7', type: 'A' }, /is entity_id "aggregateId"\? Then --map entity_id=aggregateId,id=eventId;/],
    [{ aggregate_id: '7', type: 'A' }, /Then --map entity_id=aggregate_id;/],
    [{ key: '7', type: 'A' }, /Then --map entity_id=key;/],
    [{ id: 'e', subject: '7', type: 'A' }, /Then --map entity_id=subject;/],
    [{ orderId: '7', type: 'A' }, /Then --map entity_id=orderId;/],
    [{ entity_ids: '7', type: 'A' }, /Then --map entity_id=entity_ids;/],
    [{ id: '7', type: 'A' }, /is entity_id "id"\? Then --map entity_id=id;/],
    [{ type: 'A', data: { order_id: '7', name: 'x' } }, /Then --map entity_id=data\.order_id;/],
    [
      { event_type: 'A', 'Case ID': '7' },
      /is entity_id "Case ID"\? is type "event_type"\? Then --map 'entity_id=Case ID,type=event_type';/,
    ],
    [
      { what: 'A', type: 'x' },
      /--map entity_id=… says what is entity_id; there are "what", "type";|--map 'entity_id=…' says what is entity_id; there are "what", "type";/,
    ],
    [{ entity_id: 7, type: 'A' }, /entity_id is a number, not a string; --map entity_id=entity_id takes its digits$/],
  ];
  for (const [line, said] of hints) assert.match(await hintFor(line), said, JSON.stringify(line));
  assert.match(
    await hintFor({ specversion: '1.0', id: 'a', source: '/x', type: 'A', data: {} }, 'cloudevents'),
    /^1: invalid_entity: subject is missing; it names the entity that the event is about; events of no entity need --unsequenced$/,
  );
  assert.match(
    await hintFor({ specversion: '1.0', id: 'a', source: '/x', type: 'A', partitionkey: 'p' }, 'cloudevents'),
    /subject is missing; is entity_id "partitionkey"\? Then --map entity_id=partitionkey;/,
  );
});

test('members of JSON objects are mapped as columns are: also one within another, and a number becomes the text of its digits', async (t) => {
  const lines = [
    '{"eventId":12345678901234567890,"orderId":7,"kind":"A","data":{"big":12345678901234567890}}',
    '{"eventId":"x","orderId":"7","kind":"B","data":1}',
  ];
  assert.deepEqual(await read(t, 'a.ndjson', lines.join('\n'), { map: 'id=eventId,entity_id=orderId,type=kind' }), {
    events: ['7 1 A {"big":12345678901234567890}', '7 2 B 1'],
    problems: [],
  });
  assert.deepEqual((await read(t, 'a.ndjson', '{"type":"A","data":{"order":{"id":7}}}', { map: 'entity_id=data.order.id' })).events, [
    '7 1 A {"order":{"id":7}}',
  ]);
  assert.deepEqual(
    (
      await read(t, 'a.ndjson', '{"specversion":"1.0","id":"a","source":"/x","type":"A","key":"k"}', {
        format: 'cloudevents',
        map: 'entity_id=key',
      })
    ).events,
    ['k 1 A null'],
  );
  assert.match(
    (await read(t, 'a.ndjson', lines.join('\n'), { map: 'entity_id=caseId,type=kind' })).problems[0]!,
    /entity_id is missing; the line has no "caseId", which --map says$/,
  );
  assert.throws(() => parseFieldMap('entity_id'), ConfigError);
});

test('objects may share a line, be joined by }{ or a comma, or be marked by record separators; arrays may follow each other', async (t) => {
  const [one, two, three] = [1, 2, 3].map((n) => `{"entity_id":"A","type":"t${n}","data":{"s":"}{,"}}`) as [string, string, string];
  const pretty = [one, two, three].map((text) => JSON.stringify(JSON.parse(text), null, 2));
  const inputs = [
    `${one}${two}\n${three}`,
    `${one} ${two}  ${three} \n`,
    pretty.join(''),
    pretty.join(',\n'),
    `${one},\n${two},\n${three},\n`,
  ];
  inputs.push(
    `\u001e${one}\n\u001e${two}\n\u001e${three}\n`,
    [one, two, three].join('\r'),
    `[${one}]\n[${two},${three}]\n`,
    `[${one}][${two}],\n[\n]\n[${three}\n]`,
  );
  for (const text of inputs) {
    const { events, problems } = await read(t, 'a.json', text);
    assert.deepEqual([events.map((event) => event.slice(0, 6)), problems], [['A 1 t1', 'A 2 t2', 'A 3 t3'], []], text);
  }
  for (const behind of ['}', ' x', ']', ' [1]'])
    assert.deepEqual(
      (await read(t, 'a.ndjson', `${one}${behind}\n${one}`)).problems.map((said) => said.slice(0, 12)),
      ['1: malformed'],
      behind,
    );
  assert.match(
    (await read(t, 'a.json', `[${one}]\n${two}\n[${three}]`)).problems.join(),
    /^2: there is something behind the end of the array$/,
  );
});

test('a first line that is cut off behind a colon, a comma or a bracket does not take the second one along', async (t) => {
  for (const half of ['{"entity_id":"B","type":', '{"entity_id":"B",', '{"entity_id":"B","data":[']) {
    const { events, problems } = await read(t, 'a.ndjson', [half, ...[1, 2].map((n) => `{"entity_id":"A","type":"t${n}"}`)].join('\n'));
    assert.deepEqual(
      [events.map((event) => event.slice(0, 6)), problems.map((said) => said.slice(0, 12))],
      [['A 1 t1', 'A 2 t2'], ['1: malformed']],
      half,
    );
  }
  assert.equal(
    (await read(t, 'a.json', '{\n "entity_id": "A",\n "type": "t",\n "data": NaN\n}')).problems.length,
    1,
    'an object that is bad is one problem, however many lines it has',
  );
});

test('an object that is longer than can be read is one problem, and nothing in it becomes an event', async (t) => {
  const element = '{"entity_id":"X","type":"t"}';
  const long = [
    '{"entity_id":"B","type":"t","data":[',
    ...Array.from({ length: 17 }, () => `"${'x'.repeat(1_048_576)}",`),
    `${element},`,
    element,
    ']}',
  ];
  const { events, problems } = await read(t, 'a.json', [...long, '{', '"entity_id":"A","type":"t"}'].join('\n'));
  assert.deepEqual([events, problems], [['A 1 t null'], ['1: it is longer than 16777216 characters']]);
});

test('a hint leads to where the line can be read', async (t) => {
  const hintFor = async (line: object, format?: string) => (await read(t, 'a.ndjson', JSON.stringify(line), { format })).problems[0] ?? '';
  assert.equal(
    await hintFor({ entity_id: 'A', type: 't' }, 'cloudevents'),
    '1: this is an envelope and no CloudEvent: give --format ndjson',
  );
  assert.match(
    await hintFor({ events: [{ entity_id: 'A', type: 't' }] }),
    /all that it has is within "events": each event must be an object of its own;/,
  );
  assert.match(await hintFor({ entity_id: 'A', event: { x: 1 }, kind: 't' }), /type is missing; is type "kind"\?/);
  assert.match(
    await hintFor({ entity_id: 'A', type: 't', sequence: '3' }),
    /^1: invalid_sequence: .*; --map sequence=sequence takes the number in its quotes$/,
  );
  assert.deepEqual((await read(t, 'a.ndjson', '{"entity_id":"A","type":"t","sequence":"3"}', { map: 'sequence=sequence' })).events, [
    'A 3 t null',
  ]);
  assert.match(
    await hintFor({ Entity_ID: 'A', Type: 't', ID: 'e' }),
    /is entity_id "Entity_ID"\? is type "Type"\? Then --map entity_id=Entity_ID,type=Type,id=ID;/,
  );
});

test('a line with sep= is read as people and programs write it, and one that cannot be is named', async (t) => {
  for (const [before, delimiter] of [
    ['SEP=;\n', ';'],
    ['sep=\\t\r\n', '\t'],
    ['\n \r\nsep=|\n', '|'],
    ['"sep=^"\n', '^'],
  ] as const) {
    const rows = ['entity_id,type,x', 'A-1,Open,1', 'A-1,Close,2', 'A-1'].map((row) => row.replaceAll(',', delimiter)).join('\n');
    const { events, problems } = await read(t, 'a.csv', before + rows);
    assert.deepEqual([events, problems], [two, [`${before.split('\n').length + 3}: it has 1 fields where the header has 3`]], before);
  }
  for (const said of ['"', 'a', ';;', ''])
    assert.match(
      await refusal(t, 'a.csv', `sep=${said}\nentity_id,type\nA,t\n`),
      /a\.csv: the line with sep= says ".*": it must be one character/,
      said,
    );
  // The delimiter is found also where names differ in case.
  assert.match(
    await refusal(t, 'a.csv', 'Entity_ID;Type;"a,b,c,d,e"\nA;t;1\n'),
    /is entity_id "Entity_ID"\? is type "Type"\? Then --map entity_id=Entity_ID,type=Type$/,
  );
});

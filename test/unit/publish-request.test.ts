import assert from 'node:assert/strict';
import test from 'node:test';
import { ConfigError } from '../../src/errors.ts';
import { mapOption, type MappableField, parseFieldMap } from '../../src/publishing/field-map.ts';
import { parseRequest, type PublishTexts } from '../../src/publishing/publish-request.ts';

const nothing: PublishTexts = {
  format: null,
  map: null,
  delimiter: null,
  shuffle: null,
  duplicate: null,
  drop: null,
  rate: null,
  seed: null,
  'entity-type': null,
};

function problemsOf(path: string, texts: Partial<PublishTexts>): readonly string[] {
  try {
    parseRequest(path, { ...nothing, ...texts });
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.problems;
  }
  return [];
}

test('without options everything is sent once, in order, as fast as the broker takes it', () => {
  const { format, window, duplicate, drop, ratePerSecond, seed, entityType } = parseRequest('-', nothing);
  assert.deepEqual(
    { format, window, duplicate, drop, ratePerSecond, seed, entityType },
    {
      format: 'ndjson',
      window: 0,
      duplicate: 0,
      drop: 0,
      ratePerSecond: null,
      seed: null,
      entityType: null,
    },
  );
});

test('options are read as numbers', () => {
  const request = parseRequest('x.csv', {
    ...nothing,
    shuffle: '500',
    duplicate: '0.1',
    drop: '.5',
    rate: '2.5',
    seed: '4294967295',
    'entity-type': 'ticket',
  });
  assert.deepEqual(
    [request.window, request.duplicate, request.drop, request.ratePerSecond, request.seed, request.entityType],
    [500, 0.1, 0.5, 2.5, 4_294_967_295, 'ticket'],
  );
});

test('the end of the name tells the format, and --format overrides it', () => {
  for (const [path, format] of [
    ['a.csv', 'csv'],
    ['A.CSV', 'csv'],
    ['a.ndjson', 'ndjson'],
    ['a.jsonl', 'ndjson'],
    ['a.csv.gz', 'csv'],
    ['a.tsv', 'csv'],
    ['a.json.gz', 'ndjson'],
    ['a.json', 'ndjson'],
    ['a.cloudevents', 'cloudevents'],
    ['a.cloudevents.json', 'cloudevents'],
    ['-', 'ndjson'],
  ] as const) {
    assert.equal(parseRequest(path, nothing).format, format, path);
  }
  assert.equal(parseRequest('a.csv', { ...nothing, format: 'ndjson' }).format, 'ndjson');
  assert.deepEqual(problemsOf('events.txt', {}), [
    'events.txt: its name does not tell its format; give --format, one of ndjson, csv, cloudevents',
  ]);
});

test('a map says which column is which field; a column may contain an equals sign', () => {
  const { map } = parseRequest('a.csv', { ...nothing, map: 'entity_id=Case ID, type=a=b,timestamp=At' });
  assert.deepEqual(
    [...map],
    [
      ['entity_id', 'Case ID'],
      ['type', 'a=b'],
      ['timestamp', 'At'],
    ],
  );
});

test('a name with a comma, a quote or an equals sign is mapped in quotes, and what is proposed can be typed again', () => {
  const { map } = parseRequest('a.csv', { ...nothing, map: 'entity_id="Case, ID", type="Type=of" ,id="say ""x"""' });
  assert.deepEqual(
    [...map],
    [
      ['entity_id', 'Case, ID'],
      ['type', 'Type=of'],
      ['id', 'say "x"'],
    ],
  );
  const hostile: [MappableField, string][] = [
    ['entity_id', 'Case, "ID" = x'],
    ['type', ' blank '],
    ['id', "it's"],
  ];
  assert.deepEqual(
    [
      ...parseFieldMap(
        hostile
          .map(([field, name]) => mapOption([[field, name]]))
          .map(typed)
          .join(','),
      ),
    ],
    hostile,
  );
});

/** What the shell makes of it. */
const typed = (option: string) =>
  option
    .replace(/^--map /, '')
    .replace(/^'|'$/g, '')
    .replaceAll("'\\''", "'");

test('everything that is wrong is said at once, one line for each', () => {
  const problems = problemsOf('a.csv', {
    shuffle: '-1',
    duplicate: '1.5',
    drop: '10%',
    rate: '0',
    seed: '1e3',
    map: 'entity=Case,type=,type=A,type=B',
    'entity-type': '',
  });
  const fields =
    'it must be FIELD=Name, with a field of id, entity_type, entity_id, sequence, type, timestamp; a name with a comma is written in quotes: --map \'entity_id="Case, ID"\'';
  assert.deepEqual(problems, [
    `--map "entity=Case": ${fields}`,
    `--map "type=": ${fields}`,
    '--map names type twice',
    '--shuffle is "-1": it must be a whole number from 0 to 1,000,000',
    '--duplicate is "1.5": it must be a number from 0 to 1, such as 0.05',
    '--drop is "10%": it must be a number from 0 to 1, such as 0.05',
    '--rate is "0": it must be a number of messages per second, from 0.01 to 1,000,000',
    '--seed is "1e3": it must be a whole number from 0 to 4,294,967,295',
    '--entity-type is empty',
  ]);
  assert.deepEqual(problemsOf('-', { format: 'xml' }), ['--format is "xml": it must be one of ndjson, csv, cloudevents']);
  assert.deepEqual(problemsOf('a.ndjson', { map: 'type=A', delimiter: ';' }), [
    '--delimiter is for tables, and the format is ndjson: give --format csv',
  ]);
  assert.match(problemsOf('a.csv', { delimiter: 'comma' })[0]!, /^--delimiter is "comma": it must be one character/);
});

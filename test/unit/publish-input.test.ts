import assert from 'node:assert/strict';
import test from 'node:test';
import { ConfigError } from '../../src/errors.ts';
import { readCsv } from '../../src/publishing/csv-events.ts';
import type { FieldMap, MappableField } from '../../src/publishing/field-map.ts';
import { jsonTexts } from '../../src/publishing/json-texts.ts';
import { readLines, type TextLine } from '../../src/publishing/text-lines.ts';

async function* chunks(text: string | Uint8Array, size = 3): AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** `number text` or `number! problem` of each. */
async function shown(lines: AsyncIterable<TextLine>): Promise<string[]> {
  const result: string[] = [];
  for await (const { line, text, problem } of lines) result.push(text === null ? `${line}! ${problem}` : `${line} ${text}`);
  return result;
}

const csv = (text: string | Uint8Array, map: Partial<Record<MappableField, string>> = {}) =>
  shown(readCsv(chunks(text), { map: new Map(Object.entries(map)) as FieldMap, delimiter: ',', linesBefore: 0 }));

const commas = { map: new Map(), delimiter: ',', linesBefore: 0 };

const json = (text: string) => shown(jsonTexts(readLines(chunks(text))));

test('lines come out whole whatever the pieces, without carriage returns', async () => {
  for (const size of [1, 2, 3, 100]) {
    assert.deepEqual(await shown(readLines(chunks('one\r\n\r\nzwölf €\nlast', size))), ['1 one', '2 ', '3 zwölf €', '4 last']);
  }
  assert.deepEqual(await shown(readLines(chunks('a\n'))), ['1 a']);
  assert.deepEqual(await shown(readLines(chunks(''))), []);
});

test('a line that is not UTF-8, or too long, is a problem of that line alone', async () => {
  const bytes = Buffer.concat([Buffer.from('a\n'), Buffer.from([0xe9, 10]), Buffer.from('0123456789\nb\n')]);
  assert.deepEqual(await shown(readLines(chunks(bytes), 9)), [
    '1 a',
    '2! it is not valid UTF-8: is it Latin-1 or Windows-1252? Save it as UTF-8',
    '3! it is longer than 9 bytes',
    '4 b',
  ]);
});

test('NDJSON gives one text for each line that is not blank', async () => {
  assert.deepEqual(await json('{"a":1}\n\n  \n[oops\n{"b":2}'), ['1 {"a":1}', '4 [oops', '5 {"b":2}']);
});

test('a JSON array gives its elements, each with the line on which it begins', async () => {
  const text = '\n [ {"a": [1, "],}\\""]},\n  {\n "b": {}\n}\n, 3 ]\n';
  assert.deepEqual(await json(text), ['2 {"a": [1, "],}\\""]}', '3 {\n "b": {}\n}', '6 3']);
  assert.deepEqual(await json('[]'), []);
});

test('an array that does not end, and something behind its end, are problems', async () => {
  assert.deepEqual(await json('[{"a":1},\n{"b":2'), ['1 {"a":1}', '2 {"b":2', '2! the input ends before its array does']);
  assert.deepEqual(await json('[1]\n2'), ['1 1', '2! there is something behind the end of the array']);
});

test('mapped columns become fields and the others data, as text', async () => {
  const rows = 'CaseID,ActivityID,CompleteTimestamp,Cost\n2,1,2012-04-03 16:55:38,007\n';
  assert.deepEqual(await csv(rows, { entity_id: 'CaseID', type: 'ActivityID', timestamp: 'CompleteTimestamp' }), [
    '2 {"entity_id":"2","type":"1","timestamp":"2012-04-03 16:55:38","data":{"Cost":"007"}}',
  ]);
});

test('columns named like fields need no map, and empty optional ones are absent', async () => {
  assert.deepEqual(await csv('id,entity_id,type,sequence,timestamp\r\n,A,created,3,\r\n'), [
    '2 {"entity_id":"A","sequence":3,"type":"created","data":{}}',
  ]);
});

test('quoted fields may hold commas, quotes and line ends; blank lines are passed over', async () => {
  assert.deepEqual(await csv('entity_id,type,note\n"a,b","say ""x""","two\nlines"\n\nc,t,n\n'), [
    '3 {"entity_id":"a,b","type":"say \\"x\\"","data":{"note":"two\\nlines"}}',
    '5 {"entity_id":"c","type":"t","data":{"note":"n"}}',
  ]);
});

test('lines may end in any way, also each in another one', async () => {
  const rows = (...ends: string[]) =>
    ['entity_id,type,note', 'a,t,1', '"b","t","2\r\n3"', 'c,t,'].map((row, at) => row + ends[at % ends.length]).join('');
  for (const ends of [['\n'], ['\r\n'], ['\r'], ['\n', '\r\n'], ['\r\n', '\n', '\n']]) {
    for (const size of [1, 2, 3, 100]) {
      const lines = await shown(readCsv(chunks(rows(...ends), size), commas));
      assert.deepEqual(
        lines.map((line) => JSON.parse(line.replace(/^\d+ /, ''))),
        [
          ['a', '1'],
          ['b', '2\r\n3'],
          ['c', ''],
        ].map(([entity_id, note]) => ({ entity_id, type: 't', data: { note } })),
        `${JSON.stringify(ends)}, ${size} bytes at a time`,
      );
    }
  }
  assert.deepEqual(
    (await csv('entity_id,type\r\na,t\nb,t\r\n')).map((line) => line.slice(0, 2)),
    ['2 ', '3 '],
  );
});

test('a row that does not fit is a problem of its own line', async () => {
  assert.deepEqual(await csv('entity_id,type,sequence,timestamp\na,t\na,t,1.5,\na,t,1,\n'), [
    '2! it has 2 fields where the header has 4',
    '3! its sequence "1.5" is not a whole number',
    '4 {"entity_id":"a","sequence":1,"type":"t","data":{}}',
  ]);
});

test('a row in another encoding is refused, because two ids could become one', async () => {
  const latin1 = Buffer.concat([Buffer.from('entity_id,type\n'), Buffer.from([0xe9]), Buffer.from(',t\n')]);
  assert.deepEqual(await csv(latin1), ['2! it is not valid UTF-8: is it Latin-1 or Windows-1252? Save it as UTF-8']);
});

test('a stray quote ends the reading, and every row before it is read', async () => {
  const rows = Array.from({ length: 100 }, (_, i) => `a${i},t\n`).join('');
  // The parser would find its feet again, and nobody could say what it had passed over.
  const stray = await csv(`entity_id,type\n${rows}x,"y"z"\nlost,t\n`);
  assert.equal(stray.length, 101);
  assert.equal(stray.at(-1), '102! a quote stands within a field that is not quoted as a whole; nothing from here on was read');
  const open = await csv(`entity_id,type\n${rows}"x,t\nlost,t\n`);
  assert.equal(open.length, 101);
  assert.match(open.at(-1)!, /^\d+! a quote is opened and never closed; nothing from here on was read$/);
});

test('columns that are not there, occur twice or are not said are refused before anything is read', async () => {
  const problems = async (header: string, map: Partial<Record<MappableField, string>>) => {
    const error = await csv(`${header}\n1,2\n`, map).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems;
  };
  assert.deepEqual(await problems('Case,Activity', { entity_id: 'CaseID', type: 'Activity' }), [
    '--map entity_id=CaseID: there is no such column; there are "Case", "Activity"',
  ]);
  assert.deepEqual(await problems('Case,type', {}), ['no column is called entity_id: is entity_id "Case"? Then --map entity_id=Case']);
  assert.deepEqual(await problems('Vorgang;x,y', {}), [
    'no column is called entity_id or type: --map \'entity_id=…,type=…\' says what is entity_id and type; there are "Vorgang;x", "y"',
  ]);
  assert.deepEqual(await problems('entity_id,type,x,x', {}), ['the column "x" occurs twice in the header']);
});

test('a source that fails makes the reading fail', async () => {
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('entity_id,type\na,t\n');
    throw new Error('disk on fire');
  }
  await assert.rejects(shown(readCsv(broken(), commas)), /disk on fire/);
  await assert.rejects(shown(readLines(broken())), /disk on fire/);
});

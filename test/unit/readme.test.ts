import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import test from 'node:test';
import { parseArguments } from '../../src/cli/command.ts';
import { commands } from '../../src/cli/run.ts';
import { variableNames, variables } from '../../src/config/variables.ts';
import { brokerReasons } from '../../src/dead-letters/dead-letter.ts';
import { renderLedger } from '../../deploy/demo/report.ts';
import * as library from '../../src/index.ts';
import { checkout } from '../support/checkout.ts';
import {
  anchorsOf,
  blockOf,
  examplesOf,
  fencesOf,
  findReadmes,
  generatedBlocks,
  isShown,
  linksOf,
  readmes,
  readReadme,
  readReadmes,
  snippetsOf,
  withoutFences,
} from '../support/readme.ts';
import { compileSnippets, printedBy, runSnippet, useLibraryFolder } from '../support/readme-snippets.ts';

const demo = blockOf(readReadme(), 'demo');
const whole = readReadmes();
/** Without what the demo printed, which speaks of the next version. */
const written = whole.replace(demo, '');
const inlineCode = [...withoutFences(written).matchAll(/`([^`\n]+)`/g)].map(([, code = '']) => code);

test('every README that is there is judged here', () => {
  assert.deepEqual(findReadmes().toSorted(), readmes.toSorted());
});

for (const [name, { path, render }] of Object.entries(generatedBlocks)) {
  test(`the block "${name}" of ${path} is what the code renders`, () => {
    assert.equal(blockOf(readReadme(path), name), render(), 'run: node --import tsx test/support/refresh-readme.ts');
  });
}

test('every variable that a README names is one, and they name all of them', () => {
  const secrets = variableNames.filter((name) => variables[name].secret).map((name) => `${name}_FILE`);
  const known: readonly string[] = [...variableNames, ...secrets];
  const ofOthers = ['NODE_OPTIONS', 'CC', 'BCC'];
  const inExamples = examplesOf(written).flatMap(({ command }) => [...command.matchAll(/\b([A-Z][A-Z_]+)=/g)].map(([, name = '']) => name));
  const inProse = inlineCode.map((code) => /^([A-Z][A-Z0-9_]+)(?:=.*)?$/.exec(code)?.[1]).filter((name) => name !== undefined);
  const named = new Set([...inExamples, ...inProse]);
  assert.deepEqual(
    [...named].filter((name) => !known.includes(name) && !ofOthers.includes(name)),
    [],
  );
  assert.deepEqual(
    known.filter((name) => !named.has(name)),
    [],
  );
});

test('every file that a README names is there, and every link leads somewhere', () => {
  const paths = [...whole.matchAll(/(?<![\w/.:-])(?:src|test|deploy)\/[\w./@-]*\w/g)].map(([path]) => path);
  const pictured = [...readReadme().matchAll(/ (src\/[\w./-]+\.ts)$/gm)];
  assert.ok(pictured.length >= 8, 'the picture names its source files');
  assert.deepEqual(
    paths.filter((path) => !existsSync(checkout + path)),
    [],
  );
  const linking = [...readmes, 'CONTRIBUTING.md', 'CHANGELOG.md'];
  const links = linking.flatMap((path) =>
    linksOf(path, readFileSync(checkout + path, 'utf8')).map(([file, anchor]) => ({ path, file, anchor })),
  );
  assert.ok(links.length > 50);
  assert.deepEqual(
    links.filter(({ file, anchor }) => !leads(file, anchor)),
    [],
  );
});

test('each surface of the chapter on security names tests that show what protects it', () => {
  const [, chapter = ''] = /^## Security\n([\s\S]*?)^## /m.exec(readReadme('deploy/README.md')) ?? [];
  const [, table = ''] = /^\| Surface \|.*\n\|[-|]+\|\n([\s\S]*?)\n\n/m.exec(chapter) ?? [];
  const rows = table.split('\n').map((row) => row.split(' | ').at(-1) ?? '');
  assert.ok(rows.length >= 10);
  assert.deepEqual(
    rows.filter((tests) => !/^(`test\/[\w/-]+\.test\.ts`(, | \|$))+$/.test(tests)),
    [],
  );
});

test('each line of the table of failures points to a test that is there', () => {
  const rows = /^\| What fails \|.*\n\|[-|]+\|\n([\s\S]*?)\n\n/m.exec(readReadme('test/README.md'))?.[1]?.split('\n') ?? [];
  assert.ok(rows.length >= 25);
  const isThere = (row: string) => {
    const [, file = '', words = ''] = / \| `(test\/.+\.test\.ts)` "(.+)" \|$/.exec(row) ?? [];
    return file !== '' && readFileSync(checkout + file, 'utf8').includes(words);
  };
  assert.deepEqual(
    rows.filter((row) => !isThere(row)),
    [],
  );
});

function leads(file: string, anchor: string): boolean {
  if (!existsSync(checkout + file)) return false;
  return anchor === '' || (file.endsWith('.md') && anchorsOf(readFileSync(checkout + file, 'utf8')).includes(anchor));
}

test('links and anchors are found as a reader of the page follows them', () => {
  const page = '# A `b`: c-d\n[x](../y/README.md#z) [q](#here) [w](https://x.org/)\n```sh\n# no heading\n[no](link)\n```\n';
  assert.deepEqual(anchorsOf(page), ['a-b-c-d']);
  assert.deepEqual(linksOf('src/a/README.md', page), [
    ['src/y/README.md', 'z'],
    ['src/a/README.md', 'here'],
  ]);
});

test('code within a line ends on it, or nobody sees what it names', () => {
  assert.deepEqual(
    withoutFences(whole)
      .split('\n')
      .filter((line) => line.split('`').length % 2 === 0),
    [],
  );
});

/** The words behind `inorder`, however it was started. */
function wordsOf(command: string): readonly string[] | null {
  const words = /^(?:[A-Z_]+=\S+ )*(?:npm run -s inorder --|npx inorder|inorder)(?: (.*))?$/.exec(command);
  return words === null ? null : (words[1] ?? '').split(' ').filter((word) => word !== '' && word !== '…');
}

function commandOf(words: readonly string[]) {
  return commands.find(({ name }) => words.join(' ') === name || words.join(' ').startsWith(`${name} `));
}

test('every command that a README names exists, with its options', () => {
  const spoken = inlineCode.map(wordsOf).filter((words) => words !== null && words.length > 0) as (readonly string[])[];
  assert.deepEqual(
    spoken.filter((words) => commandOf(words) === undefined).map((words) => words.join(' ')),
    [],
  );
  const typed = examplesOf(written)
    .map(({ command }) => wordsOf(command))
    .filter((words) => words !== null);
  assert.ok(typed.length >= 12);
  for (const words of typed) {
    const command = commandOf(words);
    assert.ok(command, words.join(' '));
    assert.doesNotThrow(() => parseArguments(command, words.slice(command.name.split(' ').length)), words.join(' '));
  }
  const options = new Set([
    'help',
    'version',
    'wait',
    'import',
    'profile',
    'now',
    'from-literal',
    'ignore-not-found',
    'pack-destination',
    'test',
    'seeds',
    'jobs',
    'minutes',
    'entities',
    'store',
    'losses',
    'totals',
    'scan',
    'pattern',
    'exhaustive',
    'inputs',
    'target',
    'input',
    'overload',
    ...commands.flatMap((command) => Object.keys(command.options)),
  ]);
  const flags = [...written.matchAll(/(?<![\w-])--([a-z][a-z-]*)/g)].map(([, flag = '']) => flag);
  assert.deepEqual(
    flags.filter((flag) => !options.has(flag)),
    [],
  );
});

test('what a README imports and names of the library is exported', () => {
  const imported = fencesOf(whole).flatMap(({ text }) =>
    [...text.matchAll(/^import \{ (.+) \} from 'inorder';$/gm)].flatMap(([, names = '']) => names.split(', ')),
  );
  const called = inlineCode
    .map((code) => /^((?:create|define)[A-Z]\w+|[A-Z]\w+Error|idempotent|refuse)\b/.exec(code)?.[1])
    .filter((name) => name !== undefined);
  assert.ok(imported.length > 10 && called.length > 3);
  const values = [...imported, ...called].filter((name) => !name.startsWith('type '));
  assert.deepEqual(
    values.filter((name) => !(name in library)),
    [],
  );
});

/** A section of the design. */
function sectionOf(title: string): string {
  const [, section = ''] = new RegExp(`^## ${title}\\n([\\s\\S]*?)(?=^## |(?![\\s\\S]))`, 'm').exec(readReadme('src/README.md')) ?? [];
  assert.ok(section.length > 1_000, title);
  return section;
}

test('the names in the design are all that there are: variables, commands, reasons, exports and folders', () => {
  const names = sectionOf('4. Names that users see');
  const codes = new Set([...names.matchAll(/`([^`\n]+)`/g)].flatMap(([, code = '']) => [code, code.split('=')[0] ?? '']));
  assert.deepEqual(
    variableNames.filter((name) => !codes.has(name)),
    [],
  );
  assert.deepEqual(
    Object.keys({ ...library.rejectionReasons, ...brokerReasons }).filter((reason) => !codes.has(reason)),
    [],
  );
  const lines = names.split('\n');
  const isListed = (name: string) =>
    lines.some(
      (line) => line.includes(`inorder ${name.split(' ')[0]}`) && name.split(' ').every((word) => line.split(/[ |]+/).includes(word)),
    );
  assert.deepEqual(
    commands.map(({ name }) => name).filter((name) => !isListed(name)),
    [],
  );
  const inWords = /Error$|Store$|^(defaultEventLimits|rejectionReasons|Refused)$/;
  assert.deepEqual(
    Object.keys(library).filter((name) => !codes.has(name) && !inWords.test(name)),
    [],
  );
  const folders = readdirSync(`${checkout}src`, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => `${name}/`);
  const house = sectionOf('8. The house');
  assert.deepEqual(
    folders.filter((folder) => !house.includes(`\n  ${folder} `)),
    [],
  );
});

test("the demo's table in the README has the rows that the demo prints", () => {
  const labelsOf = (text: string) => [...text.matchAll(/^ {2,4}(\w[\w-]*(?: \w+){0,2}) {2,}[\d,]+ {2,}\S/gm)].map(([, label]) => label);
  const ledger = { confirmed: 1, applied: 1, duplicates: 0, deadLettered: 0, byReason: new Map(), ordersRight: 1, orders: 1, problems: [] };
  const printed = labelsOf(renderLedger(ledger, { settled: 1, unsettled: 0, held: 0, heldAtMost: 0, violations: 0 }));
  assert.ok(printed.includes('published') && printed.includes('orders as computed'));
  const shown = labelsOf(demo);
  assert.deepEqual(shown, printed);
});

test('the TypeScript of every README compiles strictly, and prints what it says', async (t) => {
  const snippets = snippetsOf(whole);
  const folder = useLibraryFolder(t);
  assert.ok(snippets.length >= 7);
  assert.equal(await compileSnippets(folder, snippets), '');
  for (const [index, snippet] of snippets.entries()) {
    const printed = printedBy(snippet);
    if (printed.length > 0) assert.deepEqual(await runSnippet(folder, index + 1), printed);
  }
});

test('an output counts as shown when only times, durations, shards and widths differ', () => {
  const shown = ['parked   since 2026-01-01T00:00:00.000Z, after 5002 ms', '…', 'a  b  3  2026-01-01T00:00:00Z'];
  const output = (line: string) => `parked  since 2027-02-03T04:05:06.789Z, after 4 ms\nanything\n${line}\n`;
  assert.ok(isShown(shown, output('a      b  7  2027-02-03T04:05:06Z')));
  assert.ok(!isShown(shown, output('a      c  7  2027-02-03T04:05:06Z')));
  assert.ok(!isShown(['3 events (all)'], '4 events (all)'));
  assert.ok(isShown(['3 events (all)'], '3 events (all)\n'));
  assert.ok(!isShown(['one'], 'one\ntwo\n'));
});

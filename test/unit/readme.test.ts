import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import test from 'node:test';
import { parseArguments } from '../../src/cli/arguments.ts';
import { commands } from '../../src/cli/commands.ts';
import { variableNames, variables } from '../../src/config/variables.ts';
import { renderLedger } from '../../src/demo/report.ts';
import * as library from '../../src/index.ts';
import { checkout } from '../support/checkout.ts';
import { blockOf, examplesOf, fencesOf, generatedBlocks, isShown, readReadme, snippetsOf } from '../support/readme.ts';
import { compileSnippets, printedBy, runSnippet, useLibraryFolder } from '../support/readme-snippets.ts';

const readme = readReadme();
/** Without what the demo printed, which speaks of the next version. */
const written = readme.replace(blockOf(readme, 'demo'), '');
const inlineCode = [...written.replaceAll(/^ *```[\s\S]*?^ *```$/gm, '').matchAll(/`([^`\n]+)`/g)].map(([, code = '']) => code);

for (const [name, render] of Object.entries(generatedBlocks)) {
  test(`the README's block "${name}" is what the code renders`, () => {
    assert.equal(blockOf(readme, name), render(), 'run: node --import tsx test/support/refresh-readme.ts');
  });
}

test('every variable that the README names is one, and it names all of them', () => {
  const secrets = variableNames.filter((name) => variables[name].secret).map((name) => `${name}_FILE`);
  const known: readonly string[] = [...variableNames, ...secrets];
  const ofOthers = ['NODE_OPTIONS'];
  const inExamples = examplesOf(written).flatMap(({ command }) => [...command.matchAll(/\b([A-Z][A-Z_]+)=/g)].map(([, name = '']) => name));
  const inProse = inlineCode.map((code) => /^([A-Z][A-Z0-9_]+)(?:=.*)?$/.exec(code)?.[1]).filter((name) => name !== undefined);
  const named = new Set([...inExamples, ...inProse]);
  assert.deepEqual([...named].filter((name) => !known.includes(name) && !ofOthers.includes(name)), []);
  assert.deepEqual(known.filter((name) => !named.has(name)), []);
});

test('every file that the README names is there, and every link leads somewhere', () => {
  const paths = [...readme.matchAll(/(?<![\w/.:-])(?:src|test|deploy)\/[\w./@-]*\w/g)].map(([path]) => path);
  const links = [...readme.matchAll(/\]\(([^)]+)\)/g)].map(([, target = '']) => target).filter((target) => !target.startsWith('https://'));
  assert.ok(paths.length >= 8, 'the picture names its source files');
  assert.deepEqual(paths.filter((path) => !existsSync(checkout + path)), []);
  const anchors = [...readme.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) => `#${heading.toLowerCase().replaceAll(/[^\w -]/g, '').replaceAll(' ', '-')}`);
  assert.deepEqual(links.filter((target) => (target.startsWith('#') ? !anchors.includes(target) : !existsSync(checkout + target))), []);
});

/** The words behind `inorder`, however it was started. */
function wordsOf(command: string): readonly string[] | null {
  const words = /^(?:[A-Z_]+=\S+ )*(?:npm run -s inorder --|npx inorder|inorder)(?: (.*))?$/.exec(command);
  return words === null ? null : (words[1] ?? '').split(' ').filter((word) => word !== '' && word !== '…');
}

function commandOf(words: readonly string[]) {
  return commands.find(({ name }) => words.join(' ') === name || words.join(' ').startsWith(`${name} `));
}

test('every command that the README names exists, with its options', () => {
  const spoken = inlineCode.map(wordsOf).filter((words) => words !== null && words.length > 0) as (readonly string[])[];
  assert.deepEqual(spoken.filter((words) => commandOf(words) === undefined).map((words) => words.join(' ')), []);
  const typed = examplesOf(written).map(({ command }) => wordsOf(command)).filter((words) => words !== null);
  assert.ok(typed.length >= 12);
  for (const words of typed) {
    const command = commandOf(words);
    assert.ok(command, words.join(' '));
    assert.doesNotThrow(() => parseArguments(command, words.slice(command.name.split(' ').length)), words.join(' '));
  }
  const options = new Set(['help', 'version', 'wait', 'import', 'profile', 'now', 'from-literal', 'ignore-not-found', ...commands.flatMap((command) => Object.keys(command.options))]);
  const flags = [...written.matchAll(/(?<![\w-])--([a-z][a-z-]*)/g)].map(([, flag = '']) => flag);
  assert.deepEqual(flags.filter((flag) => !options.has(flag)), []);
});

test('what the README imports and names of the library is exported', () => {
  const imported = fencesOf(readme).flatMap(({ text }) => [...text.matchAll(/^import \{ (.+) \} from 'inorder';$/gm)].flatMap(([, names = '']) => names.split(', ')));
  const called = inlineCode.map((code) => /^((?:create|define)[A-Z]\w+|\w+Error|idempotent|refuse)\b/.exec(code)?.[1]).filter((name) => name !== undefined);
  assert.ok(imported.length > 10 && called.length > 3);
  const values = [...imported, ...called].filter((name) => !name.startsWith('type '));
  assert.deepEqual(values.filter((name) => !(name in library)), []);
});

test("the demo's table in the README has the rows that the demo prints", () => {
  const labelsOf = (text: string) => [...text.matchAll(/^ {2,4}(\w[\w-]*(?: \w+){0,2}) {2,}[\d,]+ {2,}\S/gm)].map(([, label]) => label);
  const ledger = { confirmed: 1, applied: 1, duplicates: 0, deadLettered: 0, byReason: new Map(), ordersRight: 1, orders: 1, problems: [] };
  const printed = labelsOf(renderLedger(ledger, { applied: 1, settled: 1, unsettled: 0, held: 0, heldAtMost: 0, violations: 0 }));
  assert.ok(printed.includes('published') && printed.includes('orders as computed'));
  const shown = labelsOf(blockOf(readme, 'demo'));
  assert.deepEqual(shown, printed);
});

test('the TypeScript of the README compiles strictly, and prints what it says', { timeout: 180_000 }, async (t) => {
  const snippets = snippetsOf(readme);
  const folder = useLibraryFolder(t);
  assert.ok(snippets.length >= 4);
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

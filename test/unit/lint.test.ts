import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { checkout } from '../support/checkout.ts';

const biome = join(checkout, 'node_modules', '@biomejs', 'biome', 'bin', 'biome');

/** `file:line rule` for everything that the linter finds in these files under the settings of this project. */
function findingsIn(t: TestContext, files: Readonly<Record<string, string>>): readonly string[] {
  const folder = mkdtempSync(join(tmpdir(), 'inorder-lint-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const settings = { root: true, extends: [join(checkout, 'biome.jsonc')], files: { includes: ['**'] } };
  for (const [name, text] of Object.entries({ ...files, 'biome.json': JSON.stringify(settings) })) writeFileSync(join(folder, name), text);
  const args = [biome, 'lint', '--reporter=github', '--error-on-warnings'];
  const { stdout, stderr, status } = spawnSync(process.execPath, args, { cwd: folder, encoding: 'utf8' });
  const found = [...stdout.matchAll(/title=lint\/\w+\/(\w+),file=.*?([\w.]+),line=(\d+)/g)];
  assert.equal(status, found.length > 0 ? 1 : 0, stdout + stderr);
  return found.map(([, rule, file, line]) => `${file}:${line} ${rule}`).sort();
}

test('a promise that nobody waits for is found, also one that another file returns', (t) => {
  const files = {
    'letters.ts': 'export class Letters {\n  async close(): Promise<void> {}\n}\nexport const read = async (): Promise<number> => 1;\n',
    'planted.ts': [
      "import { type Letters, read } from './letters.ts';",
      'export async function run(letters: Letters): Promise<void> {',
      '  letters.close();',
      '  read();',
      '  read().then(() => undefined);',
      '  [1, 2].forEach(async () => read());',
      '  if (read()) return;',
      '  void letters.close();',
      '  letters.close().catch(() => undefined);',
      '  await read();',
      '}',
      '',
    ].join('\n'),
  };
  const floating = ['planted.ts:3 noFloatingPromises', 'planted.ts:4 noFloatingPromises', 'planted.ts:5 noFloatingPromises'];
  assert.deepEqual(findingsIn(t, files), [...floating, 'planted.ts:6 noMisusedPromises', 'planted.ts:7 noMisusedPromises']);
});

test('files that import each other are found, and so is an any in a source', (t) => {
  const files = {
    'a.ts': "import { b } from './b.ts';\nexport const a = (): unknown => b;\n",
    'b.ts': "import { a } from './a.ts';\nexport const b = (): unknown => a;\nexport const c = (value: any): unknown => value;\n",
  };
  assert.deepEqual(findingsIn(t, files), ['a.ts:1 noImportCycles', 'b.ts:1 noImportCycles', 'b.ts:3 noExplicitAny']);
});

test('what the settings leave out on purpose is not found', (t) => {
  const files = {
    'idioms.ts': [
      'let memo: number | null = null;',
      'export const remembered = (): number => (memo ??= 1);',
      "export const guarded = (text: string): boolean => /[\\u001b]/.test(text) || text === '[' + ']';",
      'export const first = (list: readonly string[]): string => list[0]!;',
      "export const nameIn = (record: Readonly<Record<string, string>>): string | undefined => record['name'];",
      'export function collect(into: number[], from: readonly number[]): void {',
      '  from.forEach((value) => into.push(value));',
      '}',
      '',
    ].join('\n'),
  };
  assert.deepEqual(findingsIn(t, files), []);
});

test('every rule that is switched off has its reason above it', () => {
  const lines = readFileSync(join(checkout, 'biome.jsonc'), 'utf8').split('\n');
  const switchedOff = lines.flatMap((line, index) => (/^\s*"no\w+": "off"|^\s*"use\w+": "off"/.test(line) ? [index] : []));
  assert.ok(switchedOff.length >= 5);
  const bare = switchedOff.filter((index) => !/^\s*\/\//.test(lines[index - 1] ?? ''));
  assert.deepEqual(
    bare.map((index) => lines[index]?.trim()),
    [],
  );
});

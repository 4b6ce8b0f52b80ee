import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { checkout } from '../support/checkout.ts';
import {
  brokenArrows,
  forbiddenName,
  forbiddenText,
  importsOf,
  maxCommentWidth,
  maxFileLines,
  maxFunctionLines,
  mayBeShort,
  minFileLines,
  missingHeader,
  orphans,
  ownTimeLimits,
  tooLong,
  tooShort,
  type Source,
  wideComments,
  wideProse,
} from '../support/house-rules.ts';

function sourcesIn(folder: string, extension: RegExp): readonly Source[] {
  if (!existsSync(join(checkout, folder))) return [];
  return readdirSync(join(checkout, folder), { recursive: true, encoding: 'utf8' })
    .map((name) => `${folder}/${name.replaceAll('\\', '/')}`)
    .filter((path) => extension.test(path))
    .sort()
    .map((path) => ({ path, text: readFileSync(join(checkout, path), 'utf8') }));
}

/** What the browser gets: judged by what it imports in console-site.test.ts. */
const page = sourcesIn('src/console/page', /\.js$/);
const src = sourcesIn('src', /\.ts$/).filter(({ path }) => !path.startsWith('src/console/page/'));
const lua = sourcesIn('src', /\.lua$/);
const deploy = sourcesIn('deploy', /\.(ts|mjs)$/);
const all = [...src, ...lua, ...page, ...deploy, ...sourcesIn('test', /\.ts$/)];

const planted = (path: string, text: string): Source => ({ path, text });

test('the tree that is judged is the one that is there', () => {
  assert.ok(src.length > 20, `${src.length} files in src`);
});

test('imports run along the arrows of the design', () => {
  assert.deepEqual(src.flatMap(brokenArrows), []);
  assert.deepEqual(brokenArrows(planted('src/ordering/x.ts', "import { a } from '../stores/store.ts';")), [
    'src/ordering/x.ts: ordering must not import stores',
  ]);
  assert.equal(brokenArrows(planted('src/events/x.ts', "import { readFileSync } from 'node:fs';")).length, 1);
  assert.equal(brokenArrows(planted('src/stores/redis/x.ts', "import type {\n  A,\n} from '../../worker/worker.ts';")).length, 1);
  assert.equal(brokenArrows(planted('src/rabbitmq/x.ts', "const a = await import('../worker/worker.ts');")).length, 1);
  assert.equal(brokenArrows(planted('src/worker/x.ts', "import '../main.ts';")).length, 1);
  assert.equal(brokenArrows(planted('src/worker/x.ts', "import '../../test/support/services.ts';")).length, 1);
  assert.equal(brokenArrows(planted('src/cli/worker.ts', "await import('../../deploy/demo/demo.ts');")).length, 1);
  assert.equal(brokenArrows(planted('src/plumbing/x.ts', '')).length, 1);
  assert.deepEqual(brokenArrows(planted('src/worker/x.ts', "import { E } from '../errors.ts';\nimport '../stores/store.ts';")), []);
});

test('no file of src is imported by nobody', () => {
  assert.deepEqual(orphans(src, ['src/main.ts', 'src/index.ts']), []);
  const lonely = [planted('src/main.ts', "import { a } from './a.ts';"), planted('src/a.ts', ''), planted('src/b.ts', "import './a.ts';")];
  assert.deepEqual(orphans(lonely, ['src/main.ts']), ['src/b.ts: nobody imports it']);
});

test('files and functions keep to their length', () => {
  assert.deepEqual([...src, ...page, ...deploy].flatMap(tooLong), []);
  assert.equal(tooLong(planted('x.ts', 'x;\n'.repeat(maxFileLines))).length, 0);
  assert.equal(tooLong(planted('x.ts', 'x;\n'.repeat(maxFileLines + 1))).length, 1);
  for (const signature of [
    'function f() {',
    'const f = async (a: A) => {',
    '  async #f(a: A): Promise<B> {',
    '  constructor() {',
    '): Promise<{ a: 1 }> {',
  ]) {
    const indent = /^ */.exec(signature)![0];
    const filled = (lines: number) => planted('x.ts', `${signature}\n${`${indent}  x;\n`.repeat(lines - 2)}${indent}}\n`);
    assert.equal(tooLong(filled(maxFunctionLines)).length, 0, signature);
    assert.equal(tooLong(filled(maxFunctionLines + 1)).length, 1, signature);
  }
});

test('no file of src is a sliver of a concept, except where a reason says so', () => {
  const files = sourcesIn('src', /\.ts$/);
  assert.deepEqual(files.flatMap(tooShort), []);
  assert.equal(tooShort(planted('src/x.ts', 'x;\n'.repeat(minFileLines))).length, 0);
  assert.equal(tooShort(planted('src/x.ts', 'x;\n'.repeat(minFileLines - 1))).length, 1);
  const needless = Object.keys(mayBeShort).filter((path) => {
    const file = files.find((one) => one.path === path);
    return file === undefined || tooShort({ ...file, path: 'src/x.ts' }).length === 0;
  });
  assert.deepEqual(needless, [], 'an exception that is needed no more');
});

test('a comment fits on a screen', () => {
  assert.deepEqual(all.flatMap(wideComments), []);
  for (const start of ['/** ', ' * ', '  // ', '-- ']) {
    assert.equal(wideComments(planted('x.ts', start.padEnd(maxCommentWidth, 'x'))).length, 0, start);
    assert.equal(wideComments(planted('x.ts', start.padEnd(maxCommentWidth + 1, 'x'))).length, 1, start);
  }
  assert.deepEqual(wideComments(planted('x.ts', `const text = '${'x'.repeat(maxCommentWidth)}';`)), []);
});

test('a line of prose fits on a screen', () => {
  const top = ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md'].map((path) => planted(path, readFileSync(join(checkout, path), 'utf8')));
  const folders = ['src', 'deploy', 'test'].flatMap((folder) => sourcesIn(folder, /\.md$/));
  assert.deepEqual([...top, ...folders].flatMap(wideProse), []);
  const [full, wide] = ['x'.repeat(maxCommentWidth), 'x'.repeat(maxCommentWidth + 1)];
  const lines = [
    full,
    wide,
    `| ${wide} |`,
    '```',
    wide,
    '```',
    wide,
    '- a',
    '  ```sh',
    `  ${wide}`,
    '  ```',
    `  ${full}`,
    `[a](b) ${full}`,
  ];
  assert.deepEqual(
    wideProse(planted('x.md', lines.join('\n'))).map((line) => line.split(':')[1]),
    ['2', '7', '12', '13'],
  );
});

test('the README fits into one reading: everything else is in the folder that it is about', () => {
  const lines = readFileSync(join(checkout, 'README.md'), 'utf8').trimEnd().split('\n').length;
  assert.ok(lines <= 300, `README.md has ${lines} lines`);
});

test('files and folders are named after what they hold', () => {
  assert.deepEqual(all.flatMap(forbiddenName), []);
  for (const path of ['src/utils/x.ts', 'src/worker/helpers.ts', 'src/common/a.ts', 'src/types.ts', 'src/events/util.test.ts']) {
    assert.equal(forbiddenName(planted(path, '')).length, 1, path);
  }
  assert.deepEqual(forbiddenName(planted('src/events/event-types.ts', '')), []);
});

test('nothing forbidden is written', () => {
  const others = all.filter(({ path }) => !path.includes('house-rules'));
  assert.deepEqual(others.flatMap(forbiddenText), []);
  const bad: readonly (readonly [string, string])[] = [
    ['src/index.ts', "export * from './a.ts';"],
    ['src/worker/a.ts', `// ${'TO'}${'DO'}: later`],
    ['src/worker/a.ts', "console.log('x');"],
    ['src/worker/a.ts', "import { b } from './b.js';"],
    ['src/worker/a.ts', "log.warn({ cause: error.message }, 'lost');"],
    ['src/ordering/a.ts', 'const now = Date.now();'],
    ['src/events/a.ts', 'const now = new Date();'],
    ['src/aggregates/a.ts', 'const id = Math.random();'],
    ['src/ordering/a.ts', 'setTimeout(f, 5);'],
    ['src/ordering/a.ts', 'if (process.env.X) f();'],
    ['src/worker/a.ts', 'const now = Date.now();'],
    ['src/stores/a.ts', "import { setTimeout as sleep } from 'node:timers/promises';"],
    ['src/cli/a.ts', 'fetch(url, { signal: AbortSignal.timeout(5) });'],
    ['src/rabbitmq/a.ts', 'const id = randomUUID();'],
    ['src/worker/a.ts', 'const options = { time: systemTime };'],
    ['deploy/local/x.ts', 'const START_TIMEOUT_MS = 20_000;'],
  ];
  for (const [path, text] of bad) assert.equal(forbiddenText(planted(path, text)).length, 1, text);
  const good: readonly (readonly [string, string])[] = [
    ['src/ordering/a.ts', ' * Date.now is never called here.'],
    ['src/ordering/a.ts', 'f(); // setTimeout is for the driver'],
    ['src/events/a.ts', 'const at = new Date(text);'],
    ['src/time.ts', 'const now = Date.now();'],
    ['src/worker/a.ts', 'let timer: NodeJS.Timeout | null = null;'],
    ['src/worker/worker.ts', 'const { time = systemTime } = options;'],
  ];
  for (const [path, text] of good) assert.deepEqual(forbiddenText(planted(path, text)), [], text);
});

test('every source begins with what it guarantees, and a script with its KEYS, ARGV and what it returns', () => {
  assert.deepEqual([...src, ...lua, ...page, ...deploy].flatMap(missingHeader), []);
  assert.equal(missingHeader(planted('a.ts', "import './b.ts';\n/** Far too late to be a header of the file. */")).length, 1);
  assert.equal(missingHeader(planted('a.ts', '/** short */')).length, 1);
  assert.deepEqual(missingHeader(planted('a.ts', '#!/usr/bin/env node\n/** The command, and nothing else at all. */')), []);
  assert.equal(missingHeader(planted('a.lua', '-- KEYS[1] the entity\n-- ARGV[1] the version\nreturn 1')).length, 1);
  assert.deepEqual(missingHeader(planted('a.lua', '-- KEYS[1] the entity\n-- ARGV[1] the version\n-- Returns 1\nreturn 1')), []);
});

test('imports are found in every form in which they are written', () => {
  const text = `import a from 'a';\nimport type { B } from 'b';\nimport {\n  c,\n} from 'c';\nimport 'd';\nexport { e } from 'e';\nawait import('f');\nconst x = "import g from 'g'";`;
  assert.deepEqual(importsOf(text), ['a', 'b', 'c', 'd', 'e', 'f']);
});

test('no test has a time limit of its own', () => {
  assert.deepEqual(
    sourcesIn('test', /\.test\.ts$/)
      .filter(({ path }) => path !== 'test/unit/house-rules.test.ts')
      .flatMap(ownTimeLimits),
    [],
  );
  for (const text of [
    "test('a', { timeout: 60_000 }, async () => {",
    '  { ...needs, timeout: 60_000 },',
    "  await waitUntil(() => ready, { what: 'it', timeoutMs: 10_000 });",
  ])
    assert.equal(ownTimeLimits(planted('test/unit/x.test.ts', text)).length, 1, text);
});

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import test from 'node:test';
import { checkout } from '../support/checkout.ts';

const text = readFileSync(`${checkout}CONTRIBUTING.md`, 'utf8');

/** What looks like a path from the folder of package.json. */
function pathsIn(words: string): readonly string[] {
  const paths = words.matchAll(/(?<![\w/.:-])(?:(?:src|test|deploy|\.ci|\.github)\/[\w./-]*\w|[\w-]+\.(?:jsonc?|yml|md))(?![\w/])/g);
  return [...paths].map(([path]) => path);
}

test('every path that CONTRIBUTING names is there', () => {
  const paths = pathsIn(text);
  assert.ok(paths.length >= 30, `${paths.length} paths`);
  assert.deepEqual(
    paths.filter((path) => !existsSync(checkout + path)),
    [],
  );
  assert.deepEqual(pathsIn('`src/nowhere/at-all.ts` and .ci/run, see deploy/x.'), ['src/nowhere/at-all.ts', '.ci/run', 'deploy/x']);
});

test('every script of npm that CONTRIBUTING names is one, and it names all that a developer calls', () => {
  const { scripts } = JSON.parse(readFileSync(`${checkout}package.json`, 'utf8')) as { scripts: Record<string, string> };
  const named = new Set([...text.matchAll(/npm (?:run )?([a-z:]+)/g)].map(([, script = '']) => script));
  const ofNpmItself = ['prepack'];
  const forUsers = ['build', 'clean', 'inorder'];
  assert.deepEqual(
    [...named].sort(),
    Object.keys(scripts)
      .filter((script) => ![...ofNpmItself, ...forUsers].includes(script))
      .sort(),
  );
});

test('it says of a command, a variable, a metric, a reason and a store which files a new one touches', () => {
  const section = /^## What a new one touches$([\s\S]*?)^## /m.exec(text)?.[1] ?? '';
  const items = [...section.matchAll(/^- \*\*A (\w+)\*\*:([\s\S]*?)(?=^- \*\*|\n\n)/gm)];
  assert.deepEqual(
    items.map(([, thing]) => thing),
    ['command', 'variable', 'metric', 'reason', 'store'],
  );
  for (const [, thing, words = ''] of items) assert.ok(pathsIn(words).length >= 2, thing);
});

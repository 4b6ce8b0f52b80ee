import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import test, { after } from 'node:test';
import { pathToFileURL } from 'node:url';
import { ConfigError } from '../../src/errors.ts';
import { loadProcessors } from '../../src/worker/operator-modules.ts';

const directory = mkdtempSync(join(tmpdir(), 'inorder-processors-'));
after(() => rmSync(directory, { recursive: true, force: true }));

function moduleOf(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

const aggregate = "{ type: 'ticket', initialState: { n: 0 }, evolve: { '*': ({ n }) => ({ n: n + 1 }) } }";
const handler = "{ type: 'ticket', handle: () => 'done' }";

const load = (processor: string) => loadProcessors({ processor, entityType: 'purchase' });

async function problemsOf(processor: string): Promise<readonly string[]> {
  const error: unknown = await load(processor).then(
    () => null,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof ConfigError, String(error));
  return error.problems;
}

test('the built-in order is for the entity type of the configuration, and history for every type', async () => {
  const orders = await load('order');
  assert.ok(orders.forType('purchase')?.aggregate?.evolve.has('OrderCreated'));
  assert.equal(orders.forType('ticket'), null);
  assert.ok((await load('history')).forType('ticket')?.aggregate);
});

test('a module exports one processor or an array of them', async () => {
  const one = await load(moduleOf('one.mjs', `export default ${aggregate};`));
  assert.equal(one.forType('ticket')?.handlers.length, 0);
  const both = await load(moduleOf('both.mjs', `export default [${aggregate}, ${handler}];`));
  assert.equal(both.forType('ticket')?.handlers.length, 1);
});

test('a module is named by a path, relative to the working directory, or by a file URL', async () => {
  const path = moduleOf('named # %20.mjs', `export default ${handler};`);
  for (const name of [path, relative(process.cwd(), path), pathToFileURL(path).href]) assert.ok((await load(name)).forType('ticket'), name);
});

test('a CommonJS module will do', async () => {
  assert.ok((await load(moduleOf('common.cjs', `module.exports = ${handler};`))).forType('ticket'));
});

test('a module that does not load is named, with the reason on one line', async () => {
  for (const name of [
    './no-such-module.mjs',
    moduleOf('syntax.mjs', 'export default {'),
    moduleOf('throws.mjs', "throw 'no\\nway';"),
    moduleOf('secret.mjs', "throw new Error('password=hunter2');"),
    moduleOf('odd.mjs', 'throw Object.create(null);'),
    'file:no url',
  ]) {
    const [problem = '', ...others] = await problemsOf(name);
    assert.ok(problem.startsWith(`PROCESSOR ${name} does not load: `), problem);
    assert.doesNotMatch(problem, /\n|hunter2/);
    assert.deepEqual(others, []);
  }
});

test('a module that exports the wrong thing is named, with everything that is wrong', async () => {
  const none = moduleOf('none.mjs', `export const processor = ${handler};`);
  assert.match((await problemsOf(none))[0] ?? '', /no default export/);
  const wrong = moduleOf('wrong.mjs', "export default [7, { type: 'a', handle: 1 }];");
  assert.deepEqual(await problemsOf(wrong), [
    `PROCESSOR ${wrong}: number 1 is neither an aggregate (evolve) nor a handler (handle)`,
    `PROCESSOR ${wrong}: handler "a" needs handle: a function of event and context`,
  ]);
  assert.match((await problemsOf(moduleOf('empty.mjs', 'export default [];')))[0] ?? '', /no processor/);
  assert.match((await problemsOf(moduleOf('null.mjs', 'export default null;')))[0] ?? '', /number 1 is neither/);
});

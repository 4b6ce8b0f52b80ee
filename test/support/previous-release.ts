/**
 * The release before this one, for tests that run it beside this one: its sources, taken from the history of the checkout and run with the
 * packages that are installed here. At a release `previousRelease` becomes its tag.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { checkout } from './checkout.ts';
import type { Launcher } from './worker-process.ts';

/** Nothing has been tagged yet: the last commit before stores kept a record of their layout. */
const previousRelease = 'c60100790335e23a1ab90d982880e57a5739ab4a';

/** Why it cannot be run here; false if it can. */
export function whyNoPreviousRelease(): string | false {
  const [theirs, ours] = [git('show', `${previousRelease}:package.json`), readFileSync(`${checkout}package.json`)];
  if (theirs === null) return `the history of this checkout does not go back to the previous release: git fetch --unshallow`;
  const packages = [theirs, ours].map((manifest) => JSON.stringify(JSON.parse(String(manifest)).dependencies));
  return packages[0] === packages[1] ? false : 'the previous release needs other packages than are installed here';
}

/** Starts its commands and workers. Its files are removed after the test. */
export function usePreviousRelease(t: TestContext): Launcher {
  const folder = mkdtempSync(join(tmpdir(), 'inorder-previous-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const archive = git('archive', previousRelease, 'src', 'package.json', 'tsconfig.json');
  execFileSync('tar', ['-x', '-C', folder], { input: archive ?? '' });
  symlinkSync(`${checkout}node_modules`, join(folder, 'node_modules'), 'dir');
  return { program: [process.execPath, '--import', import.meta.resolve('tsx'), join(folder, 'src', 'main.ts')] };
}

function git(...words: readonly string[]): Buffer | null {
  try {
    return execFileSync('git', words, { cwd: checkout, stdio: ['ignore', 'pipe', 'ignore'], maxBuffer: 256 * 1_024 * 1_024 });
  } catch {
    return null;
  }
}

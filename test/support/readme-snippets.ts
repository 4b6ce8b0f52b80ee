/**
 * The TypeScript of every README as programs: compiled strictly against the library of this checkout, and run. A line
 * `console.log(…); // text` says what it prints.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';
import { checkout, commandLine, moduleUrl } from './checkout.ts';

const run = promisify(execFile);
const compiler = join(checkout, 'node_modules', 'typescript', 'bin', 'tsc');

/** A folder in which `inorder` can be imported as by those who installed it; removed after the test. */
export function useLibraryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'inorder-readme-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const library = join(folder, 'node_modules', 'inorder');
  mkdirSync(library, { recursive: true });
  writeFileSync(join(library, 'package.json'), JSON.stringify({ name: 'inorder', type: 'module', exports: './index.js' }));
  writeFileSync(join(library, 'index.js'), `export * from '${moduleUrl('src/index.ts').href}';\n`);
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
  return folder;
}

/** What the compiler has to say of the snippets; what it makes of them lies in `folder`, as `snippet-1.js`… */
export async function compileSnippets(folder: string, snippets: readonly string[]): Promise<string> {
  const files = snippets.map((text, index) => {
    const file = join(folder, `snippet-${index + 1}.ts`);
    // A module of its own even where it imports nothing.
    writeFileSync(file, `${text}\nexport {};\n`);
    return file;
  });
  const out = join(folder, 'out');
  const compilerOptions = {
    rootDir: '/',
    outDir: out,
    declaration: false,
    sourceMap: false,
    paths: { inorder: [join(checkout, 'src', 'index.ts')] },
    typeRoots: [join(checkout, 'node_modules', '@types')],
  };
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({ extends: join(checkout, 'tsconfig.json'), compilerOptions, include: [], files }),
  );
  const complaints = await run(process.execPath, [compiler, '-p', folder]).then(
    ({ stdout }) => stdout,
    ({ stdout, stderr }: { stdout: string; stderr: string }) => `${stdout}${stderr}`,
  );
  for (const file of files) {
    const name = file.slice(folder.length + 1).replace(/\.ts$/, '.js');
    await run('cp', [join(out, folder, name), join(folder, name)]);
  }
  return complaints;
}

/** Runs one that was compiled; its lines on standard output. */
export async function runSnippet(folder: string, number: number): Promise<readonly string[]> {
  const { stdout } = await run(process.execPath, [...commandLine.slice(0, -1), join(folder, `snippet-${number}.js`)]);
  return stdout.trimEnd().split('\n');
}

/** What the snippet says that it prints. */
export function printedBy(snippet: string): readonly string[] {
  return [...snippet.matchAll(/^console\.log\(.*\); \/\/ (.+)$/gm)].map(([, text = '']) => text);
}

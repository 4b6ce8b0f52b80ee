/**
 * Where the checkout is and how its command line is run, from a test as it is written or as it is compiled.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const compiled = import.meta.url.endsWith('.js');

/** The folder of package.json, with a slash at its end. */
export const checkout = fileURLToPath(new URL(compiled ? '../../../' : '../../', import.meta.url));
if (!existsSync(`${checkout}package.json`)) throw new Error(`${checkout} is not the checkout`);

/** A module of the project as the tests run it: `src/main.ts` or what it was compiled to. */
export function moduleUrl(path: string): URL {
  return compiled ? new URL(`../../${path.replace(/\.ts$/, '.js')}`, import.meta.url) : new URL(`../../${path}`, import.meta.url);
}

/** Arguments for `node` that run the command line of this checkout, from any folder. */
export const commandLine: readonly string[] = [
  ...(compiled ? [] : ['--import', import.meta.resolve('tsx'), '--import', moduleUrl('deploy/local/ts-in-threads.mjs').href]),
  fileURLToPath(moduleUrl('src/main.ts')),
];

/** Which version of Inorder this is. */
import { readFileSync } from 'node:fs';

let known: string | null = null;

/** From the package that this file is part of, in the checkout as well as in the build. */
export function packageVersion(): string {
  known ??= readVersion();
  return known;
}

function readVersion(): string {
  for (const candidate of ['../../package.json', '../../../package.json']) {
    try {
      const manifest = JSON.parse(readFileSync(new URL(candidate, import.meta.url), 'utf8')) as { name?: string; version?: string };
      if (manifest.name === 'inorder' && manifest.version !== undefined) return manifest.version;
    } catch {
      // Not there: it is the other one.
    }
  }
  return 'unknown';
}

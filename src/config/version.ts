/** The version of Inorder. */
import { readFileSync } from 'node:fs';

let known: string | null = null;

/** Reads it from package.json, both in the checkout and in the build. */
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
      // Not found: try the other place.
    }
  }
  return 'unknown';
}

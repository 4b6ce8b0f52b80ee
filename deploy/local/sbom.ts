/**
 * `npm run sbom`: what an installation of Inorder consists of, as CycloneDX on standard output. npm makes it, from a lock file and a
 * package.json that ask for nothing to develop with: the `--omit dev` of `npm sbom` leaves out what both need as well [seen with npm 11].
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const read = (name: string) => JSON.parse(readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8'));
const [manifest, lock] = [read('package.json'), read('package-lock.json')];
for (const asking of [manifest, lock.packages['']]) delete asking.devDependencies;
const temporary = mkdtempSync(join(tmpdir(), 'inorder-sbom-'));
try {
  // npm names the component after the folder.
  const folder = join(temporary, manifest.name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest));
  writeFileSync(join(folder, 'package-lock.json'), JSON.stringify(lock));
  // npm's own path when npm started us; the PATH otherwise.
  const script = process.env['npm_execpath'];
  const [npm = 'npm', ...first] = script?.endsWith('.js') ? [process.execPath, script] : [];
  const options = ['--package-lock-only', '--sbom-format=cyclonedx', '--sbom-type=application', `--prefix=${folder}`];
  process.exitCode = spawnSync(npm, [...first, 'sbom', ...options], { cwd: folder, stdio: ['ignore', 'inherit', 'inherit'] }).status ?? 1;
} finally {
  rmSync(temporary, { recursive: true });
}

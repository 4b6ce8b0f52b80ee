/**
 * Installs Debian packages without letting them start system services.
 *
 * Debian asks `/usr/sbin/policy-rc.d` whether a package may start its service; while ours is there the answer is no.
 * One that was there before is put aside and put back, also when the installation fails.
 */
import { execFile } from 'node:child_process';
import { chmod, rename, rm, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { findExecutable } from './rabbit-binaries.ts';

const policyFile = '/usr/sbin/policy-rc.d';
const policyPutAside = `${policyFile}.before-inorder`;
const actionForbiddenByPolicy = 101;
const installTimeoutMs = 600_000;

const run = promisify(execFile);

/** Null when the packages are installed, otherwise why not: not Debian, not root, or what apt-get said. */
export async function installDebianPackages(
  packages: readonly string[],
  env: NodeJS.ProcessEnv,
  log: (line: string) => void,
): Promise<string | null> {
  const aptGet = findExecutable('apt-get', env);
  if (aptGet === null) return 'this system has no apt-get';
  if (process.getuid?.() !== 0) return `installing ${packages.join(' and ')} takes root`;
  log(`installing ${packages.join(' and ')} with apt-get, once`);
  const apt = (...args: string[]): Promise<unknown> =>
    run(aptGet, ['-qq', '-o', 'DPkg::Lock::Timeout=120', ...args], {
      env: { ...env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' },
      timeout: installTimeoutMs,
      maxBuffer: 64 * 1024 * 1024,
    });
  try {
    await apt('update');
    await withoutServiceStarts(() => apt('install', '-y', '--no-install-recommends', ...packages));
    return null;
  } catch (error) {
    return `apt-get failed: ${lastLine(error)}`;
  }
}

async function withoutServiceStarts(install: () => Promise<unknown>): Promise<void> {
  const putAside = await rename(policyFile, policyPutAside).then(
    () => true,
    () => false,
  );
  try {
    await writeFile(policyFile, `#!/bin/sh\nexit ${actionForbiddenByPolicy}\n`);
    await chmod(policyFile, 0o755);
    await install();
  } finally {
    await rm(policyFile, { force: true });
    if (putAside) await rename(policyPutAside, policyFile);
  }
}

function lastLine(error: unknown): string {
  const stderr = (error as { stderr?: string }).stderr ?? '';
  const lines = stderr.split('\n').filter((line) => line.trim() !== '');
  return lines.at(-1) ?? (error instanceof Error ? error.message : String(error));
}

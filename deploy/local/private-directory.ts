/**
 * Directories of private nodes: `inorder-<kind>-<owner's process id>-<random>` below the system's temporary directory.
 *
 * A guardian normally removes a directory when its owner dies. If it could not (the machine was switched off, the
 * guardian was killed as well), the next start does: it removes what belongs to owners of this host that
 * no longer exist, after killing a service that still runs in it.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { processIdFile } from './guarded-process.ts';

const directoryName = /^inorder-[a-z]+-(\d+)-\w+$/;
const hostFile = 'host';

const run = promisify(execFile);

/** A new, empty directory that only this user can read, in `root`. `kind` is a word in lower-case letters. */
export async function createPrivateDirectory(kind: string, root: string = tmpdir()): Promise<string> {
  const directory = await mkdtemp(join(root, `inorder-${kind}-${process.pid}-`));
  await writeFile(join(directory, hostFile), hostname());
  return directory;
}

export async function removePrivateDirectory(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}

/** Removes what dead owners left behind. Failures are ignored: a directory that stays costs only its space. */
export async function sweepStaleDirectories(root: string = tmpdir()): Promise<void> {
  const names = await readdir(root).catch(() => []);
  for (const name of names) {
    const owner = directoryName.exec(name)?.[1];
    if (owner === undefined || isAlive(Number(owner))) continue;
    const directory = join(root, name);
    // A temporary directory shared with another host or container: the process id says nothing here.
    if ((await readText(join(directory, hostFile))) !== hostname()) continue;
    await killServiceIn(directory);
    await removePrivateDirectory(directory).catch(() => undefined);
  }
}

async function killServiceIn(directory: string): Promise<void> {
  const pid = Number(await readText(join(directory, processIdFile)));
  if (!Number.isSafeInteger(pid) || pid <= 1) return;
  const commandLine = await run('ps', ['-ww', '-o', 'args=', '-p', String(pid)]).then(
    ({ stdout }) => stdout,
    () => '',
  );
  // Process ids are reused: only a process that names this very directory is the one that was left behind.
  if (!commandLine.includes(directory)) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It ended by itself meanwhile.
  }
}

/** Whether a process of that id exists on this host, whoever's it is. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function readText(file: string): Promise<string | null> {
  return readFile(file, 'utf8').then(
    (text) => text.trim(),
    () => null,
  );
}

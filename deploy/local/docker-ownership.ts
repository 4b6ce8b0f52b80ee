/**
 * Containers that never outlive the process that started them.
 *
 * testcontainers has a reaper for that, which is itself a container. Where its image cannot be had it is switched off,
 * and a guardian as in guarded-process.ts calls `docker rm` instead when the owner dies. What neither caught (an owner
 * killed while a container was starting) carries its owner's name in a label, and the next start removes it.
 */
import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { hostname } from 'node:os';
import { obtainImage, type ContainerEngine } from './docker-images.ts';
import { isAlive } from './private-directory.ts';
import { findExecutable } from './rabbit-binaries.ts';

const ownerLabel = 'inorder.owner';
const reaperSwitch = 'TESTCONTAINERS_RYUK_DISABLED';
const guardianScript = `trap '' HUP INT TERM; read -r word && [ "$word" = released ] || exec docker rm -f -v "$1"`;

/** To be put on every container that this process starts. */
export function ownerLabels(): Record<string, string> {
  return { [ownerLabel]: `${hostname()}/${process.pid}` };
}

/** Without its image, testcontainers would fail on its reaper before it started anything. */
export async function chooseReaper(engine: ContainerEngine): Promise<void> {
  if (process.env[reaperSwitch] !== undefined) return;
  const { REAPER_IMAGE } = await import('testcontainers/build/reaper/reaper.js');
  if ((await obtainImage(engine, REAPER_IMAGE, () => undefined)) !== null) process.env[reaperSwitch] = 'true';
}

/** Where the reaper is off: removes the container when this process dies. The function it returns releases it. */
export function guardContainer(id: string): () => void {
  if (process.env[reaperSwitch] !== 'true' || findExecutable('docker') === null) return () => undefined;
  const guardian = spawn('/bin/sh', ['-c', guardianScript, 'inorder-guardian', id], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  guardian.stdin.on('error', () => undefined);
  guardian.on('error', () => undefined);
  guardian.unref();
  (guardian.stdin as unknown as Socket).unref();
  return () => guardian.stdin.end('released\n');
}

/** Removes containers of owners on this host that no longer exist. Failures are ignored. */
export async function sweepStaleContainers(engine: ContainerEngine): Promise<void> {
  const { dockerode } = engine.container;
  const owned = await dockerode.listContainers({ all: true, filters: { label: [ownerLabel] } }).catch(() => []);
  for (const { Id, Labels } of owned) {
    const [host, pid] = (Labels[ownerLabel] ?? '').split('/');
    if (host !== hostname() || isAlive(Number(pid))) continue;
    await dockerode
      .getContainer(Id)
      .remove({ force: true, v: true })
      .catch(() => undefined);
  }
}

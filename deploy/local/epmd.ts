/**
 * Erlang's port mapper, one per process of ours, on a private port of the loopback address.
 *
 * Every Erlang node registers with a port mapper. Left alone, the first node starts one on the well-known port 4369
 * and leaves it running for ever; ours is an ordinary guarded child. It is shared by all private nodes of
 * this process, so that they can also be joined into a cluster.
 */
import { connect } from 'node:net';
import { join } from 'node:path';
import { freePort, loopback } from './free-port.ts';
import { GuardedProcess } from './guarded-process.ts';
import { createPrivateDirectory } from './private-directory.ts';
import { findExecutable } from './rabbit-binaries.ts';
import { waitUntil } from './wait-until.ts';

let shared: Promise<number> | null = null;

/** The port of this process's port mapper, started on first use. It ends with this process. */
export function epmdPort(): Promise<number> {
  shared ??= start().catch((error: unknown) => {
    shared = null;
    throw error;
  });
  return shared;
}

async function start(): Promise<number> {
  const command = findExecutable('epmd');
  if (command === null) throw new Error('Erlang is installed without epmd, its port mapper');
  const directory = await createPrivateDirectory('epmd');
  const port = await freePort();
  const epmd = await GuardedProcess.spawn({
    command,
    // Without the relaxed check it would refuse to forget a node that was killed and comes back.
    args: ['-port', String(port), '-address', loopback, '-relaxed_command_check'],
    env: { PATH: process.env.PATH },
    directory,
    logFile: join(directory, 'epmd.log'),
  });
  await waitUntil(() => epmd.running && accepts(port), { timeoutMs: 5_000, what: 'epmd to listen' });
  return port;
}

/** Whether something accepts a connection on that port of the loopback address. */
export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: loopback });
    const answer = (accepted: boolean): void => {
      socket.destroy();
      resolve(accepted);
    };
    socket.once('connect', () => answer(true));
    socket.once('error', () => answer(false));
  });
}

/**
 * Where RabbitMQ's own scripts are installed.
 *
 * Debian puts wrappers on the PATH that switch to the user `rabbitmq` and use the system's node; the scripts behind them
 * run as whoever calls them. So the real `sbin` (or Debian's link to it) is looked for, never the wrapper.
 */
import { existsSync, realpathSync } from 'node:fs';
import { basename, delimiter, dirname, join } from 'node:path';

export interface RabbitBinaries {
  readonly server: string;
  readonly ctl: string;
}

const knownPlaces = ['/usr/lib/rabbitmq/bin', '/usr/local/opt/rabbitmq/sbin', '/opt/homebrew/opt/rabbitmq/sbin'];

/** Null when no RabbitMQ with its Erlang runtime is installed. `RABBITMQ_HOME` is looked at first. */
export function findRabbitBinaries(env: NodeJS.ProcessEnv = process.env): RabbitBinaries | null {
  if (findExecutable('erl', env) === null) return null;
  const home = env.RABBITMQ_HOME === undefined ? [] : [join(env.RABBITMQ_HOME, 'sbin')];
  const onPath = realDirectoryOf(findExecutable('rabbitmq-server', env));
  for (const place of [...home, ...knownPlaces, ...onPath]) {
    const server = join(place, 'rabbitmq-server');
    const ctl = join(place, 'rabbitmqctl');
    if (existsSync(server) && existsSync(ctl)) return { server, ctl };
  }
  return null;
}

/** The first file of that name in a directory of the PATH, or null. */
export function findExecutable(name: string, env: NodeJS.ProcessEnv = process.env): string | null {
  const directories = (env.PATH ?? '').split(delimiter).filter((directory) => directory !== '');
  // A user's PATH often lacks sbin, where distributions put servers and their tools.
  for (const directory of [...directories, ...(directories.length === 0 ? [] : ['/usr/sbin', '/usr/local/sbin'])]) {
    const file = join(directory, name);
    if (existsSync(file)) return file;
  }
  return null;
}

function realDirectoryOf(file: string | null): string[] {
  if (file === null) return [];
  const real = realpathSync(file);
  return basename(real) === 'rabbitmq-server' ? [dirname(real)] : [];
}

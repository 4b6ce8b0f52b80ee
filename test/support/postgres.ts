/**
 * PostgreSQL for tests: DATABASE_URL as given, or a private node of installed binaries, which the runner installs from Debian's
 * package where it may, as it does PgBouncer. Elsewhere the tests that need them are skipped, and say what is missing.
 */
import { installDebianPackages } from '../../deploy/local/debian-packages.ts';
import { findPostgresBinaries, PostgresNode } from '../../deploy/local/postgres-node.ts';
import { findExecutable } from '../../deploy/local/rabbit-binaries.ts';

const isInstalled = findPostgresBinaries() !== null;
const missing = 'PostgreSQL is not installed here: install it (Debian: postgresql), or set DATABASE_URL';

/** For tests that use a server. */
export const needsPostgres = { skip: isInstalled || process.env['DATABASE_URL'] ? false : missing };
/** For tests that break one. */
export const needsPostgresBinaries = { skip: isInstalled ? false : missing };

/** For tests with a pooler before the server. */
export const needsPgBouncer = {
  skip: findPgBouncer() === null ? 'PgBouncer is not installed here (Debian: pgbouncer)' : needsPostgres.skip,
};

let shared: Promise<string> | null = null;

/** The URL of one server for the whole file; it ends with the process. */
export function usePostgres(): Promise<string> {
  shared ??= process.env['DATABASE_URL'] ? Promise.resolve(process.env['DATABASE_URL']) : PostgresNode.start().then(({ url }) => url);
  return shared;
}

/** Where Debian has it is on nobody's path but root's. */
export function findPgBouncer(): string | null {
  return findExecutable('pgbouncer') ?? findExecutable('pgbouncer', { PATH: '/usr/sbin' });
}

/** For the runner, before any test: installs what is missing, where that can be done. */
export async function installPostgres(log: (line: string) => void): Promise<void> {
  const missing = [
    ...(isInstalled || process.env['DATABASE_URL'] ? [] : ['postgresql']),
    ...(findPgBouncer() === null ? ['pgbouncer'] : []),
  ];
  if (missing.length === 0) return;
  const refused = await installDebianPackages(missing, process.env, log);
  if (refused !== null) log(`tests that need ${missing.join(' or ')} are skipped: ${refused}`);
}

/**
 * PostgreSQL for tests: DATABASE_URL as given, or a private node of installed binaries, which the runner installs from Debian's
 * package where it may. Elsewhere the tests that need it are skipped, and say what is missing.
 */
import { installDebianPackages } from '../../deploy/local/debian-packages.ts';
import { findPostgresBinaries, PostgresNode } from '../../deploy/local/postgres-node.ts';

const isInstalled = findPostgresBinaries() !== null;
const missing = 'PostgreSQL is not installed here: install it (Debian: postgresql), or set DATABASE_URL';

/** For tests that use a server. */
export const needsPostgres = { skip: isInstalled || process.env['DATABASE_URL'] ? false : missing };
/** For tests that break one. */
export const needsPostgresBinaries = { skip: isInstalled ? false : missing };

let shared: Promise<string> | null = null;

/** The URL of one server for the whole file; it ends with the process. */
export function usePostgres(): Promise<string> {
  shared ??= process.env['DATABASE_URL'] ? Promise.resolve(process.env['DATABASE_URL']) : PostgresNode.start().then(({ url }) => url);
  return shared;
}

/** For the runner, before any test: installs it where it is missing and that can be done. */
export async function installPostgres(log: (line: string) => void): Promise<void> {
  if (isInstalled || process.env['DATABASE_URL']) return;
  const refused = await installDebianPackages(['postgresql'], process.env, log);
  if (refused !== null) log(`tests that need PostgreSQL are skipped: ${refused}`);
}

/**
 * PostgreSQL for tests: one server for a file, brought up by the first way that works: DATABASE_URL as given, installed
 * binaries as a private node, or, as root, Debian's package first.
 */
import { installDebianPackages } from '../../deploy/local/debian-packages.ts';
import { findPostgresBinaries, PostgresNode } from '../../deploy/local/postgres-node.ts';

let shared: Promise<string> | null = null;

/** Its URL. Ends with the process. Throws, saying what helps, where there is no way to get one. */
export function usePostgres(): Promise<string> {
  shared ??= start();
  return shared;
}

/** For tests that start a node of their own. Throws, saying what helps, where it is not installed and cannot be. */
export async function untilPostgresIsInstalled(): Promise<void> {
  if (findPostgresBinaries() !== null) return;
  const refused = await installDebianPackages(['postgresql'], process.env, () => undefined);
  if (refused !== null) throw new Error(`PostgreSQL is needed (${refused}): set DATABASE_URL, or install it`);
}

async function start(): Promise<string> {
  if (process.env['DATABASE_URL']) return process.env['DATABASE_URL'];
  await untilPostgresIsInstalled();
  return (await PostgresNode.start()).url;
}

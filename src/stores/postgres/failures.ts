/**
 * What an error of PostgreSQL or of its client means. Whoever gets an `UnavailableError` knows nothing of what was done, and
 * asks again: commits carry tokens. Anything that asking again could not mend is a bug.
 *
 * Messages name the cause and the remedy, and never hold values, in which payloads travel.
 */
import { type InorderError, InvariantError, messageOf, UnavailableError } from '../../errors.ts';

interface Condition {
  /** Beginning of SQLSTATE. */
  readonly code: RegExp;
  readonly meaning: string;
  readonly remedy: string;
}

const conditions: readonly Condition[] = [
  { code: /^08|^57P0[123]/, meaning: 'it is going away, or the connection is lost', remedy: 'Look at its log.' },
  { code: /^57014/, meaning: 'it did not answer in time', remedy: 'Look for slow statements and locks.' },
  { code: /^40/, meaning: 'others changed the same rows', remedy: 'Nothing has to be done.' },
  { code: /^53/, meaning: 'it is out of disk, memory or connections', remedy: 'Look at its disk and at max_connections.' },
  { code: /^25006/, meaning: 'it is a standby and takes no writes', remedy: 'Name the primary in DATABASE_URL, or add target_session_attrs=read-write.' },
  { code: /^28|^42501/, meaning: 'user and password are not accepted, or may not do this', remedy: 'Correct DATABASE_URL; the user needs the schema inorder, or the right to create it.' },
  { code: /^3D000/, meaning: 'there is no such database', remedy: 'Create it, or correct DATABASE_URL.' },
  { code: /^42P01|^3F000/, meaning: 'its tables are gone', remedy: 'Restore them, then restart the worker.' },
  { code: /^55P03/, meaning: 'a lock was not to be had in time', remedy: 'Look at pg_locks.' },
  { code: /^58|^XX/, meaning: 'it has trouble of its own', remedy: 'Look at its log.' },
];

/** `where` names server and database without credentials. */
export function failureOf(where: string, error: unknown): InorderError {
  if (error instanceof UnavailableError || error instanceof InvariantError) return error;
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
  const words = messageOf(error) || code;
  const condition = conditions.find((one) => one.code.test(code));
  if (condition !== undefined) return new UnavailableError(`${where} cannot serve: ${condition.meaning} (${words}). ${condition.remedy}`, { cause: stripped(error) });
  // Five characters are an answer of the server; everything else is the network's or the client's.
  if (/^[0-9A-Z]{5}$/.test(code)) return new InvariantError(`${where} refuses a statement of ours: ${words} (${code})`, { cause: stripped(error) });
  // The client's own limit of time.
  if (words === 'Query read timeout') return new UnavailableError(`${where} did not answer in time. Look for slow statements, locks and the network.`, { cause: stripped(error) });
  return new UnavailableError(`${where} cannot be reached: ${words}. Is it running, and is the address right?`, { cause: stripped(error) });
}

/** The client attaches details with values of rows to its errors. */
function stripped(error: unknown): Error {
  return new Error(messageOf(error));
}

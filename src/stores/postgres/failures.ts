/**
 * The meaning of an error of PostgreSQL, of a pooler or of the client. After an `UnavailableError` the outcome is unknown
 * and the caller asks again; commits carry tokens for that. An error that asking again cannot resolve is a bug.
 *
 * A refusal that only an operator can end is a `ConfigError` until the database has served once: it ends the process with a
 * message. Afterwards it is an `UnavailableError` like the others: when a lost password or right is restored, no restart is needed.
 *
 * Messages name the cause and the remedy, and never contain values, which may be payloads.
 */
import { ConfigError, InvariantError, messageOf, noDescriptorLeft, type InorderError, UnavailableError } from '../../errors.ts';
import { tlsFailure } from '../../tls.ts';

interface Condition {
  /** Matches the SQLSTATE, or the client's own code. */
  readonly code?: RegExp;
  /** Matches the message: a pooler has one code for everything, and the client often none. */
  readonly words?: RegExp;
  readonly meaning: string;
  readonly remedy: string;
}

/** Only an operator can end these. The first match counts. */
const refusals: readonly Condition[] = [
  {
    words: /channel binding/i,
    meaning: 'the password cannot be bound to the channel, as channel_binding demands',
    remedy: 'Let pg_hba.conf demand scram-sha-256 over TLS; where a pooler or a proxy ends TLS, use channel_binding=disable.',
  },
  {
    words: /unsupported startup parameter|unrecognized configuration parameter|unsupported startup options/i,
    meaning: 'a parameter of the connection is not accepted',
    remedy: 'Remove it from DATABASE_URL and PGOPTIONS, or name it in ignore_startup_parameters of the pooler.',
  },
  {
    words: /no pg_hba\.conf entry .*(no encryption|SSL off)|SSL (connection )?(is )?required|requires? (SSL|TLS|encryption)/i,
    meaning: 'it takes this user only over TLS, or not from this address',
    remedy: 'Add sslmode=verify-full to DATABASE_URL, or allow the address in pg_hba.conf.',
  },
  { words: /does not support SSL/i, meaning: 'it has no TLS', remedy: 'Remove sslmode from DATABASE_URL, or set TLS up at the server.' },
  {
    words: /^(ENOENT|EACCES|EISDIR)\b.*\b(open|read)\b/,
    meaning: 'a file that DATABASE_URL names cannot be read',
    remedy: 'Correct sslrootcert, sslcert or sslkey in it.',
  },
  {
    words: /key values mismatch/,
    meaning: 'sslkey is not the key of the certificate in sslcert',
    remedy: 'Correct DATABASE_URL, or wait for the renewal to end.',
  },
  {
    code: /^3D000/,
    words: /no such database|database ".*" does not exist/i,
    meaning: 'there is no such database',
    remedy: 'Create it, or correct DATABASE_URL.',
  },
  {
    words: /bouncer config error|no such user/i,
    meaning: 'the pooler knows no such database or user',
    remedy: 'Name it in the configuration of the pooler, or correct DATABASE_URL.',
  },
  {
    code: /^42501/,
    meaning: 'the user may not do this',
    remedy: 'Grant it the schema inorder with its tables and functions, or the right to create them.',
  },
  {
    code: /^28/,
    words: /password authentication failed|authentication failed|password must be a string|login rejected/i,
    meaning: 'user and password are not accepted',
    remedy: 'Correct user and password in DATABASE_URL.',
  },
];

/** These end by themselves, or when the server is repaired. */
const outages: readonly Condition[] = [
  noDescriptorLeft,
  {
    code: /^53300/,
    words: /too many clients|no more connections allowed/i,
    meaning: 'it has no connection free',
    remedy: 'Raise max_connections (max_client_conn of a pooler), or run fewer workers.',
  },
  {
    words: /query_wait_timeout|server_login_retry|server login has been failing|pgbouncer cannot connect/i,
    meaning: 'the pooler has no connection of the server',
    remedy: 'Look at its log; raise default_pool_size if all are in use.',
  },
  { code: /^08|^57P0|^25P0[34]/, meaning: 'it is going away, or the connection is lost', remedy: 'Look at its log.' },
  { code: /^57014/, meaning: 'it did not answer in time', remedy: 'Look for slow statements and locks.' },
  { code: /^40/, meaning: 'others changed the same rows', remedy: 'Nothing has to be done.' },
  { code: /^53/, meaning: 'it is out of disk, memory or connections', remedy: 'Look at its disk and at max_connections.' },
  {
    code: /^25006/,
    meaning: 'it is a standby, or set read-only, and takes no writes',
    remedy: 'Name the primary in DATABASE_URL, wait for the fail-over to end, or set default_transaction_read_only off.',
  },
  { code: /^42P01|^3F000/, meaning: 'its tables are gone', remedy: 'Restore them, then restart the worker.' },
  { code: /^55P03/, meaning: 'a lock was not available in time', remedy: 'Look at pg_locks.' },
  { code: /^58|^XX/, meaning: 'it has an internal error', remedy: 'Look at its log.' },
];

/** `where` names server and database without credentials; `hasServed`: it has answered before. */
export function failureOf(where: string, error: unknown, { hasServed }: { readonly hasServed: boolean }): InorderError {
  if (error instanceof UnavailableError || error instanceof InvariantError) return error;
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
  const words = messageOf(error) || code;
  const means = ({ code: begins, words: say }: Condition) => begins?.test(code) === true || say?.test(words) === true;
  const cause = stripped(error);
  const unavailable = (what: string, remedy: string) => new UnavailableError(`${where} ${what}. ${remedy}`, { cause, remedy });
  const found = refusals.find(means);
  const refusal = found === undefined ? tlsFailure(error, 'DATABASE_URL') : { ...found, meaning: `${found.meaning} (${words})` };
  if (refusal !== null) {
    const refused = unavailable(`refuses: ${refusal.meaning}`, refusal.remedy);
    return hasServed ? refused : new ConfigError([refused.message], { cause, remedy: refusal.remedy });
  }
  const outage = outages.find(means);
  if (outage !== undefined) return unavailable(`cannot serve: ${outage.meaning} (${words})`, outage.remedy);
  // A SQLSTATE always has a digit (EPIPE has none); every other code comes from the network or the client.
  if (/^(?=.*\d)[0-9A-Z]{5}$/.test(code)) return new InvariantError(`${where} refuses a statement of ours: ${words} (${code})`, { cause });
  // The client's own time limit.
  if (words === 'Query read timeout') return unavailable('did not answer in time', 'Look for slow statements, locks and the network.');
  return new UnavailableError(`${where} cannot be reached: ${words}. Is it running, and is the address right?`, { cause });
}

/** The client's errors contain values of rows in their details. */
function stripped(error: unknown): Error {
  return new Error(messageOf(error));
}

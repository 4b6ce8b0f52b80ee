/**
 * The connections to PostgreSQL: a pool, transactions, and the tables, which are made on first use; and whether the server behind
 * them can be relied on. Every error says what it means (`failures.ts`), and every statement has a time limit at the client and at
 * the server.
 *
 * A pooler may give every transaction another connection of the server. So no state is kept with a connection: no setting, no
 * prepared statement, no lock. A transaction's settings are sent together with its BEGIN:
 *
 *   one statement:  BEGIN; SET LOCAL … ▸ statement ▸ COMMIT      several:  BEGIN; SET LOCAL … ▸ statement,  statement …,  COMMIT
 *
 * `text` takes every character but NUL. Look-ups use a digest, because an index takes no long text; the name is kept beside it as text
 * for people.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { EventEmitter } from 'node:events';
import type { Duplex } from 'node:stream';
import type { ConnectionOptions } from 'node:tls';
import pg from 'pg';
import { connectionName } from '../../config/config.ts';
import { postgresUrl } from '../../config/parsers.ts';
import { ConfigError, messageOf } from '../../errors.ts';
import type { EntityRef } from '../../events/event.ts';
import { failure, type Finding, ok, warning, measureRoundTrips } from '../../finding.ts';
import type { Log } from '../../observability/log.ts';
import type { Time } from '../../time.ts';
import { failureOf } from './failures.ts';

/** Runs a statement in the open transaction. */
export type Query = <Row>(text: string, values?: readonly unknown[]) => Promise<readonly Row[]>;

export interface DatabaseOptions {
  /** `postgres://user:password@host:5432/database`. */
  readonly url: string;
  readonly log?: Pick<Log, 'warn'> | undefined;
  /** Shown by PostgreSQL. Default: that of a program. */
  readonly name?: string | undefined;
  /** Default 10. */
  readonly maxConnections?: number;
  /** How long an answer may take before it counts as unknown, in milliseconds. Default 10,000. */
  readonly answerTimeoutMs?: number | undefined;
  /** The clock of its users. */
  readonly time: Time;
}

const int8 = 20;

/** What `pg` has and does not declare. */
interface PgConnection extends EventEmitter {
  ssl: boolean | ConnectionOptions;
  /** That of TLS, once there is one. */
  readonly stream: Duplex;
}

/**
 * With TLS it verifies the server, whatever NODE_TLS_REJECT_UNAUTHORIZED and PGSSLMODE say. Each one reads the files of the URL. It binds
 * a password to the channel if the URL says `channel_binding`, which the client would pass over.
 */
export class VerifyingClient extends pg.Client {
  constructor(config: string | pg.ClientConfig = {}) {
    super(config);
    const connection = this.connection as unknown as PgConnection;
    if (connection.ssl === true) connection.ssl = {};
    // Set and not copied: the key in it is not enumerable.
    if (connection.ssl !== false) connection.ssl.rejectUnauthorized = true;
    const url = typeof config === 'string' ? config : (config.connectionString ?? '');
    const binding = URL.canParse(url) ? new URL(url).searchParams.get('channel_binding') : null;
    Object.assign(this, { enableChannelBinding: binding === 'prefer' || binding === 'require' });
    if (binding === 'require') requireBinding(connection);
  }
}

/** Ends a connection whose server asks for a password, or lets the client in, without a bound one: before the client answers. */
function requireBinding(connection: PgConnection): void {
  let isBound = false;
  const refuse = () => {
    connection.emit('error', new Error('channel binding is required, and the server does not offer it'));
    connection.stream.destroy();
  };
  const offer = ({ mechanisms }: { readonly mechanisms: readonly string[] }) => {
    if (!mechanisms.includes('SCRAM-SHA-256-PLUS')) refuse();
  };
  connection.on('authenticationSASL', offer);
  connection.on('authenticationSASLFinal', () => (isBound = true));
  for (const name of ['authenticationCleartextPassword', 'authenticationMD5Password']) connection.on(name, refuse);
  connection.on('authenticationOk', () => isBound || refuse());
}

export class Database {
  /** Server and database, without credentials. */
  readonly where: string;
  readonly time: Time;
  readonly #pool: pg.Pool;
  readonly #begin: string;
  #migrated: Promise<void> | null = null;
  #served = false;

  constructor({ url, log, name = connectionName('program'), maxConnections = 10, answerTimeoutMs = 10_000, time }: DatabaseOptions) {
    this.time = time;
    const flaw = postgresUrl.flaw?.(url) ?? null;
    if (flaw !== null) throw new ConfigError([`The URL of PostgreSQL is not valid: ${flaw}`]);
    const { hostname, port, pathname } = new URL(url);
    this.where = `PostgreSQL at ${hostname}:${port || '5432'}${pathname}`;
    // A process that is suspended within a transaction blocks its rows for no longer than that.
    const limit = Math.ceil(answerTimeoutMs);
    this.#begin = `BEGIN; SET LOCAL statement_timeout = ${limit}; SET LOCAL idle_in_transaction_session_timeout = ${limit}`;
    this.#pool = new pg.Pool({
      Client: VerifyingClient,
      connectionString: url,
      application_name: name,
      pipeline: true,
      max: maxConnections,
      connectionTimeoutMillis: answerTimeoutMs,
      // Later than the server's own time-out, whose outcome is certain.
      query_timeout: answerTimeoutMs + 2_000,
      keepAlive: true,
      types: { getTypeParser: (oid, format) => (oid === int8 ? Number : pg.types.getTypeParser(oid, format)) },
    });
    // The failed call reports it as well; without a listener the process would end.
    this.#pool.on('connect', (client) => client.on('error', () => undefined));
    // An idle connection was lost; the next use opens another one.
    this.#pool.on('error', (error) => log?.warn({ cause: messageOf(error) }, 'a connection to PostgreSQL was lost'));
  }

  /** One statement, in one round trip. */
  async query<Row>(text: string, values: readonly unknown[] = []): Promise<readonly Row[]> {
    await this.#untilMigrated();
    return this.#connected(async (run) => {
      const [, rows] = await Promise.all([run(this.#begin), run<Row>(text, values), run('COMMIT')]);
      return rows;
    });
  }

  /** Runs `work` in a transaction: all or nothing. If the reply to COMMIT is lost, the outcome is unknown. */
  async transaction<Result>(work: (query: Query) => Promise<Result>): Promise<Result> {
    await this.#untilMigrated();
    return this.#transaction(work);
  }

  /** Safe to call twice. */
  async close(): Promise<void> {
    if (!this.#pool.ending) await this.#pool.end();
  }

  #untilMigrated(): Promise<void> {
    this.#migrated ??= this.#transaction(migrate).then(
      () => void (this.#served = true),
      (error: unknown) => {
        this.#migrated = null;
        throw error;
      },
    );
    return this.#migrated;
  }

  #transaction<Result>(work: (query: Query) => Promise<Result>): Promise<Result> {
    return this.#connected(async (run) => {
      // Answered together with the first statement.
      const begun = run(this.#begin);
      const [result] = await Promise.all([work(run), begun]);
      await run('COMMIT');
      return result;
    });
  }

  async #connected<Result>(use: (run: Query) => Promise<Result>): Promise<Result> {
    let client: pg.PoolClient | null = null;
    let broken: Error | undefined;
    try {
      client = await this.#pool.connect();
      const connection = client;
      return await use(async (text, values = []) => (await connection.query(text, [...values])).rows);
    } catch (error) {
      // The connection may be in any state and is not used again.
      broken = error instanceof Error ? error : new Error(String(error));
      throw error instanceof Error && 'retryable' in error ? error : failureOf(this.where, error, { hasServed: this.#served });
    } finally {
      client?.release(broken);
    }
  }
}

/**
 * The tables, in numbered steps that each run once, under a lock, by the first process that connects. A released step is never
 * changed: a later change is a new step, which a process of an older version refuses when it starts. Everything is in the schema
 * `inorder`, with the stream in every key.
 */
const steps = [
  '1-entities',
  '2-event-store',
  '3-applied-events',
  '4-relay-leases',
  '5-replayed-to',
  '6-stream-state',
  '7-relay-sessions',
].map(readStatements);

/**
 * What an older version need not know of is no step: it works beside this one, and one can go back to it. Made where the column is
 * missing, which everybody may look up.
 */
const additions = [
  { table: 'sessions', column: 'note', statements: readStatements('add-sessions') },
  { table: 'streams', column: 'layout', statements: readStatements('add-layout') },
];

function readStatements(name: string): string {
  return readFileSync(new URL(`./migrations/${name}.sql`, import.meta.url), 'utf8');
}

/** Runs within a transaction. @throws ConfigError when a newer version of Inorder has been here. */
async function migrate(query: Query): Promise<void> {
  await query(`SELECT pg_advisory_xact_lock(hashtext('inorder.migrations'))`);
  // Read first: a user without the right to create can use existing tables.
  const [found] = await query<{ table: string | null }>(`SELECT to_regclass('inorder.migrations')::text AS table`);
  if (found?.table == null) {
    await query('CREATE SCHEMA IF NOT EXISTS inorder');
    await query('CREATE TABLE inorder.migrations (step int PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())');
  }
  const [row] = await query<{ done: number }>('SELECT coalesce(max(step), 0)::int AS done FROM inorder.migrations');
  const done = row?.done ?? 0;
  if (done > steps.length) {
    throw new ConfigError([
      `DATABASE_URL: its tables are of a newer version of Inorder (step ${done}, this one knows ${steps.length}): use that version`,
    ]);
  }
  for (const [index, step] of steps.entries()) {
    if (index < done) continue;
    await query(step);
    await query('INSERT INTO inorder.migrations (step) VALUES ($1)', [index + 1]);
  }
  for (const { table, column, statements } of additions) {
    const found = await query('SELECT FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = $2', [`inorder.${table}`, column]);
    if (found.length === 0) await query(statements);
  }
}

/** The server's clock in milliseconds since 1970. It moves during a statement, so comparisons with it cannot use an index. */
export const clockMs = '(extract(epoch FROM clock_timestamp()) * 1000)::bigint';

/** The same clock at the start of the statement: comparisons can use an index. */
export const beganMs = '(extract(epoch FROM statement_timestamp()) * 1000)::bigint';

/** Unique for each entity. */
export function entityKey({ entityType, entityId }: EntityRef): Buffer {
  return digest(JSON.stringify([entityType, entityId]));
}

export function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** Unchanged, except that NUL and the backslash are escaped with a backslash. */
export function toText(name: string): string {
  return /[\0\\]/.test(name) ? name.replace(/[\0\\]/g, (char) => (char === '\0' ? '\\0' : '\\\\')) : name;
}

export function fromText(text: string): string {
  return text.includes('\\') ? text.replace(/\\(.)/g, (_, char: string) => (char === '0' ? '\0' : '\\')) : text;
}

/** A state or a result: any text, byte for byte. */
export function toBytes(text: string | null): Buffer | null {
  return text === null ? null : Buffer.from(text);
}

export function fromBytes(bytes: Buffer | null): string | null {
  return bytes === null ? null : bytes.toString();
}

const oldestVersion = 130_000;

interface Settings {
  readonly version_number: number;
  readonly version: string;
  readonly encoding: string;
  readonly is_standby: boolean;
  readonly fsync: string;
  readonly synchronous_commit: string;
  readonly user_name: string;
  readonly is_superuser: string;
}

/** What an operator should know of the server. It only reads. */
export async function inspectServer(database: Database): Promise<readonly Finding[]> {
  const [settings] = await database.query<Settings>(
    `SELECT current_setting('server_version_num')::int AS version_number, current_setting('server_version') AS version,
       current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS is_standby,
       current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit,
       current_user::text AS user_name, current_setting('is_superuser') AS is_superuser`,
  );
  const readClock = async () =>
    (await database.query<{ readonly ms: number }>('SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS ms'))[0]?.ms ?? 0;
  const roundTrips = await measureRoundTrips('PostgreSQL', readClock, database.time);
  return settings === undefined
    ? []
    : [
        versionFinding(settings),
        roleFinding(settings),
        rightsFinding(settings),
        encodingFinding(settings),
        durabilityFinding(settings),
        ...roundTrips,
      ];
}

function versionFinding({ version_number, version }: Settings): Finding {
  const subject = 'PostgreSQL version';
  if (version_number >= oldestVersion) return ok(subject, version);
  return warning(subject, `It is ${version}, which Inorder was not tried with.`, 'Use PostgreSQL 13 or later.');
}

function roleFinding({ is_standby }: Settings): Finding {
  const subject = 'PostgreSQL role';
  if (!is_standby) return ok(subject, 'primary');
  return failure(subject, 'It is a standby and takes no writes.', 'Name the primary in DATABASE_URL.');
}

function rightsFinding({ user_name, is_superuser }: Settings): Finding {
  const subject = 'PostgreSQL rights';
  if (is_superuser === 'off') return ok(subject, `${user_name} is no superuser`);
  const detail = `${user_name} is a superuser: whoever has its password may do everything there.`;
  return warning(subject, detail, 'Name a user in DATABASE_URL that owns the schema inorder and nothing else.');
}

function encodingFinding({ encoding }: Settings): Finding {
  const subject = 'PostgreSQL encoding';
  if (encoding === 'UTF8') return ok(subject, encoding);
  return failure(subject, `The database is in ${encoding}, which has not all characters.`, 'Use a database with the encoding UTF8.');
}

function durabilityFinding({ fsync, synchronous_commit }: Settings): Finding {
  const subject = 'PostgreSQL durability';
  if (fsync === 'off') return failure(subject, 'fsync is off: a crash of the machine may lose everything.', 'Set fsync = on.');
  if (synchronous_commit === 'off') {
    return warning(
      subject,
      'synchronous_commit is off: a crash loses the last commits.',
      'Set synchronous_commit = on for the user of DATABASE_URL.',
    );
  }
  return ok(subject, `synchronous_commit ${synchronous_commit}`);
}

/**
 * The connections to PostgreSQL: a pool, transactions, and the tables, which are made on first use. Every error says what
 * it means (`failures.ts`), and every statement has a time limit at the client and at the server.
 *
 * A pooler may give every transaction another connection of the server. So no state is kept with a connection: no setting, no
 * prepared statement, no lock. A transaction's settings are sent together with its BEGIN:
 *
 *   one statement:  BEGIN; SET LOCAL … ▸ statement ▸ COMMIT      several:  BEGIN; SET LOCAL … ▸ statement,  statement …,  COMMIT
 *
 * `text` takes every character but NUL. Look-ups use a digest, because an index takes no long text; the name is kept beside it as text
 * for people.
 */
import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import pg from 'pg';
import { connectionName } from '../../config/config.ts';
import { postgresUrl } from '../../config/parsers.ts';
import { ConfigError, messageOf } from '../../errors.ts';
import type { Log } from '../../observability/log.ts';
import type { Time } from '../../time.ts';
import { failureOf } from './failures.ts';
import { createHash } from 'node:crypto';
import type { EntityRef } from '../../events/event.ts';

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

/** With TLS it verifies the server, whatever NODE_TLS_REJECT_UNAUTHORIZED and PGSSLMODE say. Each one reads the files of the URL. */
export class VerifyingClient extends pg.Client {
  constructor(config?: string | pg.ClientConfig) {
    super(config);
    const connection = this.connection as unknown as { ssl: boolean | ConnectionOptions };
    if (connection.ssl === true) connection.ssl = {};
    // Set and not copied: the key in it is not enumerable.
    if (connection.ssl !== false) connection.ssl.rejectUnauthorized = true;
  }
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
 * changed: a later change is a new step. Everything is in the schema `inorder`, with the stream in every key.
 */
const steps = [
  '1-entities',
  '2-event-store',
  '3-applied-events',
  '4-relay-leases',
  '5-replayed-to',
  '6-stream-state',
  '7-relay-sessions',
].map((name) => readFileSync(new URL(`./migrations/${name}.sql`, import.meta.url), 'utf8'));

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

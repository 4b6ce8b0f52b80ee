/**
 * The connections to PostgreSQL: a pool, transactions, and the tables made on first use. Every error that leaves it says what
 * it means (`failures.ts`), and every statement has a limit of time on both ends.
 *
 * There may be a pooler in between that gives every transaction another connection of the server. So nothing is kept with a
 * connection: no setting, no prepared statement, no lock. What a transaction needs is set in it, in the write that begins it:
 *
 *   one write:  BEGIN; SET LOCAL … ▸ statement ▸ COMMIT        several:  BEGIN; SET LOCAL … ▸ statement,  statement …,  COMMIT
 */
import pg from 'pg';
import type { Log } from '../../observability/log.ts';
import type { Time } from '../../time.ts';
import { failureOf } from './failures.ts';
import { migrate, type Query } from './migrations.ts';

export interface DatabaseOptions {
  /** `postgres://user:password@host:5432/database`. */
  readonly url: string;
  readonly log?: Pick<Log, 'warn'> | undefined;
  /** Default 10. */
  readonly maxConnections?: number;
  /** How long an answer may take before it counts as unknown, in milliseconds. Default 10,000. */
  readonly answerTimeoutMs?: number | undefined;
  /** Of whoever uses it. */
  readonly time: Time;
}

const int8 = 20;

export class Database {
  /** Server and database, without credentials. */
  readonly where: string;
  readonly time: Time;
  readonly #pool: pg.Pool;
  readonly #begin: string;
  #migrated: Promise<void> | null = null;
  #served = false;

  constructor({ url, log, maxConnections = 10, answerTimeoutMs = 10_000, time }: DatabaseOptions) {
    this.time = time;
    const { hostname, port, pathname } = new URL(url);
    this.where = `PostgreSQL at ${hostname}:${port || '5432'}${pathname}`;
    // Whoever stops within a transaction, as a process that is suspended, keeps its rows from nobody for longer than that.
    const limit = Math.ceil(answerTimeoutMs);
    this.#begin = `BEGIN; SET LOCAL statement_timeout = ${limit}; SET LOCAL idle_in_transaction_session_timeout = ${limit}`;
    this.#pool = new pg.Pool({
      connectionString: url,
      application_name: 'inorder',
      pipeline: true,
      max: maxConnections,
      connectionTimeoutMillis: answerTimeoutMs,
      // Later than the server's own, whose answer is certain.
      query_timeout: answerTimeoutMs + 2_000,
      keepAlive: true,
      types: { getTypeParser: (oid, format) => (oid === int8 ? Number : pg.types.getTypeParser(oid, format)) },
    });
    // The failed call tells it as well; without a listener the process would end.
    this.#pool.on('connect', (client) => client.on('error', () => undefined));
    // Of a connection that nobody uses; it is replaced when somebody does.
    this.#pool.on('error', (error) => log?.warn({ cause: error.message }, 'a connection to PostgreSQL was lost'));
  }

  /** One statement, in one round trip. */
  async query<Row>(text: string, values: readonly unknown[] = []): Promise<readonly Row[]> {
    await this.#untilMigrated();
    return this.#connected(async (run) => {
      const [, rows] = await Promise.all([run(this.#begin), run<Row>(text, values), run('COMMIT')]);
      return rows;
    });
  }

  /** All of what `work` does or nothing; when the answer to its end is lost, nobody knows which. */
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
      // Its answer comes with that of the first statement.
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
      // Whatever state it is in, the connection is not used again.
      broken = error instanceof Error ? error : new Error(String(error));
      throw error instanceof Error && 'retryable' in error ? error : failureOf(this.where, error, { hasServed: this.#served });
    } finally {
      client?.release(broken);
    }
  }
}

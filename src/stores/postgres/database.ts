/**
 * The connections to PostgreSQL: a pool, transactions, and the tables made on first use. Every error that leaves it says what
 * it means (`failures.ts`), and every statement has a limit of time on both ends.
 */
import pg from 'pg';
import type { Log } from '../../observability/log.ts';
import { failureOf } from './failures.ts';
import { migrate, type Query } from './migrations.ts';

export interface DatabaseOptions {
  /** `postgres://user:password@host:5432/database`. */
  readonly url: string;
  readonly log?: Pick<Log, 'warn'>;
  /** Default 10. */
  readonly maxConnections?: number;
  /** How long an answer may take before it counts as unknown, in milliseconds. Default 10,000. */
  readonly answerTimeoutMs?: number;
}

const int8 = 20;

export class Database {
  /** Server and database, without credentials. */
  readonly where: string;
  readonly #pool: pg.Pool;
  #migrated: Promise<void> | null = null;

  constructor({ url, log, maxConnections = 10, answerTimeoutMs = 10_000 }: DatabaseOptions) {
    const { hostname, port, pathname } = new URL(url);
    this.where = `PostgreSQL at ${hostname}:${port || '5432'}${pathname}`;
    this.#pool = new pg.Pool({
      connectionString: url,
      application_name: 'inorder',
      max: maxConnections,
      connectionTimeoutMillis: answerTimeoutMs,
      statement_timeout: answerTimeoutMs,
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

  async query<Row>(text: string, values: readonly unknown[] = []): Promise<readonly Row[]> {
    await this.#untilMigrated();
    try {
      const { rows } = await this.#pool.query(text, [...values]);
      return rows as Row[];
    } catch (error) {
      throw failureOf(this.where, error);
    }
  }

  /** All of what `work` does or nothing; when the answer to its end is lost, nobody knows which. */
  async transaction<Result>(work: (query: Query) => Promise<Result>): Promise<Result> {
    await this.#untilMigrated();
    return this.#transaction(work);
  }

  async close(): Promise<void> {
    await this.#pool.end();
  }

  #untilMigrated(): Promise<void> {
    this.#migrated ??= this.#transaction(migrate).catch((error: unknown) => {
      this.#migrated = null;
      throw error;
    });
    return this.#migrated;
  }

  async #transaction<Result>(work: (query: Query) => Promise<Result>): Promise<Result> {
    let client: pg.PoolClient | null = null;
    let broken: Error | undefined;
    try {
      client = await this.#pool.connect();
      const connection = client;
      const query: Query = async (text, values = []) => (await connection.query(text, [...values])).rows;
      await query('BEGIN');
      const result = await work(query);
      await query('COMMIT');
      return result;
    } catch (error) {
      // Whatever state it is in, the connection is not used again.
      broken = error instanceof Error ? error : new Error(String(error));
      throw error instanceof Error && 'retryable' in error ? error : failureOf(this.where, error);
    } finally {
      client?.release(broken);
    }
  }
}

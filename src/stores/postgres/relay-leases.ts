/**
 * Relay leases in PostgreSQL: an advisory lock on a connection of its own, which the server frees when the connection ends,
 * and a position that only the newest holder moves on.
 */
import pg from 'pg';
import type { RelayLease, RelayLeases } from '../relay-lease.ts';
import { Database } from './database.ts';
import { failureOf } from './failures.ts';

export interface PostgresRelayLeasesOptions {
  readonly url: string;
  readonly stream: string;
}

export class PostgresRelayLeases implements RelayLeases {
  readonly #database: Database;
  readonly #options: PostgresRelayLeasesOptions;

  constructor(options: PostgresRelayLeasesOptions) {
    this.#options = options;
    this.#database = new Database({ url: options.url, maxConnections: 1 });
  }

  async acquire(signal: AbortSignal): Promise<RelayLease | null> {
    if (signal.aborted) return null;
    const client = new pg.Client({ connectionString: this.#options.url, application_name: 'inorder relay', keepAlive: true });
    const lost = new AbortController();
    client.on('error', () => lost.abort());
    client.on('end', () => lost.abort());
    // Ends the waiting for the lock as well.
    const giveUp = () => void client.end().catch(() => undefined);
    signal.addEventListener('abort', giveUp, { once: true });
    try {
      await client.connect();
      await client.query('SELECT pg_advisory_lock(hashtext($1), hashtext($2))', ['inorder.relay', this.#options.stream]);
      const { epoch, position } = await this.#begin();
      return this.#lease(client, lost.signal, epoch, position);
    } catch (error) {
      giveUp();
      if (signal.aborted) return null;
      throw failureOf(this.#database.where, error);
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }

  close(): Promise<void> {
    return this.#database.close();
  }

  async #begin(): Promise<{ readonly epoch: number; readonly position: number }> {
    const [row] = await this.#database.query<{ epoch: number; position: number }>(
      `INSERT INTO inorder.relays AS r (stream, epoch) VALUES ($1, 1) ON CONFLICT (stream) DO UPDATE SET epoch = r.epoch + 1 RETURNING epoch, position`,
      [this.#options.stream],
    );
    return row!;
  }

  #lease(client: pg.Client, lost: AbortSignal, epoch: number, position: number): RelayLease {
    return {
      position,
      lost,
      advance: async (to) => {
        const rows = await this.#database.query('UPDATE inorder.relays SET position = $3 WHERE stream = $1 AND epoch = $2 RETURNING 1', [this.#options.stream, epoch, to]);
        return rows.length === 1;
      },
      release: () => client.end().catch(() => undefined),
    };
  }
}

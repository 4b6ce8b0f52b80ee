/** The audit trail as rows, bounded as in every store. */
import { type AuditEntry, type AuditRecord, maxAuditRecords } from '../operator-store.ts';
import type { Database } from './database.ts';

const page = 500;

export class PostgresAudit {
  readonly #database: Database;
  readonly #stream: string;

  constructor(database: Database, stream: string) {
    this.#database = database;
    this.#stream = stream;
  }

  async append(entries: readonly AuditEntry[]): Promise<void> {
    if (entries.length === 0) return;
    const bodies = entries.map((entry) => JSON.stringify(entry));
    await this.#database.transaction(async (query) => {
      await query(
        'INSERT INTO inorder.audit (stream, body) SELECT $1, body FROM unnest ($2::text[]) WITH ORDINALITY AS u (body, n) ORDER BY n',
        [this.#stream, bodies],
      );
      await query(
        `DELETE FROM inorder.audit WHERE stream = $1 AND entry <= (SELECT entry FROM inorder.audit WHERE stream = $1 ORDER BY entry DESC OFFSET ${maxAuditRecords} LIMIT 1)`,
        [this.#stream],
      );
    });
  }

  async *read(): AsyncGenerator<AuditRecord, void, void> {
    for (let before = Number.MAX_SAFE_INTEGER; ; ) {
      const rows = await this.#database.query<{ entry: number; at: Date; body: string }>(
        `SELECT entry, at, body FROM inorder.audit WHERE stream = $1 AND entry < $2 ORDER BY entry DESC LIMIT ${page}`,
        [this.#stream, before],
      );
      for (const { entry, at, body } of rows) {
        yield { at: at.toISOString(), ...(JSON.parse(body) as AuditEntry) };
        before = entry;
      }
      if (rows.length < page) return;
    }
  }
}

/** The state of a stream in one row: the last epoch, the identity of the store, and the halts; and the audit trail as rows, bounded. */
import { type EpochResult, type Halt, type StreamState, type AuditEntry, type AuditRecord, inPages, maxAuditRecords } from '../store.ts';
import { type Database, fromText, toText } from './database.ts';

type Why = Pick<Halt, 'detail' | 'at'>;

interface StreamRow {
  readonly epoch: number;
  readonly identity: string | null;
  /** By shard, or under `*`. */
  readonly halts: Readonly<Record<string, Why>>;
}

export class PostgresStreamState {
  readonly #database: Database;
  readonly #stream: string;

  constructor(database: Database, stream: string) {
    this.#database = database;
    this.#stream = stream;
  }

  /** A halted shard uses up an epoch too; epochs need not be consecutive. */
  async nextEpoch(shard: number): Promise<EpochResult> {
    const { epoch, identity, halts } = await this.#write('epoch', '1', 's.epoch + 1');
    const name = Object.hasOwn(halts, '*') ? '*' : String(shard);
    return Object.hasOwn(halts, name) ? { status: 'halted', halt: haltFrom(name, halts[name]!) } : { status: 'ok', epoch, identity };
  }

  async read(): Promise<StreamState> {
    const [row] = await this.#database.query<StreamRow>('SELECT epoch, identity, halts FROM inorder.streams WHERE stream = $1', [
      this.#stream,
    ]);
    return streamStateFrom(row);
  }

  async identify(): Promise<string> {
    const { identity } = await this.#write('epoch, identity', '0, $2', 's.epoch, coalesce(s.identity, $2)', this.#database.time.uuid());
    return identity ?? '';
  }

  async halt({ shard, detail, at }: Halt): Promise<void> {
    const halts = JSON.stringify({ [shard ?? '*']: { detail: toText(detail), at } });
    await this.#write('epoch, halts', '0, $2::jsonb', 's.epoch, $2::jsonb || s.halts', halts);
  }

  async resume(epoch: number): Promise<StreamState> {
    const values = "greatest(s.epoch, $2::bigint), coalesce(s.identity, $3::text), '{}'::jsonb";
    const first = "$2::bigint, $3::text, '{}'::jsonb";
    return streamStateFrom(await this.#write('epoch, identity, halts', first, values, epoch, this.#database.time.uuid()));
  }

  async appendAudit(entries: readonly AuditEntry[]): Promise<void> {
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

  async *readAudit(): AsyncGenerator<AuditRecord, void, void> {
    const read = (size: number, last?: AuditRow) =>
      this.#database.query('SELECT entry, at, body FROM inorder.audit WHERE stream = $1 AND entry < $2 ORDER BY entry DESC LIMIT $3', [
        this.#stream,
        last?.entry ?? Number.MAX_SAFE_INTEGER,
        size,
      ]);
    for await (const { at, body } of inPages<AuditRow>(read)) yield { at: at.toISOString(), ...(JSON.parse(body) as AuditEntry) };
  }

  /** Inserts the row of the stream with `first`, or updates it to `then`. */
  async #write(columns: string, first: string, then: string, ...values: readonly unknown[]): Promise<StreamRow> {
    const [row] = await this.#database.query<StreamRow>(
      `INSERT INTO inorder.streams AS s (stream, ${columns}) VALUES ($1, ${first})
       ON CONFLICT (stream) DO UPDATE SET (${columns}) = ROW (${then}) RETURNING epoch, identity, halts`,
      [this.#stream, ...values],
    );
    return row!;
  }
}

function streamStateFrom(row: StreamRow | undefined): StreamState {
  const halts = Object.entries(row?.halts ?? {}).map(([name, why]) => haltFrom(name, why));
  return { identity: row?.identity ?? null, epoch: row?.epoch ?? 0, halts };
}

function haltFrom(name: string, { detail, at }: Why): Halt {
  return { shard: name === '*' ? null : Number(name), detail: fromText(detail), at };
}

interface AuditRow {
  readonly entry: number;
  readonly at: Date;
  readonly body: string;
}

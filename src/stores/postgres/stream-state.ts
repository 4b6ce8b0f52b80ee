/** The state of a stream in one row (last epoch, identity of the store, halts, layout), and the audit trail as rows, bounded. */
import { isSameLayout, layoutFrom, layoutText, type StreamLayout, type StreamShape } from '../layout.ts';
import { type EpochResult, type Halt, type StreamState, type AuditEntry, type AuditRecord, inPages, maxAuditRecords } from '../store.ts';
import { type Database, fromText, toText } from './database.ts';

type Why = Pick<Halt, 'detail' | 'at'>;

interface StreamRow {
  readonly epoch: number;
  readonly identity: string | null;
  /** By shard, or under `*`. */
  readonly halts: Readonly<Record<string, Why>>;
  readonly layout: string | null;
}

const columnsOfState = 'epoch, identity, halts, layout::text AS layout';

export class PostgresStreamState {
  readonly #database: Database;
  readonly #stream: string;

  constructor(database: Database, stream: string) {
    this.#database = database;
    this.#stream = stream;
  }

  async nextEpoch(shard: number): Promise<EpochResult> {
    const [row] = await this.#database.query<StreamRow & { readonly note: string | null }>(
      `WITH before AS (SELECT note FROM inorder.sessions WHERE stream = $1 AND shard = $2 FOR UPDATE),
       given AS (INSERT INTO inorder.streams AS s (stream, epoch) VALUES ($1, 1)
         ON CONFLICT (stream) DO UPDATE SET epoch = s.epoch + (NOT s.halts ? '*' AND NOT s.halts ? $2::integer::text)::integer RETURNING epoch, identity, halts),
       begun AS (INSERT INTO inorder.sessions (stream, shard, epoch, note)
         SELECT $1, $2, epoch, '' FROM given WHERE NOT halts ? '*' AND NOT halts ? $2::integer::text
         ON CONFLICT (stream, shard) DO UPDATE SET epoch = excluded.epoch)
       SELECT epoch, identity, halts, note FROM given LEFT JOIN before ON true`,
      [this.#stream, shard],
    );
    const { epoch, identity, halts, note: unfinished } = row!;
    const name = Object.hasOwn(halts, '*') ? '*' : String(shard);
    if (Object.hasOwn(halts, name)) return { status: 'halted', halt: haltFrom(name, halts[name]!) };
    return { status: 'ok', epoch, identity, unfinished };
  }

  async noteSession(shard: number, epoch: number, note: string | null): Promise<void> {
    const its = 'WHERE stream = $1 AND shard = $2 AND epoch = $3';
    if (note === null) await this.#database.query(`DELETE FROM inorder.sessions ${its}`, [this.#stream, shard, epoch]);
    else await this.#database.query(`UPDATE inorder.sessions SET note = $4 ${its}`, [this.#stream, shard, epoch, note]);
  }

  async read(): Promise<StreamState> {
    return this.#stateFrom(await this.#row());
  }

  async identify(): Promise<string> {
    const { identity } = await this.#write('epoch, identity', '0, $2', 's.epoch, coalesce(s.identity, $2)', this.#database.time.uuid());
    return identity ?? '';
  }

  async recordLayout(shape: StreamShape): Promise<StreamLayout> {
    const { layout } = await this.#write('epoch, layout', '0, $2::jsonb', 's.epoch, coalesce(s.layout, $2::jsonb)', layoutText(shape));
    return layoutFrom(this.#stream, layout)!;
  }

  async changeShape(shape: StreamShape, from: StreamLayout | null): Promise<StreamLayout> {
    const row = await this.#row();
    const found = layoutFrom(this.#stream, row?.layout ?? null);
    if (found !== null && !isSameLayout(found, from)) return found;
    const unlessChanged = 's.epoch, CASE WHEN s.layout IS NULL OR s.layout = $3::jsonb THEN $2::jsonb ELSE s.layout END';
    const { layout } = await this.#write('epoch, layout', '0, $2::jsonb', unlessChanged, layoutText(shape), row?.layout ?? null);
    return layoutFrom(this.#stream, layout)!;
  }

  async halt({ shard, detail, at }: Halt): Promise<void> {
    const halts = JSON.stringify({ [shard ?? '*']: { detail: toText(detail), at } });
    await this.#write('epoch, halts', '0, $2::jsonb', 's.epoch, $2::jsonb || s.halts', halts);
  }

  async resume(epoch: number): Promise<StreamState> {
    const values = "greatest(s.epoch, $2::bigint), coalesce(s.identity, $3::text), '{}'::jsonb";
    const first = "$2::bigint, $3::text, '{}'::jsonb";
    return this.#stateFrom(await this.#write('epoch, identity, halts', first, values, epoch, this.#database.time.uuid()));
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

  async #row(): Promise<StreamRow | undefined> {
    const [row] = await this.#database.query<StreamRow>(`SELECT ${columnsOfState} FROM inorder.streams WHERE stream = $1`, [this.#stream]);
    return row;
  }

  /** Inserts the row of the stream with `first`, or updates it to `then`. */
  async #write(columns: string, first: string, then: string, ...values: readonly unknown[]): Promise<StreamRow> {
    const [row] = await this.#database.query<StreamRow>(
      `INSERT INTO inorder.streams AS s (stream, ${columns}) VALUES ($1, ${first})
       ON CONFLICT (stream) DO UPDATE SET (${columns}) = ROW (${then}) RETURNING ${columnsOfState}`,
      [this.#stream, ...values],
    );
    return row!;
  }

  #stateFrom(row: StreamRow | undefined): StreamState {
    const halts = Object.entries(row?.halts ?? {}).map(([name, why]) => haltFrom(name, why));
    return { identity: row?.identity ?? null, epoch: row?.epoch ?? 0, halts, layout: layoutFrom(this.#stream, row?.layout ?? null) };
  }
}

function haltFrom(name: string, { detail, at }: Why): Halt {
  return { shard: name === '*' ? null : Number(name), detail: fromText(detail), at };
}

interface AuditRow {
  readonly entry: number;
  readonly at: Date;
  readonly body: string;
}

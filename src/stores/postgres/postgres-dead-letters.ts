/** Reasons and replays of dead letters as rows, by entity: bounded and kept as long as those in Redis. */
import { deadLetterTtlMs, keptRecord, maxDeadLettersPerEntity, maxRememberedReplays } from '../../ordering/entity-rules.ts';
import type { DeadLetterRecord } from '../../ordering/entity.ts';
import type { DeadLetterHistory, DeadLetterQuery } from '../store.ts';
import { type Database, type Query, beganMs, clockMs, digest, entityKey } from './database.ts';

export class PostgresDeadLetters {
  readonly #database: Database;
  readonly #stream: string;

  constructor(database: Database, stream: string) {
    this.#database = database;
    this.#stream = stream;
  }

  async record(query: Query, records: readonly DeadLetterRecord[]): Promise<void> {
    await this.#keep(query, records);
    const latest = latestOf(records);
    await query(
      `INSERT INTO inorder.dead_letters AS d (stream, owner, fingerprint, recorded_at_ms, record)
       SELECT $1, owner, fingerprint, ${clockMs}, record FROM unnest ($2::bytea[], $3::text[], $4::text[]) AS u (owner, fingerprint, record)
       ON CONFLICT (stream, owner, fingerprint) DO UPDATE SET recorded_at_ms = excluded.recorded_at_ms, record = excluded.record`,
      [
        this.#stream,
        latest.map(ownerOf),
        latest.map(({ fingerprint }) => fingerprint),
        latest.map((record) => JSON.stringify(keptRecord(record))),
      ],
    );
    await query(
      `DELETE FROM inorder.dead_letters AS d USING (
         SELECT owner, fingerprint, row_number() OVER (PARTITION BY owner ORDER BY recorded_at_ms DESC) AS place
         FROM inorder.dead_letters WHERE stream = $1 AND owner = ANY ($2::bytea[])) AS ranked
       WHERE d.stream = $1 AND d.owner = ranked.owner AND d.fingerprint = ranked.fingerprint AND ranked.place > ${maxDeadLettersPerEntity}`,
      [this.#stream, owners(records)],
    );
  }

  async noteReplays(messages: readonly DeadLetterQuery[]): Promise<void> {
    if (messages.length === 0) return;
    const latest = latestOf(messages);
    await this.#database.transaction(async (query) => {
      await this.#keep(query, messages);
      await query(
        `INSERT INTO inorder.dead_letters AS d (stream, owner, fingerprint, recorded_at_ms, replayed_at_ms)
         SELECT $1, owner, fingerprint, ${clockMs}, ARRAY[${clockMs}] FROM unnest ($2::bytea[], $3::text[]) AS u (owner, fingerprint)
         ON CONFLICT (stream, owner, fingerprint)
         DO UPDATE SET replayed_at_ms = (excluded.replayed_at_ms || d.replayed_at_ms)[1:${maxRememberedReplays}]`,
        [this.#stream, latest.map(ownerOf), latest.map(({ fingerprint }) => fingerprint)],
      );
    });
  }

  async find(queries: readonly DeadLetterQuery[]): Promise<readonly (DeadLetterHistory | null)[]> {
    if (queries.length === 0) return [];
    const rows = await this.#database.query<{ at: number; record: string | null; replayed_at_ms: readonly number[] }>(
      `SELECT asked.at, d.record, d.replayed_at_ms::float8[] AS replayed_at_ms FROM unnest ($2::int[], $3::bytea[], $4::text[]) AS asked (at, owner, fingerprint)
       JOIN inorder.dead_letter_owners AS o ON o.stream = $1 AND o.owner = asked.owner AND o.expires_at_ms > ${clockMs}
       JOIN inorder.dead_letters AS d ON d.stream = $1 AND d.owner = asked.owner AND d.fingerprint = asked.fingerprint`,
      [this.#stream, queries.map((_, at) => at), queries.map(ownerOf), queries.map(({ fingerprint }) => fingerprint)],
    );
    const found = new Map(rows.map((row) => [row.at, row]));
    return queries.map((_, at) => {
      const row = found.get(at);
      if (row === undefined) return null;
      const replayedAt = row.replayed_at_ms.map((ms) => new Date(ms).toISOString());
      return { record: row.record === null ? null : (JSON.parse(row.record) as DeadLetterRecord), replayedAt };
    });
  }

  /** Removes up to `rows` expired letters, and owners without letters. Returns how many; fewer than `rows` when none are left. */
  async removeExpired(rows: number): Promise<number> {
    const [gone] = await this.#database.query<{ readonly rows: number }>(
      `WITH expired AS (
         SELECT stream, owner FROM inorder.dead_letter_owners WHERE expires_at_ms <= ${beganMs} ORDER BY expires_at_ms LIMIT $1 FOR UPDATE SKIP LOCKED),
       letters AS (SELECT stream, owner, fingerprint FROM inorder.dead_letters JOIN expired USING (stream, owner) LIMIT $1),
       gone AS (DELETE FROM inorder.dead_letters WHERE (stream, owner, fingerprint) IN (SELECT * FROM letters)),
       owners AS (
         DELETE FROM inorder.dead_letter_owners AS o USING expired WHERE o.stream = expired.stream AND o.owner = expired.owner AND NOT EXISTS (
           SELECT FROM inorder.dead_letters AS d WHERE d.stream = o.stream AND d.owner = o.owner AND (d.stream, d.owner, d.fingerprint) NOT IN (SELECT * FROM letters))
         RETURNING 1)
       SELECT greatest((SELECT count(*) FROM letters), (SELECT count(*) FROM owners))::int AS rows`,
      [rows],
    );
    return gone?.rows ?? 0;
  }

  /** Renews the time for which the letters are kept; expired ones are removed first, so that they do not reappear. */
  async #keep(query: Query, messages: readonly DeadLetterQuery[]): Promise<void> {
    const values = [this.#stream, owners(messages)];
    await query(
      `DELETE FROM inorder.dead_letters AS d USING inorder.dead_letter_owners AS o
       WHERE o.stream = $1 AND o.owner = ANY ($2::bytea[]) AND o.expires_at_ms <= ${clockMs} AND d.stream = o.stream AND d.owner = o.owner`,
      values,
    );
    await query(
      `INSERT INTO inorder.dead_letter_owners (stream, owner, expires_at_ms) SELECT $1, owner, ${clockMs} + ${deadLetterTtlMs} FROM unnest ($2::bytea[]) AS u (owner)
       ON CONFLICT (stream, owner) DO UPDATE SET expires_at_ms = excluded.expires_at_ms`,
      values,
    );
  }
}

function ownerOf({ entityType, entityId, fingerprint }: DeadLetterQuery): Buffer {
  return entityType === null || entityId === null ? digest(JSON.stringify([fingerprint])) : entityKey({ entityType, entityId });
}

/** Each owner once, in the same order in every process. */
function owners(messages: readonly DeadLetterQuery[]): readonly Buffer[] {
  const hex = new Set(messages.map((message) => ownerOf(message).toString('hex')));
  return [...hex].sort().map((owner) => Buffer.from(owner, 'hex'));
}

/** A statement may not write a row twice: the last message wins. */
function latestOf<Message extends DeadLetterQuery>(messages: readonly Message[]): readonly Message[] {
  return [...new Map(messages.map((message) => [`${ownerOf(message).toString('hex')} ${message.fingerprint}`, message])).values()];
}

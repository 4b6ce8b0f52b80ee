/**
 * The store in PostgreSQL: every batch is one transaction that locks the rows of its entities. The guarantees of `store.ts` hold
 * as long as the database keeps what it has committed. Tables: `migrations/`; rules: `entity-rules.ts`.
 */
import type { EntityRef } from '../../events/event.ts';
import type { Finding } from '../../finding.ts';
import type { Log } from '../../observability/log.ts';
import {
  awaitedSequence,
  beginReplay,
  decideClaim,
  decidePark,
  snapshotOf,
  type StoredEntity,
  unknownEntity,
} from '../../ordering/entity-rules.ts';
import { systemTime } from '../../time.ts';
import {
  type EntityReplaying,
  inPages,
  type OperatorStore,
  type DeadLetterQuery,
  type EntitySummary,
  type Halt,
  type LoadResult,
  type Store,
  type StoreOptions,
} from '../store.ts';
import type { Claim, Commit, DeadLetterRecord, InitialVersion, Park, LookupQuery, LookupResult, Snapshot } from '../../ordering/entity.ts';
import type { StreamShape } from '../layout.ts';
import { commitBatch } from './commit-batch.ts';
import { Database, beganMs, clockMs, digest, entityKey, fromBytes, fromText, toText, inspectServer } from './database.ts';
import { type LockedEntity, lockEntities, parkedFrom, readStates, type StreamOfEntities, writeEntities } from './entity-rows.ts';
import { PostgresStreamState } from './stream-state.ts';
import { PostgresDeadLetters } from './postgres-dead-letters.ts';
import { Sweeper } from './sweeper.ts';

export interface PostgresStoreOptions extends StoreOptions {
  /** `postgres://user:password@host:5432/database`; the tables are made on first use, in the schema `inorder`. */
  readonly url: string;
  /** Shown by PostgreSQL for its connections. Default: that of a program. */
  readonly name?: string;
  readonly log?: Pick<Log, 'warn'>;
  /** How long an answer may take before it counts as unknown, in milliseconds. Default 10,000. */
  readonly answerTimeoutMs?: number;
}

export function createPostgresStore(options: PostgresStoreOptions): Store {
  return new PostgresStore(options);
}

class PostgresStore implements Store {
  readonly operator: OperatorStore;
  readonly #database: Database;
  readonly #stream: string;
  readonly #initialVersion: InitialVersion;
  readonly #idTtlMs: number;
  readonly #deadLetters: PostgresDeadLetters;
  readonly #sweeper: Sweeper;
  readonly #streamState: PostgresStreamState;

  constructor({ stream, idempotencyTtlSeconds, initialVersion = 0, time = systemTime, ...options }: PostgresStoreOptions) {
    this.#database = new Database({ ...options, time });
    this.#stream = stream;
    this.#initialVersion = initialVersion;
    this.#idTtlMs = Math.ceil(idempotencyTtlSeconds * 1_000);
    this.#deadLetters = new PostgresDeadLetters(this.#database, stream);
    this.#sweeper = new Sweeper({ remove: (rows) => this.#removeExpired(rows), time });
    this.#streamState = new PostgresStreamState(this.#database, stream);
    this.operator = {
      beginReplay: (replays, leaseMs) => this.#beginReplay(replays, leaseMs),
      noteReplays: (messages) => this.#deadLetters.noteReplays(messages),
      resume: (epoch) => this.#streamState.resume(epoch),
      changeShape: (shape, from) => this.#streamState.changeShape(shape, from),
      appendAudit: (entries) => this.#streamState.appendAudit(entries),
      readAudit: () => this.#streamState.readAudit(),
    };
  }

  async load(entities: readonly EntityRef[]): Promise<readonly LoadResult[]> {
    if (entities.length === 0) return [];
    const rows = await this.#database.query<SnapshotRow>(
      `SELECT key, version, holes, state, parked, replay_until_ms, replayed_to, ${clockMs} AS now_ms FROM inorder.entities WHERE stream = $1 AND key = ANY ($2::bytea[])`,
      [this.#stream, entities.map(entityKey)],
    );
    const found = new Map(rows.map((row) => [row.key.toString('hex'), this.#snapshotFrom(row)]));
    return entities.map((ref) => ({
      status: 'ok',
      snapshot: found.get(entityKey(ref).toString('hex')) ?? snapshotOf(unknownEntity(this.#initialVersion), 0),
    }));
  }

  async commit(commits: readonly Commit[]) {
    if (commits.length === 0) return [];
    const results = await this.#database.transaction((query) => commitBatch(query, this.#ofStream(), commits, this.#idTtlMs));
    this.#sweeper.wrote(commits.reduce((sum, { events }) => sum + events.length, 0));
    return results;
  }

  claim(claims: readonly Claim[]) {
    return this.#decide(claims, decideClaim);
  }

  park(parks: readonly Park[]) {
    return this.#decide(parks, decidePark);
  }

  async lookUp(queries: readonly LookupQuery[]) {
    if (queries.length === 0) return [];
    const rows = await this.#database.query<LookupRow>(
      `SELECT asked.at, e.version, i.sequence AS id_sequence, i.payload_hash AS id_hash, a.sequence, a.payload_hash, a.result
       FROM unnest ($2::int[], $3::bytea[], $4::bigint[], $5::bytea[]) AS asked (at, key, sequence, id)
       LEFT JOIN inorder.entities AS e ON e.stream = $1 AND e.key = asked.key
       LEFT JOIN inorder.applied_ids AS i ON asked.sequence IS NULL AND i.entity = e.entity AND i.id = asked.id AND i.expires_at_ms > ${clockMs}
       LEFT JOIN inorder.applied AS a ON a.entity = e.entity AND a.sequence = coalesce(asked.sequence, i.sequence) AND a.expires_at_ms > ${clockMs}`,
      [
        this.#stream,
        queries.map((_, at) => at),
        queries.map(entityKey),
        queries.map(({ sequence }) => sequence),
        queries.map(({ id }) => digest(id)),
      ],
    );
    const found = new Map(rows.map((row) => [row.at, row]));
    return queries.map((query, at) => lookedUp(query, found.get(at), this.#initialVersion));
  }

  async *readLog(entity: EntityRef): AsyncGenerator<string> {
    const read = (size: number, last?: LogRow) =>
      this.#database.query(
        `SELECT l.entry, l.event FROM inorder.applied_events AS l JOIN inorder.entities AS e USING (entity)
         WHERE e.stream = $1 AND e.key = $2 AND l.entry > $3 ORDER BY l.entry LIMIT $4`,
        [this.#stream, entityKey(entity), last?.entry ?? 0, size],
      );
    for await (const { event } of inPages<LogRow>(read)) yield event;
  }

  async recordDeadLetters(records: readonly DeadLetterRecord[]): Promise<void> {
    if (records.length === 0) return;
    await this.#database.transaction(async (query) => {
      // A parked entity stays parked until its version has passed its dead letters.
      const awaited = records.filter(
        (record) => record.entityType !== null && record.entityId !== null && awaitedSequence(record) !== null,
      );
      await query(
        `UPDATE inorder.entities AS e SET awaited = greatest(e.awaited, u.sequence)
         FROM (SELECT key, max(sequence) AS sequence FROM unnest ($2::bytea[], $3::bigint[]) AS asked (key, sequence) GROUP BY key) AS u
         WHERE e.stream = $1 AND e.key = u.key AND e.parked IS NOT NULL AND u.sequence > coalesce(e.version, $4)`,
        [this.#stream, awaited.map((record) => entityKey(record as EntityRef)), awaited.map(awaitedSequence), this.#initialVersion],
      );
      await this.#deadLetters.record(query, records);
    });
    this.#sweeper.wrote(records.length);
  }

  findDeadLetters(queries: readonly DeadLetterQuery[]) {
    return this.#deadLetters.find(queries);
  }

  nextEpoch(shard: number) {
    return this.#streamState.nextEpoch(shard);
  }

  noteSession(shard: number, epoch: number, note: string | null) {
    return this.#streamState.noteSession(shard, epoch, note);
  }

  streamState() {
    return this.#streamState.read();
  }

  identify(): Promise<string> {
    return this.#streamState.identify();
  }

  recordLayout(shape: StreamShape) {
    return this.#streamState.recordLayout(shape);
  }

  halt(halt: Halt): Promise<void> {
    return this.#streamState.halt(halt);
  }

  async *listEntities({ entityType }: { readonly entityType?: string }): AsyncGenerator<EntitySummary> {
    const read = (size: number, last?: ListRow) =>
      this.#database.query(
        `SELECT entity, entity_type, entity_id, version, parked, replay_until_ms, replayed_to, ${clockMs} AS now_ms FROM inorder.entities
         WHERE stream = $1 AND entity > $2 AND ($3::text IS NULL OR entity_type = $3) AND (version IS NOT NULL OR parked IS NOT NULL)
         ORDER BY entity LIMIT $4`,
        [this.#stream, last?.entity ?? 0, entityType === undefined ? null : toText(entityType), size],
      );
    for await (const row of inPages<ListRow>(read)) {
      const { version, parked } = this.#snapshotFrom(row);
      yield { entityType: fromText(row.entity_type), entityId: fromText(row.entity_id), version, parked };
    }
  }

  inspect(): Promise<readonly Finding[]> {
    return inspectServer(this.#database);
  }

  async ping(): Promise<void> {
    await this.#database.query('SELECT 1');
  }

  async tryWrite(): Promise<void> {
    // A write, and no look at the settings: only a write shows that the disk is full.
    await this.#database.query('UPDATE inorder.streams SET epoch = epoch WHERE stream = $1', [this.#stream]);
  }

  async close(): Promise<void> {
    await this.#sweeper.close();
    await this.#database.close();
  }

  /** Decides the batch in one transaction. */
  async #decide<Ask extends EntityRef, Result extends { readonly status: string }>(
    asks: readonly Ask[],
    decide: (entity: StoredEntity, ask: Ask, nowMs: number) => Result,
  ): Promise<readonly Result[]> {
    if (asks.length === 0) return [];
    return this.#database.transaction(async (query) => {
      const entities = await lockEntities(query, this.#ofStream(), asks);
      const states = await readStates(
        query,
        [...entities.all()].map(({ entity }) => entity),
      );
      const changed = new Set<LockedEntity>();
      const results = asks.map((ask) => {
        const row = entities.of(ask);
        const result = decide(row, ask, entities.nowMs);
        if (result.status === 'ok') changed.add(row);
        return 'snapshot' in result
          ? { ...result, snapshot: { ...(result.snapshot as Snapshot), state: states.get(row.entity) ?? null } }
          : result;
      });
      await writeEntities(query, [...changed]);
      return results;
    });
  }

  #beginReplay(replays: readonly EntityReplaying[], leaseMs: number): Promise<readonly LoadResult[]> {
    return this.#decide<EntityReplaying, LoadResult & { status: 'ok' }>(replays, (entity, replay, nowMs) => {
      beginReplay(entity, replay, leaseMs, nowMs);
      return { status: 'ok', snapshot: snapshotOf(entity, nowMs) };
    });
  }

  #ofStream(): StreamOfEntities {
    return { stream: this.#stream, initialVersion: this.#initialVersion };
  }

  #snapshotFrom({
    version,
    parked,
    replay_until_ms,
    replayed_to,
    now_ms,
    ...row
  }: SummaryRow & Partial<Pick<SnapshotRow, 'holes' | 'state'>>): Snapshot {
    const { holes = '', state = null } = row;
    const entity = {
      version,
      holes,
      state: fromBytes(state),
      parked: parkedFrom(parked),
      replayUntilMs: replay_until_ms,
      replayedTo: replayed_to,
    };
    return snapshotOf({ ...unknownEntity(this.#initialVersion), ...entity }, now_ms);
  }

  /** Skips rows that another process is removing or writing. */
  async #removeExpired(rows: number): Promise<number> {
    let most = await this.#deadLetters.removeExpired(rows);
    for (const table of ['applied', 'applied_ids']) {
      const [gone] = await this.#database.query<{ readonly rows: number }>(
        `WITH gone AS (DELETE FROM inorder.${table} WHERE ctid = ANY (ARRAY (
           SELECT ctid FROM inorder.${table} WHERE expires_at_ms <= ${beganMs} ORDER BY expires_at_ms LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING 1)
         SELECT count(*)::int AS rows FROM gone`,
        [rows],
      );
      most = Math.max(most, gone?.rows ?? 0);
    }
    return most;
  }
}

interface SummaryRow {
  readonly version: number | null;
  readonly parked: string | null;
  readonly replay_until_ms: number;
  readonly replayed_to: number;
  readonly now_ms: number;
}

interface SnapshotRow extends SummaryRow {
  readonly key: Buffer;
  readonly holes: string;
  readonly state: Buffer | null;
}

interface ListRow extends SummaryRow {
  readonly entity: number;
  readonly entity_type: string;
  readonly entity_id: string;
}

interface LogRow {
  readonly entry: number;
  readonly event: string;
}

interface LookupRow {
  readonly at: number;
  readonly version: number | null;
  readonly id_sequence: number | null;
  readonly id_hash: string | null;
  readonly sequence: number | null;
  readonly payload_hash: string | null;
  readonly result: Buffer | null;
}

function lookedUp({ sequence }: LookupQuery, row: LookupRow | undefined, initialVersion: InitialVersion): LookupResult {
  if (sequence !== null && sequence > (row?.version ?? initialVersion)) return { status: 'above' };
  const payloadHash = sequence === null ? row?.id_hash : row?.payload_hash;
  const recorded = sequence ?? row?.id_sequence;
  if (row === undefined || payloadHash == null || recorded == null) return { status: 'unknown' };
  // The result is stored with the sequence, unless that has been used again since.
  return { status: 'known', sequence: recorded, payloadHash, result: row.payload_hash === payloadHash ? fromBytes(row.result) : null };
}

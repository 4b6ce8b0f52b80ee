/**
 * The event store in PostgreSQL, which is the recommended one: an append is one call of a server function, committed by itself.
 *
 * A position is taken from a row that stays locked until the commit, so positions become visible in order and without
 * gaps, however many processes write: no reader passes an event that is still being committed. The price is that the commits of
 * one stream are serialised; append many events at once to make up for it.
 */
import { connectionName } from '../../config/config.ts';
import { VersionConflictError } from '../../errors.ts';
import type { EntityRef } from '../../events/event.ts';
import type { Log } from '../../observability/log.ts';
import { systemTime } from '../../time.ts';
import { type AppendRules, expectedNumber, idConflict, prepareAppend, rangeOf, recorded } from '../append-rules.ts';
import type {
  AppendOptions,
  EventStore,
  EventToAppend,
  ReadAllOptions,
  ReadOptions,
  RecordedEvent,
  StateSnapshot,
} from '../event-store.ts';
import { inPages } from '../store.ts';
import { Database, digest, entityKey, fromText, toText, clockMs } from './database.ts';
import { Notifications, type Wait } from './notifications.ts';
import {
  defaultLeaseMs,
  type HeldLease,
  type LeaseRow,
  type RelayLeases,
  type RelayLeasesOptions,
  StoredRelayLeases,
} from '../relay-lease.ts';

export interface PostgresEventStoreOptions extends AppendRules {
  /** `postgres://user:password@host:5432/database`; the tables are made on first use, in the schema `inorder`. */
  readonly url: string;
  /** Name of the stream: each has its own log. Default `events`. */
  readonly stream?: string;
  /** Shown by PostgreSQL for its connections. Default `inorder/program@HOST#PID`. */
  readonly name?: string;
  readonly log?: Pick<Log, 'warn'>;
  /** How long an answer may take before it counts as unknown, in milliseconds. Default 10,000. */
  readonly answerTimeoutMs?: number;
}

const columns = 'entity_type, entity_id, sequence, position, id, type, "timestamp", data, metadata';

interface Row {
  readonly entity_type: string;
  readonly entity_id: string;
  readonly sequence: number;
  readonly position: number;
  readonly id: string;
  readonly type: string;
  readonly timestamp: string;
  readonly data: string;
  readonly metadata: string;
}

interface Appended {
  readonly status: 'appended' | 'repeated' | 'conflict' | 'id_conflict';
  readonly version: number;
  readonly position: number;
}

export function createPostgresEventStore(options: PostgresEventStoreOptions): EventStore {
  return new PostgresEventStore(options);
}

class PostgresEventStore implements EventStore {
  readonly #database: Database;
  readonly #stream: string;
  readonly #notifications: Notifications;
  readonly #rules: AppendRules;

  constructor({ stream = 'events', name = connectionName('program'), limits, time = systemTime, ...options }: PostgresEventStoreOptions) {
    this.#database = new Database({ ...options, name, time });
    this.#stream = stream;
    this.#rules = { limits, time };
    this.#notifications = new Notifications(options.url, 'inorder_events', time, name);
  }

  async append(entity: EntityRef, events: readonly EventToAppend[], { expectedVersion }: AppendOptions) {
    const prepared = prepareAppend(entity, events, this.#rules);
    const [result] = await this.#database.query<Appended>(
      'SELECT status, version, "position" FROM inorder.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)',
      [
        this.#stream,
        entityKey(entity),
        toText(entity.entityType),
        toText(entity.entityId),
        expectedNumber(expectedVersion),
        prepared.map(({ id }) => toText(id)),
        prepared.map(({ id }) => digest(id)),
        prepared.map(({ type }) => toText(type)),
        prepared.map(({ timestamp }) => timestamp),
        prepared.map(({ dataJson }) => dataJson),
        prepared.map(({ metadataJson }) => metadataJson),
      ],
    );
    const { status, version, position } = result!;
    if (status === 'conflict') throw new VersionConflictError(expectedVersion, version);
    if (status === 'id_conflict') throw idConflict();
    return { status, version, position };
  }

  async *read(entity: EntityRef, options: ReadOptions = {}): AsyncGenerator<RecordedEvent> {
    const [low, high] = rangeOf(options);
    const backwards = options.direction === 'backwards';
    const read = (size: number, last?: Row) =>
      this.#database.query(
        `SELECT ${columns} FROM inorder.events WHERE stream = $1 AND key = $2 AND sequence BETWEEN $3 AND $4
         ORDER BY sequence ${backwards ? 'DESC' : 'ASC'} LIMIT $5`,
        [
          this.#stream,
          entityKey(entity),
          last === undefined || backwards ? low : last.sequence + 1,
          last === undefined || !backwards ? high : last.sequence - 1,
          size,
        ],
      );
    for await (const row of inPages<Row>(read, options.limit)) yield eventFrom(row);
  }

  async *readAll({ after = 0, limit }: ReadAllOptions = {}): AsyncGenerator<RecordedEvent> {
    const read = (size: number, last?: Row) =>
      this.#database.query(`SELECT ${columns} FROM inorder.events WHERE stream = $1 AND position > $2 ORDER BY position LIMIT $3`, [
        this.#stream,
        last?.position ?? after,
        size,
      ]);
    for await (const row of inPages<Row>(read, limit)) yield eventFrom(row);
  }

  async waitForMore(position: number, signal: AbortSignal): Promise<void> {
    let wait: Wait | null = null;
    const end = () => wait?.end();
    signal.addEventListener('abort', end, { once: true });
    try {
      while (!signal.aborted) {
        // Registered before looking, so that an event in between is not missed.
        wait = await this.#notifications.wait(this.#stream);
        if (signal.aborted || (await this.#lastPosition()) > position) return;
        await wait.over;
      }
    } finally {
      end();
      signal.removeEventListener('abort', end);
    }
  }

  async #lastPosition(): Promise<number> {
    const [row] = await this.#database.query<{ last_position: number }>('SELECT last_position FROM inorder.streams WHERE stream = $1', [
      this.#stream,
    ]);
    return row?.last_position ?? 0;
  }

  async version(entity: EntityRef): Promise<number> {
    const [row] = await this.#database.query<{ version: number }>(
      'SELECT version FROM inorder.event_heads WHERE stream = $1 AND key = $2',
      [this.#stream, entityKey(entity)],
    );
    return row?.version ?? 0;
  }

  async readSnapshot(entity: EntityRef) {
    const [row] = await this.#database.query<{ version: number; schema_version: number; state: Buffer }>(
      'SELECT version, schema_version, state FROM inorder.snapshots WHERE stream = $1 AND key = $2',
      [this.#stream, entityKey(entity)],
    );
    return row === undefined ? null : { version: row.version, schemaVersion: row.schema_version, state: row.state.toString() };
  }

  async writeSnapshot(entity: EntityRef, { version, schemaVersion, state }: StateSnapshot): Promise<void> {
    await this.#database.query(
      `INSERT INTO inorder.snapshots AS s (stream, key, version, schema_version, state) VALUES ($1, $2, $3, $4, $5)
       ON CONFLICT (stream, key) DO UPDATE SET version = excluded.version, schema_version = excluded.schema_version, state = excluded.state
       WHERE s.schema_version <> excluded.schema_version OR s.version <= excluded.version`,
      [this.#stream, entityKey(entity), version, schemaVersion, Buffer.from(state)],
    );
  }

  async close(): Promise<void> {
    await this.#notifications.close();
    await this.#database.close();
  }
}

function eventFrom({ entity_type, entity_id, sequence, position, id, type, timestamp, data, metadata }: Row): RecordedEvent {
  const entity = { entityType: fromText(entity_type), entityId: fromText(entity_id) };
  return recorded(
    entity,
    { id: fromText(id), type: fromText(type), timestamp, dataJson: data, metadataJson: metadata },
    sequence,
    position,
  );
}

/** Read before it is locked, so that a waiting relay writes nothing. */
const take = `
  INSERT INTO inorder.relays AS r (stream, epoch, session, lease_until_ms)
  SELECT $1, 1, $3, ${clockMs} + $2::bigint WHERE NOT EXISTS (SELECT FROM inorder.relays WHERE stream = $1 AND lease_until_ms > ${clockMs})
  ON CONFLICT (stream) DO UPDATE SET epoch = r.epoch + 1, session = excluded.session, lease_until_ms = excluded.lease_until_ms WHERE r.lease_until_ms <= ${clockMs}
  RETURNING epoch, position`;

const keep = `
  UPDATE inorder.relays SET lease_until_ms = CASE WHEN $2::bigint = 0 THEN 0 ELSE ${clockMs} + $2 END, position = greatest(position, $4)
  WHERE stream = $1 AND epoch = $3 AND session = $5 RETURNING epoch, position`;

/**
 * The lease of the stream's relay is a row, each step one statement. Nothing of it belongs to a connection, so that it holds
 * behind a pooler as well.
 */
export function createPostgresRelayLeases({ url, stream, log, name, leaseMs = defaultLeaseMs, time }: RelayLeasesOptions): RelayLeases {
  const database = new Database({ url, log, name, maxConnections: 1, answerTimeoutMs: leaseMs / 2, time });
  const row: LeaseRow = {
    async step(what, session, epoch, position) {
      const held =
        what === 'take'
          ? database.query<HeldLease>(take, [stream, leaseMs, session])
          : database.query<HeldLease>(keep, [stream, what === 'release' ? 0 : leaseMs, epoch, position, session]);
      return (await held)[0] ?? null;
    },
    close: () => database.close(),
  };
  return new StoredRelayLeases(row, leaseMs, time);
}

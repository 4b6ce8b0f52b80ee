/**
 * The tables, in numbered steps that each run once, under a lock, by the first process that connects. A released step is never
 * changed: a later change is a new step. Everything is in the schema `inorder`, with the stream in every key.
 */
import { ConfigError } from '../../errors.ts';

/** Runs a statement in the open transaction. */
export type Query = <Row>(text: string, values?: readonly unknown[]) => Promise<readonly Row[]>;

const steps: readonly string[] = [
  `
  CREATE TABLE inorder.streams (
    stream text PRIMARY KEY,
    -- the last one that was given out
    epoch bigint NOT NULL
  );

  CREATE TABLE inorder.entities (
    entity bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream text NOT NULL,
    -- digest of type and id, for they may be longer than an index takes
    key bytea NOT NULL,
    entity_type text NOT NULL,
    entity_id text NOT NULL,
    -- null until the first commit
    version bigint,
    holes text NOT NULL DEFAULT '',
    -- as the aggregate serialized it: convert_from(state, 'UTF8')
    state bytea,
    -- of the last commit: one that comes again is known by it
    token text,
    -- JSON: reason, detail, sequence, at
    parked text,
    -- the highest sequence among its dead letters, while it is parked
    awaited bigint NOT NULL DEFAULT 0,
    replay_until_ms bigint NOT NULL DEFAULT 0,
    -- JSON: the highest epoch by shard
    epochs text NOT NULL DEFAULT '{}',
    UNIQUE (stream, key)
  ) WITH (fillfactor = 80);

  -- what is remembered of applied events, until it expires
  CREATE TABLE inorder.applied (
    entity bigint NOT NULL,
    sequence bigint NOT NULL,
    payload_hash text NOT NULL,
    result bytea,
    expires_at_ms bigint NOT NULL,
    PRIMARY KEY (entity, sequence)
  );
  CREATE INDEX applied_expiry ON inorder.applied (expires_at_ms);

  CREATE TABLE inorder.applied_ids (
    entity bigint NOT NULL,
    -- digest of the id
    id bytea NOT NULL,
    sequence bigint NOT NULL,
    payload_hash text NOT NULL,
    expires_at_ms bigint NOT NULL,
    PRIMARY KEY (entity, id)
  );
  CREATE INDEX applied_ids_expiry ON inorder.applied_ids (expires_at_ms);

  -- whose dead letters are remembered: an entity, or a message that has none
  CREATE TABLE inorder.dead_letter_owners (
    stream text NOT NULL,
    owner bytea NOT NULL,
    expires_at_ms bigint NOT NULL,
    PRIMARY KEY (stream, owner)
  );
  CREATE INDEX dead_letter_owners_expiry ON inorder.dead_letter_owners (expires_at_ms);

  CREATE TABLE inorder.dead_letters (
    stream text NOT NULL,
    owner bytea NOT NULL,
    fingerprint text NOT NULL,
    recorded_at_ms bigint NOT NULL,
    -- JSON; null where only replays are known
    record text,
    -- the last one first
    replayed_at_ms bigint[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (stream, owner, fingerprint)
  );

  CREATE TABLE inorder.audit (
    entry bigint GENERATED ALWAYS AS IDENTITY,
    stream text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- JSON: action, who, what, why
    body text NOT NULL,
    PRIMARY KEY (stream, entry)
  );`,

  `
  -- the last position that was given out; a sequence would leave gaps, and be passed by readers before it is committed
  ALTER TABLE inorder.streams ADD COLUMN last_position bigint NOT NULL DEFAULT 0;

  -- the append-only log
  CREATE TABLE inorder.events (
    stream text NOT NULL,
    position bigint NOT NULL,
    -- digest of type and id of the entity
    key bytea NOT NULL,
    entity_type text NOT NULL,
    entity_id text NOT NULL,
    sequence bigint NOT NULL,
    id text NOT NULL,
    id_digest bytea NOT NULL,
    type text NOT NULL,
    -- as the writer gave it
    "timestamp" text NOT NULL,
    -- JSON, kept to the byte
    data text NOT NULL,
    metadata text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (stream, position),
    UNIQUE (stream, key, sequence),
    UNIQUE (stream, key, id_digest)
  );

  CREATE TABLE inorder.event_heads (
    stream text NOT NULL,
    key bytea NOT NULL,
    -- sequence of the last event
    version bigint NOT NULL,
    PRIMARY KEY (stream, key)
  ) WITH (fillfactor = 80);

  CREATE TABLE inorder.snapshots (
    stream text NOT NULL,
    key bytea NOT NULL,
    version bigint NOT NULL,
    schema_version int NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (stream, key)
  );

  CREATE TABLE inorder.relays (
    stream text PRIMARY KEY,
    -- of the lease: only its newest holder moves the position on
    epoch bigint NOT NULL DEFAULT 0,
    position bigint NOT NULL DEFAULT 0
  );

  -- Appends events together. expected: null makes no claim, -1 wants at least one event, else the version.
  -- status: appended, repeated (the same events are there, appended together), conflict (version says where it is),
  -- id_conflict (one of the ids is that of another event). The row of the head is locked first, that of the stream last: what has a
  -- position is committed before anybody gets the next one.
  CREATE FUNCTION inorder.append(
    the_stream text, the_key bytea, the_type text, the_id text, expected bigint,
    ids text[], id_digests bytea[], types text[], timestamps text[], datas text[], metadatas text[],
    OUT status text, OUT version bigint, OUT "position" bigint)
  LANGUAGE plpgsql AS $$
  DECLARE
    added int := cardinality(ids);
    head bigint;
    known int;
    same int;
    first bigint;
    last bigint;
    last_position bigint;
  BEGIN
    INSERT INTO inorder.event_heads AS h (stream, key, version) VALUES (the_stream, the_key, 0)
      ON CONFLICT ON CONSTRAINT event_heads_pkey DO UPDATE SET version = h.version RETURNING h.version INTO head;
    SELECT count(*), min(e.sequence), max(e.sequence), max(e.position) INTO known, first, last, last_position
      FROM inorder.events AS e WHERE e.stream = the_stream AND e.key = the_key AND e.id_digest = ANY (id_digests);
    IF known > 0 THEN
      SELECT count(*) INTO same FROM inorder.events AS e
        JOIN unnest(id_digests, types, datas) WITH ORDINALITY AS u (id_digest, type, data, n)
          ON e.id_digest = u.id_digest AND e.type = u.type AND e.data = u.data AND e.sequence = first + u.n - 1
        WHERE e.stream = the_stream AND e.key = the_key;
      version := CASE WHEN same = added THEN last ELSE head END;
      "position" := last_position;
      status := CASE WHEN same = added THEN 'repeated' ELSE 'id_conflict' END;
      RETURN;
    END IF;
    IF (expected = -1 AND head = 0) OR (expected >= 0 AND expected <> head) THEN
      status := 'conflict';
      version := head;
      "position" := 0;
      RETURN;
    END IF;
    UPDATE inorder.event_heads AS h SET version = head + added WHERE h.stream = the_stream AND h.key = the_key;
    INSERT INTO inorder.streams AS s (stream, epoch, last_position) VALUES (the_stream, 0, added)
      ON CONFLICT (stream) DO UPDATE SET last_position = s.last_position + added RETURNING s.last_position INTO last_position;
    INSERT INTO inorder.events (stream, position, key, entity_type, entity_id, sequence, id, id_digest, type, "timestamp", data, metadata)
      SELECT the_stream, last_position - added + u.n, the_key, the_type, the_id, head + u.n, u.id, u.id_digest, u.type, u.at, u.data, u.metadata
      FROM unnest(ids, id_digests, types, timestamps, datas, metadatas) WITH ORDINALITY AS u (id, id_digest, type, at, data, metadata, n);
    PERFORM pg_notify('inorder_events', the_stream);
    status := 'appended';
    version := head + added;
    "position" := last_position;
  END $$;`,

  `
  -- the events that workers have applied, in that order, where EVENT_LOG keeps them
  CREATE TABLE inorder.applied_events (
    entity bigint NOT NULL,
    entry bigint GENERATED ALWAYS AS IDENTITY,
    -- JSON, kept to the byte
    event text NOT NULL,
    PRIMARY KEY (entity, entry)
  );`,

  `
  -- until when the lease of the relay that has the epoch lasts, by the server's clock
  ALTER TABLE inorder.relays ADD COLUMN lease_until_ms bigint NOT NULL DEFAULT 0;

  -- what expires is removed as fast as it comes: a fifth of such a table would be too much to wait for
  ALTER TABLE inorder.applied SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
  ALTER TABLE inorder.applied_ids SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);`,

  `
  -- the highest sequence of which a copy was published by the replay that is under way
  ALTER TABLE inorder.entities ADD COLUMN replayed_to bigint NOT NULL DEFAULT 0;`,

  `
  ALTER TABLE inorder.streams
    -- random; null until a worker has made it
    ADD COLUMN identity text,
    -- by shard, or under * for all of them: detail and at of what halts it
    ADD COLUMN halts jsonb NOT NULL DEFAULT '{}';`,

  `
  -- random, of the relay that has the epoch: a server that lost its tail gives an epoch out twice
  ALTER TABLE inorder.relays ADD COLUMN session text;`,
];

/** Runs within a transaction. @throws ConfigError when a newer version of Inorder has been here. */
export async function migrate(query: Query): Promise<void> {
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

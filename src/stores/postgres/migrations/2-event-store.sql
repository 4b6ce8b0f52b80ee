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
END $$;

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
);

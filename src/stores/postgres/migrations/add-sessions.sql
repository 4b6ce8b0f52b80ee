-- the sessions of shards that have not taken their leave, and what each was working on
CREATE TABLE inorder.sessions (
  stream text NOT NULL,
  shard integer NOT NULL,
  epoch bigint NOT NULL,
  note text NOT NULL,
  PRIMARY KEY (stream, shard)
);

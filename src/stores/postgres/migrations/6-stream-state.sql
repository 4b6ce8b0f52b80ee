ALTER TABLE inorder.streams
  -- random; null until a worker has made it
  ADD COLUMN identity text,
  -- by shard, or under * for all of them: detail and at of what halts it
  ADD COLUMN halts jsonb NOT NULL DEFAULT '{}';

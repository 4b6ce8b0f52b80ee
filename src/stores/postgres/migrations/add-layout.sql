-- the stream's layout as JSON: version, shards, exchangeType
ALTER TABLE inorder.streams ADD COLUMN layout jsonb;

-- until when the lease of the relay that has the epoch lasts, by the server's clock
ALTER TABLE inorder.relays ADD COLUMN lease_until_ms bigint NOT NULL DEFAULT 0;

-- what expires is removed as fast as it comes: a fifth of such a table would be too much to wait for
ALTER TABLE inorder.applied SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE inorder.applied_ids SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);

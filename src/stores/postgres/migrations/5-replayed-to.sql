-- the highest sequence of which a copy was published by the replay that is under way
ALTER TABLE inorder.entities ADD COLUMN replayed_to bigint NOT NULL DEFAULT 0;

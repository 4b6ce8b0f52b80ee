-- the events that workers have applied, in that order, where EVENT_LOG keeps them
CREATE TABLE inorder.applied_events (
  entity bigint NOT NULL,
  entry bigint GENERATED ALWAYS AS IDENTITY,
  -- JSON, kept to the byte
  event text NOT NULL,
  PRIMARY KEY (entity, entry)
);

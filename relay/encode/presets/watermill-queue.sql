CREATE TABLE {table} (
  "offset"     serial      PRIMARY KEY,
  "uuid"       varchar(36) NOT NULL,
  "created_at" timestamptz NOT NULL DEFAULT now(),
  "payload"    json        DEFAULT NULL,
  "metadata"   json        DEFAULT NULL,
  "acked"      boolean     NOT NULL DEFAULT false
);

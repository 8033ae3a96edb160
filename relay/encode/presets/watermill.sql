CREATE TABLE {table} (
  "offset"         bigserial,
  "uuid"           varchar(36) NOT NULL,
  "created_at"     timestamp   NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "payload"        json        DEFAULT NULL,
  "metadata"       json        DEFAULT NULL,
  "transaction_id" xid8        NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY ("transaction_id", "offset")
);

CREATE SCHEMA IF NOT EXISTS eventuate;
CREATE TABLE {table} (
  id                varchar(1000) PRIMARY KEY,
  destination       text          NOT NULL,
  headers           text          NOT NULL,
  payload           text          NOT NULL,
  published         smallint      DEFAULT 0,
  message_partition smallint,
  creation_time     bigint
);

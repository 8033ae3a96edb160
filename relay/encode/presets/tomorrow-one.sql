CREATE SEQUENCE IF NOT EXISTS outbox_kafka_id_seq;
CREATE TABLE {table} (
  id        bigint       PRIMARY KEY DEFAULT nextval('outbox_kafka_id_seq'),
  created   timestamp    NOT NULL,
  processed timestamp,
  topic     varchar(128) NOT NULL,
  key       varchar(128),
  value     bytea        NOT NULL,
  headers   jsonb
);

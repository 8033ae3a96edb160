CREATE SCHEMA IF NOT EXISTS pgmq;
CREATE TABLE {table} (
  msg_id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  read_ct     int         NOT NULL DEFAULT 0,
  enqueued_at timestamptz NOT NULL DEFAULT now(),
  vt          timestamptz NOT NULL,
  message     jsonb,
  headers     jsonb
);

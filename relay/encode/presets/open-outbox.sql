CREATE TABLE {table} (
  event_id      uuid        PRIMARY KEY,
  event_type    text        NOT NULL,
  partition_key text,
  payload       bytea       NOT NULL,
  headers       jsonb       NOT NULL DEFAULT '{}',
  status        text        NOT NULL DEFAULT 'PENDING',
  attempts      int         NOT NULL DEFAULT 0,
  last_error    text,
  available_at  timestamptz NOT NULL DEFAULT now(),
  locked_by     text,
  locked_at     timestamptz,
  delivered_at  timestamptz,
  created_at    timestamptz NOT NULL DEFAULT now(),
  updated_at    timestamptz NOT NULL DEFAULT now()
);

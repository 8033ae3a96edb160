CREATE TABLE {table} (
  id             uuid        NOT NULL DEFAULT {uuid}(),
  topic          text,                                         -- wins when set
  aggregate_type text,                                         -- else topic = outbox.event.<aggregate_type>
  key            text,                                         -- ordering key; NULL = no order
  type           text        NOT NULL,
  payload        jsonb,                                        -- or json, text, bytea: sent as stored
  headers        jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(headers) = 'object'),
  traceparent    text        DEFAULT NULLIF(current_setting('app.traceparent', true), ''),
  created_at     timestamptz NOT NULL DEFAULT now(),
  seq            bigint      GENERATED ALWAYS AS IDENTITY,
  xid            xid8        NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (id, created_at),
  CHECK (topic IS NOT NULL OR aggregate_type IS NOT NULL)
) PARTITION BY RANGE (created_at);

-- so that a missing partition never fails a business transaction
CREATE TABLE {table_default} PARTITION OF {table} DEFAULT;

CREATE TABLE {table} (
  id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  topic   text   NOT NULL,
  key     text,
  value   bytea,
  headers jsonb
);

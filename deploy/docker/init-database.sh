#!/bin/bash
# Runs once, on an empty data directory: role, outbox table, publication, slot, in that order.
set -euo pipefail

[ -s /run/secrets/relay_password ] || { echo 'RELAY_PASSWORD is empty' >&2; exit 1; }

psql -v ON_ERROR_STOP=1 -v password="$(cat /run/secrets/relay_password)" -U postgres -d shop <<'SQL'
CREATE ROLE relay WITH LOGIN REPLICATION PASSWORD :'password';

CREATE TABLE public.outbox (
  id             uuid        NOT NULL DEFAULT uuidv7(),
  topic          text,
  aggregate_type text,
  key            text,
  type           text        NOT NULL,
  payload        jsonb,
  headers        jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(headers) = 'object'),
  traceparent    text        DEFAULT NULLIF(current_setting('app.traceparent', true), ''),
  created_at     timestamptz NOT NULL DEFAULT now(),
  seq            bigint      GENERATED ALWAYS AS IDENTITY,
  xid            xid8        NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (id, created_at),
  CHECK (topic IS NOT NULL OR aggregate_type IS NOT NULL)
) PARTITION BY RANGE (created_at);
CREATE TABLE public.outbox_default PARTITION OF public.outbox DEFAULT;
GRANT SELECT ON public.outbox TO relay;

-- Publication first, then slot.
CREATE PUBLICATION relay_orders FOR TABLE public.outbox WITH (publish = 'insert', publish_via_partition_root = true);
SELECT pg_create_logical_replication_slot('relay_orders', 'pgoutput');
SQL

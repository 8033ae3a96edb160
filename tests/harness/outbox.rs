//! Turns a pipeline's name into the roles, outbox table and publication that relay needs in PostgreSQL.

use crate::postgres::Postgres;
use crate::versions::Version;

/// An outbox table of preset `relay`, owned by role `app`, readable by role `relay`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbox {
    /// The pipeline it is for: `[a-z0-9_]`, as in `name` of relay.toml.
    pub pipeline: String,
    /// The table with its schema.
    pub table: String,
    /// The publication, named as relay does by default: `relay_<pipeline>`.
    pub publication: String,
    /// The slot's default name, which relay makes itself.
    pub slot: String,
}

/// Before PostgreSQL 18 a function of ours stands in for `uuidv7()`.
const UUID_V7: &str = "
CREATE OR REPLACE FUNCTION public.relay_uuidv7() RETURNS uuid LANGUAGE sql VOLATILE AS $$
  SELECT encode(set_byte(b, 6, get_byte(b, 6) & 15 | 112), 'hex')::uuid
  FROM (SELECT substr(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 3, 6)
               || substr(uuid_send(gen_random_uuid()), 7, 10) AS b) t
$$;
";

/// Roles of least privilege: `app` owns tables and publications, `relay` may log in, replicate, and read what is granted.
const ROLES: &str = "
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app') THEN CREATE ROLE app LOGIN; END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay') THEN CREATE ROLE relay LOGIN REPLICATION; END IF;
END $$;
GRANT CREATE ON DATABASE postgres TO app;
GRANT CREATE, USAGE ON SCHEMA public TO app;
";

// === impl Postgres ===

impl Postgres {
    /// Creates the roles `app` and `relay` where they are missing.
    pub fn prepare_roles(&self) {
        self.sql(ROLES);
    }

    /// The table in its small form, without partitions, with its publication and grant.
    pub fn prepare_outbox(&self, pipeline: &str) -> Outbox {
        self.prepare(pipeline, false)
    }

    /// The table partitioned by day of creation, as for high volume.
    pub fn prepare_partitioned_outbox(&self, pipeline: &str) -> Outbox {
        self.prepare(pipeline, true)
    }

    /// What poll mode wants besides: an index that serves the tick query, and DELETE for `after_publish = "delete"`.
    pub fn prepare_for_poll(&self, outbox: &Outbox) {
        self.sql(&format!(
            "CREATE INDEX ON {table} (xid, seq); GRANT DELETE ON {table} TO relay; ANALYZE {table}",
            table = outbox.table
        ));
    }

    fn prepare(&self, pipeline: &str, partitioned: bool) -> Outbox {
        self.prepare_roles();
        let outbox = Outbox {
            pipeline: pipeline.to_owned(),
            table: format!("public.{pipeline}_outbox"),
            publication: format!("relay_{pipeline}"),
            slot: format!("relay_{pipeline}"),
        };
        if self.version() < Version::V18 {
            self.sql(UUID_V7);
        }
        self.sql(&ddl(&outbox, self.version(), partitioned));
        println!("{}: table {} and publication {}", self.version(), outbox.table, outbox.publication);
        outbox
    }
}

fn ddl(outbox: &Outbox, version: Version, partitioned: bool) -> String {
    let uuid = if version < Version::V18 { "public.relay_uuidv7()" } else { "uuidv7()" };
    let Outbox { table, publication, .. } = outbox;
    let (key, by, root) = if partitioned {
        ("id, created_at", "PARTITION BY RANGE (created_at)", ", publish_via_partition_root = true")
    } else {
        ("id", "", "")
    };
    let partitions =
        if partitioned { format!("CREATE TABLE {table}_default PARTITION OF {table} DEFAULT;") } else { String::new() };
    format!(
        "SET ROLE app;
CREATE TABLE {table} (
  id             uuid        NOT NULL DEFAULT {uuid},
  topic          text,
  aggregate_type text,
  key            text,
  type           text        NOT NULL,
  payload        jsonb,
  headers        jsonb       NOT NULL DEFAULT '{{}}' CHECK (jsonb_typeof(headers) = 'object'),
  traceparent    text        DEFAULT NULLIF(current_setting('app.traceparent', true), ''),
  created_at     timestamptz NOT NULL DEFAULT now(),
  seq            bigint      GENERATED ALWAYS AS IDENTITY,
  xid            xid8        NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY ({key}),
  CHECK (topic IS NOT NULL OR aggregate_type IS NOT NULL)
) {by};
{partitions}
CREATE PUBLICATION {publication} FOR TABLE {table} WITH (publish = 'insert'{root});
GRANT SELECT ON {table} TO relay;
RESET ROLE;"
    )
}

//! Turns a shape into rows that wait in the WAL behind a slot, and into a copy of that slot for each contender.

use std::time::{Duration, Instant};

use relay_tests::{Outbox, Postgres, secs, until};

/// What a backlog is made of.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    name: &'static str,
    rows: u64,
    rows_per_transaction: u64,
    /// Rows name one of so many topics; 0 = they name none, and their aggregate type makes one.
    topics: u64,
    /// A plain table of eight columns instead of an outbox.
    is_captured: bool,
}

/// Committed rows, and a slot that has read none of them. The slot keeps the WAL for all rounds.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// Table and publication; the table is no outbox where rows are captured.
    pub(crate) outbox: Outbox,
    /// `[[outbox]]` or `[[capture]]` as relay.toml has it.
    pub(crate) route: String,
    /// How many rows.
    pub(crate) rows: u64,
    /// A WAL position behind the last commit.
    pub(crate) end: String,
    /// The topics that the rows go to.
    pub(crate) topics: Vec<String>,
    /// Partitions of each topic.
    pub(crate) partitions: i32,
    slot: String,
    shape: Shape,
}

/// Length of a payload as text. A third of it is hexadecimal that hardly compresses, as in ids and tokens.
const PAYLOAD_BYTES: u64 = 315;

// === impl Shape ===

impl Shape {
    /// Ten rows a transaction, one topic of four partitions.
    pub(crate) fn batch(rows: u64) -> Shape {
        Shape { name: "batch", rows, rows_per_transaction: 10, topics: 0, is_captured: false }
    }

    /// Ten rows a transaction, one topic, for polling.
    pub(crate) fn polled(rows: u64) -> Shape {
        Shape { name: "polled", ..Shape::batch(rows) }
    }

    /// Ten rows a transaction of a table with eight columns.
    pub(crate) fn captured(rows: u64) -> Shape {
        Shape { name: "captured", is_captured: true, ..Shape::batch(rows) }
    }

    /// One row a transaction, one topic.
    pub(crate) fn single(rows: u64) -> Shape {
        Shape { name: "single", rows: rows * 3 / 10, rows_per_transaction: 1, ..Shape::batch(rows) }
    }

    /// Ten rows a transaction over a thousand topics.
    pub(crate) fn topics(rows: u64) -> Shape {
        Shape { name: "topics", rows: rows * 3 / 10, topics: 1_000, ..Shape::batch(rows) }
    }

    fn topic_names(&self) -> Vec<String> {
        match self.topics {
            // The pipeline has another name in each round.
            0 if self.is_captured => vec![format!("bench.public.{}", self.name)],
            0 => vec![format!("outbox.event.{}", self.name)],
            n => (0..n).map(|i| format!("bench.topic.{i:04}")).collect(),
        }
    }

    /// One statement that commits as it goes. Numbers have a fixed width, so that every payload has the same length.
    fn statement(&self, table: &str) -> String {
        let Shape { name, rows, rows_per_transaction, topics, is_captured } = self;
        if *is_captured {
            return format!(
                "DO $$ DECLARE i bigint := 0; BEGIN
WHILE i < {rows} LOOP
  INSERT INTO {table} SELECT i + g, 1000000 + (i + g) % 1000000, 'placed', 1499.00 + (i + g) % 1000,
    '2026-01-02 03:04:05.678901+00'::timestamptz + (i + g) * interval '1 ms', (i + g) % 3 = 0,
    'SKU-' || lpad(((i + g) % 10000)::text, 6, '0'), 'left at the door, ' || md5((i + g)::text)
  FROM generate_series(1, least({rows_per_transaction}, {rows} - i)) g;
  COMMIT;
  i := i + {rows_per_transaction};
END LOOP; END $$"
            );
        }
        let topic = match topics {
            0 => "NULL".to_owned(),
            n => format!("'bench.topic.' || lpad(((i + g) % {n})::text, 4, '0')"),
        };
        format!(
            r#"DO $$ DECLARE i bigint := 0; BEGIN
WHILE i < {rows} LOOP
  INSERT INTO {table} (topic, aggregate_type, key, type, payload)
  SELECT {topic}, '{name}', 'order-' || lpad(((i + g) * 7919 % 100000)::text, 5, '0'), 'order.placed',
    ('{{"id": ' || 1000000000 + i + g || ', "token": "' || md5((i + g)::text)
     || md5('b' || i + g) || md5('c' || i + g) || '", "total": 149900, "status": "placed", "country": "DEU", '
     || '"currency": "EUR", "customer": "customer-' || 1000000 + (i + g) % 1000000 || '", "line_items": '
     || '[{{"qty": 2, "sku": "SKU-000171"}}, {{"qty": 1, "sku": "SKU-004042"}}]}}')::jsonb
  FROM generate_series(1, least({rows_per_transaction}, {rows} - i)) g;
  COMMIT;
  i := i + {rows_per_transaction};
END LOOP; END $$"#
        )
    }
}

// === impl Backlog ===

impl Backlog {
    /// Makes table, publication and slot in this order, then writes.
    pub(crate) fn write(db: &Postgres, shape: &Shape) -> Backlog {
        let (outbox, route) = match shape.is_captured {
            true => captured(db, shape.name),
            false => {
                let outbox = db.prepare_outbox(shape.name);
                let route = format!("[[outbox]]\ntable = {:?}", outbox.table);
                (outbox, route)
            }
        };
        let slot = format!("bench_{}", shape.name);
        db.sql(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
        let begin = Instant::now();
        let mut client = db.superuser();
        client.batch_execute("SET synchronous_commit = off").expect("change a setting of the session");
        client.batch_execute(&shape.statement(&outbox.table)).unwrap_or_else(|e| panic!("write the backlog: {e:?}"));
        // Readers that stop at a position notice it by the first message behind it.
        let end = db.sql("SELECT pg_current_wal_insert_lsn()").one().to_owned();
        db.sql("SELECT pg_logical_emit_message(true, 'bench', '')");
        db.sql("CHECKPOINT");
        let backlog = Backlog {
            rows: shape.rows,
            topics: shape.topic_names(),
            partitions: if shape.topics == 0 { 4 } else { 1 },
            outbox,
            route,
            end,
            slot,
            shape: shape.clone(),
        };
        backlog.tell(db, begin.elapsed());
        backlog
    }

    /// Writes the same rows once more.
    pub(crate) fn write_again(&self, db: &Postgres) {
        let mut client = db.superuser();
        client.batch_execute("SET synchronous_commit = off").expect("change a setting of the session");
        client.batch_execute(&self.shape.statement(&self.outbox.table)).unwrap_or_else(|e| panic!("write the backlog: {e:?}"));
        db.sql("CHECKPOINT");
    }

    /// A slot at the beginning of the backlog.
    pub(crate) fn copy_slot(&self, db: &Postgres, name: &str) {
        db.sql(&format!("SELECT pg_copy_logical_replication_slot('{}', '{name}')", self.slot));
    }

    /// Gives table, slot and WAL back.
    pub(crate) fn remove(self, db: &Postgres) {
        drop_slot(db, &self.slot);
        let Outbox { table, publication, .. } = &self.outbox;
        db.sql(&format!("DROP PUBLICATION {publication}; DROP TABLE {table}"));
        db.sql("CHECKPOINT");
    }

    fn tell(&self, db: &Postgres, took: Duration) {
        let table = &self.outbox.table;
        if self.shape.is_captured {
            return println!("backlog {table}: {} rows, written in {took:.1?}, ends at {}", self.rows, self.end);
        }
        let shape = format!("SELECT count(*)::text || ' rows, payload ' || min(octet_length(payload::text)) FROM {table}");
        let most = db.sql(&format!("SELECT max(octet_length(payload::text)) FROM {table}")).number();
        println!("backlog {table}: {} to {most} bytes, written in {took:.1?}, ends at {}", db.sql(&shape).one(), self.end);
        let off = most.unsigned_abs().abs_diff(PAYLOAD_BYTES);
        assert!(off <= 5, "a payload is meant to have about {PAYLOAD_BYTES} bytes, not {most}");
    }
}

/// A table of eight columns and its publication, and the capture of it.
fn captured(db: &Postgres, name: &str) -> (Outbox, String) {
    let table = format!("public.{name}");
    db.sql(&format!(
        "CREATE TABLE {table} (id bigint PRIMARY KEY, customer integer NOT NULL, status text NOT NULL, total numeric(12,2) NOT NULL, \
         placed_at timestamptz NOT NULL, is_paid boolean NOT NULL, sku varchar(20), note text); \
         CREATE PUBLICATION relay_{name} FOR TABLE {table}; GRANT SELECT ON {table} TO relay"
    ));
    let outbox = Outbox {
        pipeline: name.to_owned(),
        publication: format!("relay_{name}"),
        slot: format!("relay_{name}"),
        table: table.clone(),
    };
    (outbox, format!("format.topic_prefix = \"bench\"\nsnapshot.mode = \"never\"\n[[capture]]\ntables = [{table:?}]"))
}

/// Drops a slot as soon as its reader has let go of it.
pub(crate) fn drop_slot(db: &Postgres, name: &str) {
    let drop = format!("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{name}'");
    until(&format!("slot {name} to be free"), secs(40), || db.try_sql(&drop).ok());
}

//! Turns a PostgreSQL into the demo's database: tables before relay starts, nothing left of them afterwards.

use std::time::{Duration, Instant};

use relay_encode::Preset;
use relay_encode::sql::table_sql;
use relay_pgwire::Connection;
use relay_postgres::Source;

use super::ending::Ending;
use super::names::{Names, SLOT};
use super::pipeline::Pipeline;
use super::words::Words;
use super::{EXIT_BUSY, EXIT_UNREACHED, Halt, PAUSE, with_code};
use crate::command::refusal::Refusal;

/// The tables, and for a server of the user's the promise to drop them.
#[derive(Debug)]
pub(super) struct Database {
    source: Source,
    /// `PostgreSQL 15.14`.
    pub(super) about: String,
    is_borrowed: bool,
    words: Words,
}

/// By this the next demo knows what an earlier one left behind.
const MARK: &str = "made by relay demo; dropped at its end";
/// How long relay may take to reach both sides and create its slot.
const STREAM_LIMIT: Duration = Duration::from_secs(60);
/// How long the server may take to see that relay has let go of the slot.
const DROP_LIMIT: Duration = Duration::from_secs(10);

// === impl Database ===

impl Database {
    /// Looks at the server and makes the tables.
    pub(super) fn prepare(source: &Source, names: &Names, is_borrowed: bool, words: Words) -> Result<Self, Refusal> {
        let mut connection = source.connect()?;
        let ask = "SELECT current_setting('wal_level'), current_setting('server_version_num')::int / 10000, \
                   split_part(current_setting('server_version'), ' ', 1)";
        let rows = connection.query(ask)?;
        let text = |column| rows.first().and_then(|row| row.get(column)).unwrap_or_default().to_owned();
        if text(0) != "logical" {
            let hint = "run `ALTER SYSTEM SET wal_level = logical` as superuser, then restart the server";
            return Err(Refusal::refused(format!("wal_level of this server is {}, relay needs logical", text(0)), hint));
        }
        let major: u32 = text(1).parse().unwrap_or(0);
        if is_borrowed {
            clear_earlier(&mut connection, words)?;
        }
        let database = Self { source: source.clone(), about: format!("PostgreSQL {}", text(2)), is_borrowed, words };
        let preset = Preset::find("relay").map_err(|error| Refusal::refused(error.to_string(), ""))?;
        let outbox = table_sql(preset, &names.outbox(), major).unwrap_or_default();
        let schema = if is_borrowed {
            format!("CREATE SCHEMA {SLOT}; COMMENT ON SCHEMA {SLOT} IS '{MARK}'; SET search_path = {SLOT};\n")
        } else {
            String::new()
        };
        let orders = names.orders();
        connection.execute(&format!(
            "{schema}{outbox}
             CREATE TABLE {orders} (id text PRIMARY KEY, customer text NOT NULL, total_cents bigint NOT NULL,
             status text NOT NULL, changed_at timestamptz NOT NULL DEFAULT now());"
        ))?;
        connection.close();
        Ok(database)
    }

    /// Waits until relay's slot exists: what is committed from then on is published.
    pub(super) fn until_streaming(&self, pipeline: &Pipeline, ending: &Ending) -> Result<(), Halt> {
        let mut connection = self.source.connect()?;
        let ask = format!(
            "SELECT 1 FROM pg_catalog.pg_replication_slots \
             WHERE slot_name = '{SLOT}' AND active AND confirmed_flush_lsn IS NOT NULL"
        );
        let end = Instant::now() + STREAM_LIMIT;
        while connection.query(&ask)?.is_empty() {
            ending.check()?;
            if !pipeline.is_running() {
                return Err(Refusal::refused("relay ended before it could stream", "its own message stands above").into());
            }
            if Instant::now() > end {
                let text = format!("relay did not begin to stream within {} s", STREAM_LIMIT.as_secs());
                let hint = "its own messages stand above; `-v` shows all of them";
                return Err(with_code(Refusal::refused(text, hint), EXIT_UNREACHED).into());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Drops what the demo and its relay have made, where the server stays. Whether nothing is left.
    pub(super) fn finish(&mut self) -> bool {
        if !std::mem::take(&mut self.is_borrowed) {
            return true;
        }
        let end = Instant::now() + DROP_LIMIT;
        let result = loop {
            let result = self.source.connect().and_then(|mut connection| Ok(clear(&mut connection)?));
            if result.is_ok() || Instant::now() > end {
                break result;
            }
            std::thread::sleep(PAUSE);
        };
        match &result {
            Ok(()) => self.words.say(&format!("dropped slot, publication and schema {SLOT}")),
            Err(error) => self.words.insist(&format!(
                "error: slot, publication and schema {SLOT} could not be dropped: {error}\n\n\
                 hint: the next `relay demo` on this server does it; until then the slot holds WAL back"
            )),
        }
        result.is_ok()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Drops what a demo that was killed has left behind. Anything else of our names is somebody else's, and stays.
fn clear_earlier(connection: &mut Connection, words: Words) -> Result<(), Refusal> {
    let ask = format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = '{SLOT}'),
                EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = '{SLOT}' AND active),
                EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = '{SLOT}'),
                EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = '{SLOT}'),
                EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE nspname = '{SLOT}'
                        AND pg_catalog.obj_description(n.oid, 'pg_namespace') = '{MARK}')"
    );
    let rows = connection.query(&ask)?;
    let is = |column| rows.first().and_then(|row| row.get(column)) == Some("t");
    let [has_slot, is_active, has_publication, has_schema, is_ours] = [0, 1, 2, 3, 4].map(is);
    if is_active {
        let refusal = Refusal::refused(
            format!("slot `{SLOT}` is in use on this server"),
            "another `relay demo` is running there; wait for its end",
        );
        return Err(with_code(refusal, EXIT_BUSY));
    }
    if !is_ours && (has_slot || has_publication || has_schema) {
        return Err(Refusal::refused(
            format!("this server has a slot, publication or schema `{SLOT}` that no demo has made in this database"),
            "name another server; or, if it was a demo in another database of this server, name that one",
        ));
    }
    if is_ours {
        clear(connection)?;
        words.say(&format!("dropped what an earlier demo had left: slot, publication and schema {SLOT}"));
    }
    Ok(())
}

fn clear(connection: &mut Connection) -> Result<(), relay_pgwire::Error> {
    connection.execute(&format!(
        "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE slot_name = '{SLOT}'"
    ))?;
    // The tables take their places in the publication with them.
    connection.execute("SET client_min_messages = warning")?;
    connection.execute(&format!("DROP PUBLICATION IF EXISTS {SLOT}; DROP SCHEMA IF EXISTS {SLOT} CASCADE")).map(drop)
}

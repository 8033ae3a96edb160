//! Asks a server who it is and how our slot and publication stand.

use crate::error::Error;
use crate::source::{Source, Wanted};
use relay_core::Lsn;
use relay_core::session::{Server, Slot};
use relay_pgwire::{Connection, quote_identifier, quote_literal};

impl Source {
    /// Everything the start checks compare, read on one replication connection.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses us, or is too old.
    pub fn inspect(&self) -> Result<Server, Error> {
        let mut connection = self.connect_replication()?;
        let server = self.inspect_on(&mut connection)?;
        connection.close();
        Ok(server)
    }

    /// As [`Source::inspect`], with the backend that holds the slot; refuses a server on which a table is unlogged, as
    /// [`Source::refuse_unlogged`] does.
    ///
    /// # Errors
    /// As [`Source::inspect`].
    pub fn inspect_for_stream(&self, wanted: &Wanted, insists: &dyn Fn(&str) -> bool) -> Result<(Server, Option<i32>), Error> {
        let mut connection = self.connect_replication()?;
        let server = self.inspect_on(&mut connection)?;
        self.refuse_unlogged(&mut connection, wanted, insists)?;
        let sql = format!("SELECT active_pid FROM pg_replication_slots WHERE slot_name = {}", quote_literal(&self.config().slot));
        let rows = connection.query(&sql)?;
        let holder = rows.first().and_then(|row| row.get(0)).and_then(|pid| pid.parse().ok());
        connection.close();
        Ok((server, holder))
    }

    /// What the start checks of polling compare, and the backend that holds the lock of that pipeline. Only a history of timelines needs
    /// the REPLICATION right; without it, it stays empty.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses us, or is too old.
    pub fn inspect_polling(&self, pipeline: &str) -> Result<(Server, Option<i32>), Error> {
        const WHAT: &str = "who the server is";
        let mut connection = self.connect()?;
        self.check_version(&connection)?;
        let query = format!(
            "SELECT (pg_control_system()).system_identifier, pg_is_in_recovery(), current_database(), pg_current_snapshot(), \
             CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END, \
             CASE WHEN pg_is_in_recovery() THEN (pg_control_checkpoint()).timeline_id \
               ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END, \
             s.active, s.confirmed_flush_lsn, ({}) FROM (SELECT 1) AS one LEFT JOIN pg_replication_slots AS s ON s.slot_name = {}",
            crate::poll::lock_holder(pipeline),
            quote_literal(&self.config().slot)
        );
        let rows = connection.query(&query)?;
        let row = rows.first().ok_or(Error::Answer { query: WHAT })?;
        let holder = row.get(8).and_then(|pid| pid.parse().ok());
        let read = || {
            let timeline: u32 = row.get(5)?.parse().ok()?;
            let slot = row.get(6).map(|active| Slot {
                unfit: None,
                is_lost: false,
                confirmed_flush: row.get(7).and_then(|lsn| lsn.parse().ok()).unwrap_or_default(),
                is_active: active == "t",
            });
            Some(Server {
                system_id: row.get(0)?.to_owned(),
                timeline,
                switch_points: Vec::new(),
                database: row.get(2)?.to_owned(),
                wal_end: row.get(4)?.parse().ok()?,
                is_standby: row.get(1) == Some("t"),
                snapshot: row.get(3)?.parse().ok(),
                slot,
                publication: None,
            })
        };
        let mut server = read().ok_or(Error::Answer { query: WHAT })?;
        if server.timeline > 1
            && let Ok(mut replication) = self.connect_replication()
            && let Ok(points) = timeline_history(&mut replication, server.timeline)
        {
            server.switch_points = points;
        }
        Ok((server, holder))
    }

    /// Refuses a server on which a table of those that are insisted on, or a partition of a wanted one, is unlogged. One that is
    /// wanted by a star alone need not be in the log: it is passed by, like a view.
    ///
    /// Such a table leaves no trace in the WAL, and no publication complains: ALTER TABLE refuses one that is listed by
    /// name, but FOR ALL TABLES and FOR TABLES IN SCHEMA pass it by in silence, as does a root an unlogged partition.
    ///
    /// # Errors
    /// That, or what the server says.
    pub fn refuse_unlogged(
        &self,
        connection: &mut Connection,
        wanted: &Wanted,
        insists: &dyn Fn(&str) -> bool,
    ) -> Result<(), Error> {
        let rows = connection.query(
            "SELECT n.nspname, c.relname, rn.nspname || '.' || r.relname \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN pg_class r ON c.relispartition AND r.oid = pg_partition_root(c.oid) \
             LEFT JOIN pg_namespace rn ON rn.oid = r.relnamespace \
             WHERE c.relkind = 'r' AND c.relpersistence = 'u' AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2",
        )?;
        for row in &rows {
            let (Some(schema), Some(table)) = (row.get(0), row.get(1)) else { continue };
            let name = format!("{schema}.{table}");
            if insists(&name) || row.get(2).is_some_and(|root| wanted(root)) {
                return Err(Error::Unfit(format!(
                    "table {name} is unlogged, so the log has none of its rows; for new rows: ALTER TABLE {}.{} SET LOGGED, or poll it",
                    quote_identifier(schema),
                    quote_identifier(table)
                )));
            }
        }
        Ok(())
    }

    /// Where the server's WAL ends now.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn wal_end(&self) -> Result<Lsn, Error> {
        const WHAT: &str = "the end of WAL";
        let sql = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END";
        let rows = self.connect()?.query(sql)?;
        rows.first().and_then(|row| row.get(0)?.parse().ok()).ok_or(Error::Answer { query: WHAT })
    }

    fn inspect_on(&self, connection: &mut Connection) -> Result<Server, Error> {
        self.check_version(connection)?;
        let (system_id, timeline, database) = identify(connection)?;
        let switch_points = if timeline > 1 { timeline_history(connection, timeline)? } else { Vec::new() };
        let query = format!(
            "SELECT s.slot_type, s.plugin, s.database, s.temporary, s.two_phase, s.wal_status, s.confirmed_flush_lsn, \
             pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END, \
             current_setting('wal_level'), s.active \
             FROM (SELECT 1) AS one LEFT JOIN pg_replication_slots AS s ON s.slot_name = {}",
            quote_literal(&self.config().slot)
        );
        const WHAT: &str = "the slot query";
        let rows = connection.query(&query)?;
        let row = rows.first().ok_or(Error::Answer { query: WHAT })?;
        let text = |at: usize| row.get(at);
        let lsn = |at: usize| text(at).and_then(|text| text.parse::<Lsn>().ok());
        let slot = text(0).map(|kind| Slot {
            unfit: unfit(kind, text(1), text(2), text(3), text(4), &database),
            is_lost: text(5) == Some("lost"),
            confirmed_flush: lsn(6).unwrap_or_default(),
            is_active: text(10) == Some("t"),
        });
        if slot.is_none() && text(9) != Some("logical") {
            return Err(Error::Unfit(format!(
                "wal_level is {}; logical replication needs `ALTER SYSTEM SET wal_level = 'logical'` and a restart of the server",
                text(9).unwrap_or("unknown")
            )));
        }
        Ok(Server {
            system_id,
            timeline,
            switch_points,
            database,
            wal_end: lsn(8).ok_or(Error::Answer { query: WHAT })?,
            is_standby: text(7) == Some("t"),
            snapshot: None,
            slot,
            publication: self.publication_fingerprint(connection)?,
        })
    }

    fn check_version(&self, connection: &Connection) -> Result<(), Error> {
        match server_version(connection) {
            Some(major) if major >= 14 => Ok(()),
            Some(major) => Err(Error::Unfit(format!("the server is PostgreSQL {major}; relay needs 14 or newer"))),
            None => Ok(()),
        }
    }
}

/// The server's major version, as it reported it at connect.
#[must_use]
pub fn server_version(connection: &Connection) -> Option<u32> {
    let text = connection.parameter("server_version")?;
    let digits = text.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Whether `synchronous_standby_names` counts a standby of that application name: then every commit waits for its flush position.
#[must_use]
pub fn is_synchronous_standby(names: &str, application_name: &str) -> bool {
    // `FIRST 2 (a, b)`, `ANY 1 (*)`, or a plain list.
    let list = names.split_once('(').map_or(names, |(_, list)| list.trim_end().trim_end_matches(')'));
    list.split(',')
        .map(|name| name.trim().trim_matches('"'))
        .any(|name| name == "*" || name.eq_ignore_ascii_case(application_name))
}

fn identify(connection: &mut Connection) -> Result<(String, u32, String), Error> {
    const WHAT: &str = "IDENTIFY_SYSTEM";
    let rows = connection.query(WHAT)?;
    let row = rows.first().ok_or(Error::Answer { query: WHAT })?;
    let system_id = row.get(0).ok_or(Error::Answer { query: WHAT })?.to_owned();
    let timeline = row.get(1).and_then(|text| text.parse().ok()).ok_or(Error::Answer { query: WHAT })?;
    let database = row.get(3).ok_or(Error::Answer { query: WHAT })?.to_owned();
    Ok((system_id, timeline, database))
}

/// Ends of the timelines before ours. Asking for timeline 1 is an error: it has no history file.
fn timeline_history(connection: &mut Connection, timeline: u32) -> Result<Vec<(u32, Lsn)>, Error> {
    const WHAT: &str = "TIMELINE_HISTORY";
    let rows = connection.query(&format!("TIMELINE_HISTORY {timeline}"))?;
    let content = rows.first().and_then(|row| row.get(1)).ok_or(Error::Answer { query: WHAT })?;
    Ok(parse_history(content))
}

/// Lines of `<timeline> <switch LSN> <reason>`; comments and empty lines are passed over.
fn parse_history(content: &str) -> Vec<(u32, Lsn)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    content.lines().filter_map(line).collect()
}

/// Why the slot cannot be read by relay, if so.
pub(crate) fn unfit(
    kind: &str,
    plugin: Option<&str>,
    database: Option<&str>,
    temporary: Option<&str>,
    two_phase: Option<&str>,
    ours: &str,
) -> Option<String> {
    if kind != "logical" {
        Some("it is a physical slot".into())
    } else if plugin != Some("pgoutput") {
        Some(format!("its plugin is {}, not pgoutput", plugin.unwrap_or("unknown")))
    } else if database != Some(ours) {
        Some(format!("it belongs to database {}, not {ours}", database.unwrap_or("unknown")))
    } else if temporary == Some("t") {
        Some("it is temporary".into())
    } else if two_phase == Some("t") {
        Some("two_phase is on: rows of prepared transactions would come before their commit".into())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_file_is_read_line_by_line() {
        let content = "1\t0/5000148\tno recovery target specified\n\n# comment\n2\t0/6000000\tbefore 2000-01-01\n";
        assert_eq!(parse_history(content), [(1, Lsn(0x500_0148)), (2, Lsn(0x600_0000))]);
    }

    #[test]
    fn a_synchronous_standby_is_known_by_star_or_name() {
        for names in ["*", "relay_orders", "ANY 1 (*)", "FIRST 2 (a, \"relay_orders\")", "a, RELAY_ORDERS"] {
            assert!(is_synchronous_standby(names, "relay_orders"), "{names}");
        }
        for names in ["", "a", "FIRST 1 (a, b)", "relay_orders2"] {
            assert!(!is_synchronous_standby(names, "relay_orders"), "{names}");
        }
    }

    #[test]
    fn only_a_plain_pgoutput_slot_of_our_database_fits() {
        let check = |kind, plugin, database, temporary, two_phase| {
            unfit(kind, Some(plugin), Some(database), Some(temporary), Some(two_phase), "shop")
        };
        assert_eq!(check("logical", "pgoutput", "shop", "f", "f"), None);
        for (kind, plugin, database, temporary, two_phase) in [
            ("physical", "pgoutput", "shop", "f", "f"),
            ("logical", "wal2json", "shop", "f", "f"),
            ("logical", "pgoutput", "other", "f", "f"),
            ("logical", "pgoutput", "shop", "t", "f"),
            ("logical", "pgoutput", "shop", "f", "t"),
        ] {
            assert!(check(kind, plugin, database, temporary, two_phase).is_some());
        }
    }
}

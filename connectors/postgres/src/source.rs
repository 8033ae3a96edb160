//! One pipeline's access to its server: connections, the stream's start command, probes.

use crate::error::Error;
use crate::inspect::server_version;
use relay_core::checkpoint::LogPoll;
use relay_core::{Lsn, Oid};
use relay_pgwire::{Connection, CopyBoth, quote_identifier, quote_literal, quote_replication_literal};
use std::fmt;
use std::sync::Arc;

/// Gives the password, read anew for each connection, because credentials rotate.
pub type Password = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// What the source must know.
#[derive(Clone)]
pub struct Config {
    /// Where and as whom to connect.
    pub wire: relay_pgwire::Config,
    /// Slot name.
    pub slot: String,
    /// Publication name.
    pub publication: String,
    /// Create the slot as a failover slot (17+).
    pub failover: bool,
    /// Protocol version to ask for; `None` is the highest that the server has.
    pub proto_version: Option<u8>,
    /// `any` or `none` (16+).
    pub origin: String,
    /// `wal_sender_timeout` of relay's own session, in milliseconds.
    pub wal_sender_timeout_ms: u64,
    /// What the publication that relay creates sends.
    pub publish: Publish,
    /// The password, where it is not part of the URL.
    pub password: Option<Password>,
}

/// The operations that a publication sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Publish {
    /// Inserts alone: what outbox tables need.
    #[default]
    Inserts,
    /// Every change of a row.
    Rows,
    /// Truncates too.
    All,
}

/// The tables that a publication is made for, decided by the caller: the raw text `schema.table` is offered.
pub type Wanted = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Access to one pipeline's server. Cheap to clone; every clone connects for itself.
#[derive(Clone, Debug)]
pub struct Source {
    config: Arc<Config>,
}

/// What the monitor looks at.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Whether the slot exists.
    pub has_slot: bool,
    /// Who holds it.
    pub active_pid: Option<i32>,
    /// reserved, extended, unreserved, lost.
    pub wal_status: Option<String>,
    /// Bytes of WAL that may still be written before the slot is in danger; `None` without a limit.
    pub safe_wal_bytes: Option<i64>,
    /// The slot's confirmed position.
    pub confirmed_lsn: Lsn,
    /// Where decoding would begin again.
    pub restart_lsn: Lsn,
    /// End of the server's WAL.
    pub wal_end: Lsn,
    /// Age of the catalog snapshot that the slot holds, in transactions.
    pub catalog_xmin_age: Option<i64>,
    /// Unix seconds; 17 and newer.
    pub inactive_since: Option<f64>,
    /// The server's clock, microseconds since the Unix epoch.
    pub server_clock_us: i64,
    /// The oldest open writer that we may see: its age in seconds, and its pid or gid.
    pub oldest_transaction: Option<(f64, String)>,
}

// === impl Publish ===

impl Publish {
    /// As the option `publish` has it.
    #[must_use]
    pub fn operations(self) -> &'static str {
        match self {
            Publish::Inserts => "insert",
            Publish::Rows => "insert, update, delete",
            Publish::All => "insert, update, delete, truncate",
        }
    }
}

// === impl Config ===

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("wire", &self.wire)
            .field("slot", &self.slot)
            .field("publication", &self.publication)
            .finish_non_exhaustive()
    }
}

// === impl Source ===

impl Source {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config: Arc::new(config) }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// An ordinary connection for SQL.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    pub fn connect(&self) -> Result<Connection, Error> {
        self.open(self.config.wire.clone())
    }

    fn open(&self, mut wire: relay_pgwire::Config) -> Result<Connection, Error> {
        if let Some(password) = &self.config.password {
            wire.set_password(password().map_err(Error::Password)?);
        }
        Ok(Connection::connect(&wire)?)
    }

    /// A connection that takes replication commands, with our own `wal_sender_timeout` so that a lost host frees the slot sooner.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    pub fn connect_replication(&self) -> Result<Connection, Error> {
        self.connect_with(|_| {})
    }

    /// An ordinary connection, adjusted.
    pub(crate) fn connect_as(&self, adjust: impl FnOnce(&mut relay_pgwire::Config)) -> Result<Connection, Error> {
        let mut wire = self.config.wire.clone();
        adjust(&mut wire);
        self.open(wire)
    }

    fn connect_with(&self, adjust: impl FnOnce(&mut relay_pgwire::Config)) -> Result<Connection, Error> {
        let mut wire = self.config.wire.clone();
        wire.set_replication(true);
        wire.set_startup_parameter("wal_sender_timeout", format!("{}ms", self.config.wal_sender_timeout_ms));
        adjust(&mut wire);
        self.open(wire)
    }

    /// Takes the slot and starts its stream at `start`; `0/0` is where the slot stands. Nothing is confirmed by it.
    ///
    /// # Errors
    /// `SlotBusy` when somebody else has the slot.
    pub fn stream(&self, start: Lsn, max_message_bytes: usize) -> Result<CopyBoth, Error> {
        let connection = self.connect_with(|wire| {
            wire.set_max_message(max_message_bytes);
        })?;
        let sql = self.start_command(start, server_version(&connection).unwrap_or(14));
        Ok(connection.start_replication(&sql)?)
    }

    /// The slot is an identifier; `publication_names` a literal that holds a list of identifiers: both layers of quoting are needed.
    fn start_command(&self, start: Lsn, server: u32) -> String {
        let highest = match server {
            ..=14 => 2,
            15 => 3,
            _ => 4,
        };
        let version = self.config.proto_version.map_or(highest, |wanted| wanted.min(highest));
        let mut sql = format!(
            "START_REPLICATION SLOT {} LOGICAL {start} (proto_version '{version}', publication_names {}, messages 'true'",
            quote_identifier(&self.config.slot),
            quote_replication_literal(&quote_identifier(&self.config.publication)),
        );
        if self.config.origin != "any" && server >= 16 {
            sql.push_str(&format!(", origin {}", quote_replication_literal(&self.config.origin)));
        }
        sql.push(')');
        sql
    }

    /// Creates the slot. Waits for every transaction that is open at that moment; `pid` is told the backend that waits. An existing slot
    /// is taken as it is.
    ///
    /// # Errors
    /// When the role may not, or no slot is free.
    pub fn create_slot(&self, pid: impl FnOnce(i32)) -> Result<(), Error> {
        let mut connection = self.connect_replication()?;
        pid(connection.backend_pid());
        connection.set_query_timeout(None);
        match connection.query(&self.create_slot_command(&connection, false)) {
            Ok(_) => Ok(()),
            // Two first starts at once: go on as if it had been there.
            Err(error) if error.sqlstate() == Some("42710") => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn create_slot_command(&self, connection: &Connection, exports: bool) -> String {
        let slot = quote_identifier(&self.config.slot);
        let server = server_version(connection).unwrap_or(14);
        if server >= 15 {
            let failover = if self.config.failover && server >= 17 { ", FAILOVER true" } else { "" };
            let snapshot = if exports { "export" } else { "nothing" };
            format!("CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput (SNAPSHOT '{snapshot}'{failover})")
        } else {
            let snapshot = if exports { "EXPORT_SNAPSHOT" } else { "NOEXPORT_SNAPSHOT" };
            format!("CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput {snapshot}")
        }
    }

    /// The transactions that a slot's creation waits for, as people know them: `pid 4711`, `prepared 'gid'`.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    pub fn open_writers(&self, waiting: i32) -> Result<Vec<String>, Error> {
        let mut connection = self.connect()?;
        let rows = connection.query(&format!(
            "SELECT DISTINCT 'pid ' || pid FROM pg_locks WHERE locktype = 'transactionid' AND granted AND pid IS NOT NULL \
               AND pid <> {waiting} AND mode = 'ExclusiveLock' \
             UNION ALL SELECT 'prepared transaction ' || quote_literal(gid) FROM pg_prepared_xacts ORDER BY 1"
        ))?;
        Ok(rows.iter().filter_map(|row| row.get(0).map(str::to_owned)).collect())
    }

    /// `schema.table` of the root that this table is a partition of, if it is one.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    pub fn partition_root(&self, oid: Oid) -> Result<Option<String>, Error> {
        let mut connection = self.connect()?;
        let rows = connection.query(&format!(
            "SELECT n.nspname || '.' || r.relname FROM pg_class c JOIN pg_class r ON r.oid = pg_partition_root(c.oid) \
             JOIN pg_namespace n ON n.oid = r.relnamespace WHERE c.oid = {oid} AND c.relispartition"
        ))?;
        Ok(rows.first().and_then(|row| row.get(0)).map(str::to_owned))
    }

    /// The slot and the oldest open writer as they stand now, for metrics.
    ///
    /// # Errors
    /// What the server says.
    pub fn watch(&self, connection: &mut Connection) -> Result<Watched, Error> {
        let inactive =
            if server_version(connection).unwrap_or(14) >= 17 { "extract(epoch FROM s.inactive_since)" } else { "NULL" };
        let rows = connection.query(&format!(
            "SELECT s.active_pid, s.wal_status, s.safe_wal_size, s.confirmed_flush_lsn, s.restart_lsn, w.lsn, age(s.catalog_xmin), \
             {inactive}, extract(epoch FROM clock_timestamp()) * 1000000, \
             (SELECT extract(epoch FROM clock_timestamp() - min(prepared)) FROM pg_prepared_xacts), \
             (SELECT gid FROM pg_prepared_xacts ORDER BY prepared LIMIT 1), \
             (SELECT extract(epoch FROM clock_timestamp() - xact_start) FROM pg_stat_activity WHERE backend_xid IS NOT NULL \
                AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 1), \
             (SELECT pid FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 1) \
             FROM (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END AS lsn) AS w \
             LEFT JOIN pg_replication_slots AS s ON s.slot_name = {}",
            quote_literal(&self.config.slot)
        ))?;
        const WHAT: &str = "the slot's facts";
        let row = rows.first().ok_or(Error::Answer { query: WHAT })?;
        let number = |at: usize| row.get(at).and_then(|text| text.parse::<f64>().ok());
        let lsn = |at: usize| row.get(at).and_then(|text| text.parse::<Lsn>().ok());
        let writer = number(11).zip(row.get(12)).map(|(age, pid)| (age, format!("pid {pid}")));
        let prepared = number(9).zip(row.get(10)).map(|(age, gid)| (age, format!("gid {gid}")));
        let oldest = [writer, prepared].into_iter().flatten().max_by(|one, other| one.0.total_cmp(&other.0));
        Ok(Watched {
            has_slot: row.get(3).is_some() || row.get(4).is_some(),
            active_pid: row.get(0).and_then(|text| text.parse().ok()),
            wal_status: row.get(1).map(str::to_owned),
            safe_wal_bytes: row.get(2).and_then(|text| text.parse().ok()),
            confirmed_lsn: lsn(3).unwrap_or_default(),
            restart_lsn: lsn(4).unwrap_or_default(),
            wal_end: lsn(5).ok_or(Error::Answer { query: WHAT })?,
            catalog_xmin_age: row.get(6).and_then(|text| text.parse().ok()),
            inactive_since: number(7),
            server_clock_us: number(8).unwrap_or_default() as i64,
            oldest_transaction: oldest,
        })
    }

    /// What is visible to a query, and the end of WAL after that; `None` on a standby, whose snapshots leave out who is in progress.
    ///
    /// # Errors
    /// What the server says.
    pub fn snapshot_pair(&self, connection: &mut Connection) -> Result<Option<LogPoll>, Error> {
        const WHAT: &str = "a snapshot and the end of WAL";
        let sql = "SELECT pg_current_snapshot(), CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_insert_lsn() END";
        let rows = connection.query(sql)?;
        let row = rows.first().ok_or(Error::Answer { query: WHAT })?;
        let Some(lsn) = row.get(1) else { return Ok(None) };
        let pair = row.get(0).and_then(|snapshot| Some(LogPoll { snapshot: snapshot.parse().ok()?, lsn: lsn.parse().ok()? }));
        pair.map(Some).ok_or(Error::Answer { query: WHAT })
    }

    /// Drops the slot.
    ///
    /// # Errors
    /// When somebody has it, or the role may not.
    pub fn drop_slot(&self) -> Result<(), Error> {
        self.connect_replication()?.query(&format!("DROP_REPLICATION_SLOT {}", quote_identifier(&self.config.slot)))?;
        Ok(())
    }

    /// Ends a backend of our own role, so that a slot creation that is given up leaves no slot behind.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    pub fn terminate(&self, pid: i32) -> Result<(), Error> {
        self.connect()?.query(&format!("SELECT pg_terminate_backend({pid})"))?;
        Ok(())
    }
}

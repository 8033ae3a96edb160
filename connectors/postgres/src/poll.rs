//! The polling source's connections: one that holds the advisory lock and takes ticks, one that rows come from.
//!
//! A tick is taken on the session that holds the lock, so that each one proves that the lock is still held. Nothing here decides what is
//! read or when a row counts as published; the session does.

mod catalog;
mod table;

use crate::error::Error;
use crate::source::Source;
use relay_core::session::{Exported, Rows as WorkRows, Tick, Work};
use relay_core::{Lsn, Snapshot};
use relay_pgwire::{Answer, Column, Connection, Rows, quote_identifier, quote_literal};
use std::sync::Arc;
use std::time::{Duration, Instant};
pub use table::{Mark, PollColumns, PollOrder, PollRule, PolledTable};
pub(crate) use table::{seen_by, xid8, xids};

/// What polling must know beyond the source.
#[derive(Clone, Debug)]
pub struct PollConfig {
    /// Pipeline name: the lock is its.
    pub name: String,
    /// Rows of a claim at most.
    pub batch: usize,
    /// Bytes of a claim, about.
    pub batch_bytes: usize,
    /// Channel to LISTEN on; empty for none.
    pub notify: String,
}

/// The lock is held; rows can be read.
#[derive(Debug)]
pub struct Poller {
    config: PollConfig,
    source: Source,
    lock: Connection,
    rows: Option<Rows>,
    /// Where polling ends: the connection that exported the new slot's snapshot, and that snapshot's name.
    exporter: Option<(Connection, String)>,
    sizes: Sizes,
    tables: Vec<PolledTable>,
    /// What the catalog's table names came to when `tables` was listed last by [`Poller::list_changed`].
    stamp: Option<String>,
    pinged: Instant,
    /// A tick that waits for its WAL to be on disk, and since when.
    waiting: Option<(Tick, Instant)>,
}

/// Rows seen and their bytes; old ones count less than new ones.
#[derive(Debug, Default)]
struct Sizes {
    rows: u64,
    bytes: u64,
}

/// How asking for the lock ended.
#[derive(Debug)]
pub enum Hold {
    /// It is ours.
    Held(Box<Poller>),
    /// Another session has it: its backend, where that can be seen.
    Busy(Option<i32>),
}

/// A tick, or why there is none yet.
#[derive(Debug)]
pub enum Taken {
    /// Its WAL is on disk: whatever crashes, its transactions stay.
    Tick(Tick),
    /// Not all that it may see is on disk yet; asking again soon is right.
    Unflushed,
}

/// What stands at the head of the rows.
#[derive(Debug, PartialEq, Eq)]
pub enum Head<'a> {
    /// A row: the DataRow's body.
    Row(&'a [u8]),
    /// Nothing has come yet.
    Pending,
    /// The work was read to its end.
    End,
}

/// How often the lock's session is asked for a sign of life while nothing else is.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long a statement of the lock's session may take.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// The server ends the lock's session when it hears nothing for so long: a lost host frees the lock.
const LOST_HOST: &str = "30s";
/// The first claim is small: nothing is known of its rows.
const FIRST_CLAIM: usize = 256;
/// WAL that nobody flushes (of a transaction that is still open) is flushed by a commit of our own after this.
const FLUSH_PATIENCE: Duration = Duration::from_millis(20);
/// How long queries may take to see what a new slot's snapshot sees, and how often they are asked.
const SIGHT_PATIENCE: Duration = Duration::from_secs(30);
const SIGHT_INTERVAL: Duration = Duration::from_millis(20);

/// The pipeline's lock, as SQL.
fn lock_key(pipeline: &str) -> String {
    format!("hashtextextended({}, 0)", quote_literal(&format!("relay:{pipeline}")))
}

/// The backend that holds the pipeline's lock, as a subquery.
pub(crate) fn lock_holder(pipeline: &str) -> String {
    format!(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         AND (classid::bigint << 32) | objid::bigint = {} LIMIT 1",
        lock_key(pipeline)
    )
}

// === impl Source ===

impl Source {
    /// Takes the pipeline's advisory lock on a session of its own.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses us, or a table does not fit.
    pub fn hold_lock(&self, config: &PollConfig) -> Result<Hold, Error> {
        let mut lock = self.connect_polling(&[
            ("idle_session_timeout", LOST_HOST),
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
            ("tcp_user_timeout", LOST_HOST),
            ("synchronous_commit", "local"),
        ])?;
        lock.set_query_timeout(Some(LOCK_TIMEOUT));
        let rows =
            lock.query(&format!("SELECT pg_try_advisory_lock({}), ({})", lock_key(&config.name), lock_holder(&config.name)))?;
        let row = rows.first().ok_or(Error::Answer { query: "the advisory lock" })?;
        if row.get(0) != Some("t") {
            return Ok(Hold::Busy(row.get(1).and_then(|pid| pid.parse().ok())));
        }
        if !config.notify.is_empty() {
            lock.query(&format!("LISTEN {}", quote_identifier(&config.notify)))?;
        }
        Ok(Hold::Held(Box::new(Poller {
            config: config.clone(),
            source: self.clone(),
            lock,
            rows: None,
            exporter: None,
            sizes: Sizes::default(),
            tables: Vec::new(),
            stamp: None,
            pinged: Instant::now(),
            waiting: None,
        })))
    }

    /// Names of the tables that are wanted, `schema.table`; a partition is passed over where its root is wanted.
    ///
    /// # Errors
    /// What the server says.
    pub fn outbox_tables(&self, connection: &mut Connection, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<String>, Error> {
        catalog::names(connection, wanted)
    }

    /// An ordinary connection for polled tables: an error instead of rows that row security hides.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    pub fn connect_polling(&self, parameters: &[(&str, &str)]) -> Result<Connection, Error> {
        self.connect_as(|wire| {
            wire.set_startup_parameter("row_security", "off");
            for (name, value) in parameters {
                wire.set_startup_parameter(*name, *value);
            }
        })
    }
}

// === impl Poller ===

impl Poller {
    /// Backend that holds the lock.
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.lock.backend_pid()
    }

    /// The tables as they were last listed.
    #[must_use]
    pub fn tables(&self) -> &[PolledTable] {
        &self.tables
    }

    /// The table of that name.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<(usize, &PolledTable)> {
        self.tables.iter().enumerate().find(|(_, table)| table.name == name)
    }

    /// Lists the tables that `rule` wants.
    ///
    /// # Errors
    /// What the server says, or a table that cannot be polled as its rule says.
    pub fn list_tables(&mut self, rule: &dyn Fn(&str) -> Option<PollRule>) -> Result<(), Error> {
        self.tables = catalog::tables(&mut self.lock, rule)?;
        Ok(())
    }

    /// Lists the tables anew if any table was made, renamed or dropped since; whether it did.
    ///
    /// Behind [`Poller::take_tick`] no table is missed in which that tick shows a row: it was there when the tick was taken.
    ///
    /// # Errors
    /// As [`Poller::list_tables`].
    pub fn list_changed(&mut self, rule: &dyn Fn(&str) -> Option<PollRule>) -> Result<bool, Error> {
        let stamp = catalog::stamp(&mut self.lock)?;
        if self.stamp.as_ref() == Some(&stamp) {
            return Ok(false);
        }
        self.list_tables(rule)?;
        self.stamp = Some(stamp);
        Ok(true)
    }

    /// A sign of life from the lock's session, when it is time for one.
    ///
    /// # Errors
    /// When there is none: the lock may be somebody else's by now.
    pub fn ping(&mut self, now: Instant) -> Result<(), Error> {
        if now.duration_since(self.pinged) >= PING_INTERVAL {
            self.lock.query("SELECT")?;
            self.pinged = now;
        }
        Ok(())
    }

    /// Waits at most so long for a notification; whether one came.
    ///
    /// # Errors
    /// When the lock's session is gone.
    pub fn wait_notified(&mut self, limit: Duration) -> Result<bool, Error> {
        Ok(self.lock.wait_notified(limit)?)
    }

    /// Takes a snapshot. A commit is visible to others only when it is on disk, but an abort, and with `synchronous_commit = off` a commit
    /// too, may be lost in a crash and its transaction id given out again: so a tick counts once WAL is on disk up to where it ended then.
    ///
    /// # Errors
    /// When the lock's session is gone.
    pub fn take_tick(&mut self) -> Result<Taken, Error> {
        const WHAT: &str = "the snapshot";
        let flushed = match &self.waiting {
            None => {
                let rows = self.lock.query(table::TICK)?;
                let row = rows.first().ok_or(Error::Answer { query: WHAT })?;
                let lsn = |at: usize| row.get(at).and_then(|text| text.parse::<Lsn>().ok());
                let tick = (|| {
                    Some(Tick { snapshot: row.get(0)?.parse().ok()?, wal_end: lsn(1)?, time_us: row.get(3)?.parse().ok()? })
                })();
                self.waiting = Some((tick.ok_or(Error::Answer { query: WHAT })?, Instant::now()));
                lsn(2)
            }
            Some((_, since)) => {
                // A commit of our own flushes everything before it.
                let force = if since.elapsed() > FLUSH_PATIENCE { "SELECT pg_current_xact_id(); " } else { "" };
                let rows = self.lock.query(&format!("{force}SELECT pg_current_wal_flush_lsn()"))?;
                rows.last().and_then(|row| row.get(0)?.parse::<Lsn>().ok())
            }
        };
        self.pinged = Instant::now();
        let flushed = flushed.ok_or(Error::Answer { query: WHAT })?;
        match self.waiting.take() {
            Some((tick, _)) if table::is_flushed(tick.wal_end, flushed) => Ok(Taken::Tick(tick)),
            waiting => {
                self.waiting = waiting;
                Ok(Taken::Unflushed)
            }
        }
    }

    /// Polling ends at this slot: rows are read in its snapshot from now on.
    pub fn end_at(&mut self, exporter: Connection, snapshot_name: String) {
        self.rows = None;
        self.exporter = Some((exporter, snapshot_name));
    }

    /// Starts to read: the rows of a tick, or of a claim whose keys are known; without keys new rows are claimed.
    ///
    /// # Errors
    /// When no connection can be had.
    pub fn start(&mut self, table: usize, work: &Work, keys: Option<&[Vec<String>]>) -> Result<(), Error> {
        let Some(table) = self.tables.get(table) else {
            return Err(Error::Unfit(format!("{} is not polled any more", work.table)));
        };
        let limit = self.sizes.claim(&self.config);
        let sql = match (&work.rows, keys) {
            (WorkRows::Tick { previous, tick, from }, _) => table.tick_query(previous, tick, *from),
            (WorkRows::Claim, Some(keys)) => Some(table.reclaim_query(keys)),
            (WorkRows::Claim, None) => Some(table.claim_query(limit)),
        };
        let sql = sql.ok_or_else(|| Error::Unfit(format!("{} is not polled in ticks any more", work.table)))?;
        let sql = match &self.exporter {
            None => sql,
            Some((_, name)) => format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}; {sql}; COMMIT",
                quote_literal(name)
            ),
        };
        let rows = match self.rows.take() {
            Some(rows) => rows,
            None => self.source.connect_polling(&[])?.into_rows(),
        };
        Ok(self.rows.insert(rows).ask(&sql)?)
    }

    /// Gives up what is being read; the next work is read on a new connection.
    pub fn abandon(&mut self) {
        self.rows = None;
    }

    /// Shape of the rows now shown.
    #[must_use]
    pub fn columns(&self) -> Option<&Arc<[Column]>> {
        self.rows.as_ref().map(Rows::columns)
    }

    /// The head of the rows, as far as they have been received.
    ///
    /// # Errors
    /// What the server says; the rows' connection is given up then.
    pub fn head(&mut self) -> Result<Head<'_>, Error> {
        let Some(rows) = &mut self.rows else { return Ok(Head::End) };
        while let Some(Answer::Complete(_)) = rows.peek()? {
            rows.consume();
        }
        Ok(match rows.peek()? {
            Some(Answer::Row(body)) => Head::Row(body),
            Some(Answer::Idle) => Head::End,
            Some(Answer::Complete(_) | Answer::Line(_)) | None => Head::Pending,
        })
    }

    /// Moves past the row shown last.
    pub fn consume(&mut self, bytes: usize) {
        self.sizes.rows += 1;
        self.sizes.bytes += bytes as u64;
        if let Some(rows) = &mut self.rows {
            rows.consume();
        }
    }

    /// Reads once, waiting at most so long; bytes read.
    ///
    /// # Errors
    /// When the rows' connection is gone.
    pub fn fill(&mut self, wait: Duration) -> Result<usize, Error> {
        match &mut self.rows {
            Some(rows) => Ok(rows.fill(wait)?),
            None => Ok(0),
        }
    }
}

// === impl Sizes ===

impl Sizes {
    /// Rows that a claim may have, going by the size of those seen.
    fn claim(&mut self, config: &PollConfig) -> usize {
        let size = self.bytes.checked_div(self.rows);
        (self.rows, self.bytes) = (self.rows.div_ceil(2), self.bytes / 2);
        let fits = size.map_or(FIRST_CLAIM, |size| config.batch_bytes / (size as usize).max(1));
        fits.clamp(1, config.batch)
    }
}

/// What a new slot exported, before its snapshot is used.
#[derive(Debug)]
pub struct NewSlot {
    /// As the session takes it.
    pub exported: Exported,
    /// The connection that keeps the snapshot alive.
    pub exporter: Connection,
    /// The snapshot's name.
    pub snapshot_name: String,
}

impl Source {
    /// Creates the slot that polling ends at, and reads what its snapshot sees. One that an earlier attempt left is dropped first. Waits
    /// for every transaction that is open; `pid` is told the backend that waits.
    ///
    /// # Errors
    /// When the role may not, or no slot is free.
    pub fn create_exporting_slot(&self, pid: impl FnOnce(i32)) -> Result<NewSlot, Error> {
        const WHAT: &str = "CREATE_REPLICATION_SLOT";
        let mut exporter = self.connect_replication()?;
        pid(exporter.backend_pid());
        exporter.set_query_timeout(None);
        let slot = quote_identifier(&self.config().slot);
        match exporter.query(&format!("DROP_REPLICATION_SLOT {slot}")) {
            Ok(_) => {}
            Err(error) if error.sqlstate() == Some("42704") => {}
            Err(error) => return Err(error.into()),
        }
        let rows = exporter.query(&self.create_slot_command(&exporter, true))?;
        let row = rows.first().ok_or(Error::Answer { query: WHAT })?;
        let consistent: Lsn = row.get(1).and_then(|text| text.parse().ok()).ok_or(Error::Answer { query: WHAT })?;
        let snapshot_name = row.get(2).ok_or(Error::Answer { query: WHAT })?.to_owned();
        let mut reader = self.connect_polling(&[])?;
        let rows = reader.query(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}; \
             SELECT pg_current_snapshot(), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint; COMMIT",
            quote_literal(&snapshot_name)
        ))?;
        let tick = rows.first().and_then(|row| {
            Some(Tick { snapshot: row.get(0)?.parse().ok()?, wal_end: consistent, time_us: row.get(1)?.parse().ok()? })
        });
        let tick = tick.ok_or(Error::Answer { query: "the exported snapshot" })?;
        wait_until_seen(&mut reader, &tick.snapshot)?;
        Ok(NewSlot { exported: Exported { tick, consistent }, exporter, snapshot_name })
    }
}

/// Waits until an ordinary query sees everything that an exported snapshot sees.
///
/// A new slot's snapshot is built from WAL and sees a commit as soon as that is written; to everybody else the transaction is in
/// progress until its commit has also been waited for, such as for a synchronous standby. A tick must never see more than the server
/// shows: one that is stored so would be taken for another history's by the next start.
fn wait_until_seen(connection: &mut Connection, exported: &Snapshot) -> Result<(), Error> {
    let since = Instant::now();
    loop {
        let rows = connection.query("SELECT pg_current_snapshot()")?;
        let now: Option<Snapshot> = rows.first().and_then(|row| row.get(0)?.parse().ok());
        let now = now.ok_or(Error::Answer { query: "the snapshot" })?;
        if now.sees_all_of(exported) {
            return Ok(());
        }
        if since.elapsed() >= SIGHT_PATIENCE {
            return Err(Error::Invisible(format!(
                "the new slot's snapshot {exported} sees a commit that queries do not see yet, {now}: it may wait for a \
                 synchronous standby; see wait_event SyncRep in pg_stat_activity"
            )));
        }
        std::thread::sleep(SIGHT_INTERVAL);
    }
}

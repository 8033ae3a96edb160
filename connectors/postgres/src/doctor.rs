//! Looks at a server before or beside a running pipeline, and says what would not work and how to cure it.

mod captured;
mod identity;
mod outbox;
mod publication;
mod role;
mod server;
mod slot;
mod tables;
mod writers;

use crate::error::Error;
use crate::inspect::server_version;
use crate::poll::PollRule;
use crate::source::{Source, Wanted};
use relay_core::{Catalog, Oid, Relation};
use relay_pgwire::{Connection, Row};
use std::fmt;
use std::sync::Arc;
use tables::Table;

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `PG001` to `PG027`.
    pub id: &'static str,
    /// How it went.
    pub status: Status,
    /// What was seen.
    pub observed: String,
    /// Why it is so; empty when all is well.
    pub cause: String,
    /// What it leads to; empty when all is well.
    pub effect: String,
    /// The cure, to paste where possible; empty when all is well.
    pub fix: String,
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// As it should be.
    Ok,
    /// Could not be looked at.
    Skip,
    /// Works, with a risk.
    Warn,
    /// Does not work.
    Fail,
}

/// What becomes of a slot or a publication that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// relay creates it at its next start.
    Created,
    /// relay will not create it; why.
    Refused(String),
    /// Nobody knows: what decides it could not be read.
    Unknown(String),
}

/// What the pipeline asks of the server.
#[derive(Clone)]
pub struct Expected {
    /// The tables that routes name: the raw text `schema.table` is offered.
    pub wanted: Wanted,
    /// What becomes of what is missing.
    pub missing: Missing,
    /// `source.log.wal_budget`.
    pub wal_budget_bytes: Option<u64>,
    /// Whether rows are polled, and not read from the log.
    pub is_poll: bool,
    /// Whether an outbox takes the rows of that table, or a capture that names it in full.
    pub insists: Wanted,
    /// Whether a capture takes the changes of that table, and no outbox.
    pub captured: Wanted,
    /// What a table that a route names is to relay.
    pub outbox: Arc<dyn Fn(&str) -> OutboxRule + Send + Sync>,
}

/// What relay does with an outbox table.
#[derive(Clone, Debug, Default)]
pub struct OutboxRule {
    /// How it is polled, where its route has an order.
    pub rule: Option<PollRule>,
    /// The column that tells a row's age.
    pub timestamp: Option<String>,
    /// Whether `retention` removes its published rows.
    pub is_pruned: bool,
    /// Whether it is no outbox, but a captured table of which snapshots may be taken.
    pub is_captured: bool,
}

/// What an examination found.
#[derive(Clone, Debug, Default)]
pub struct Examined {
    /// One or more of each check.
    pub findings: Vec<Finding>,
    /// The shapes of the tables that routes name, as the publication sends them; why they could not be read.
    pub relations: Option<Result<Vec<Relation>, String>>,
    /// What the catalog adds to the shapes of captured tables.
    pub catalogs: Vec<(Oid, Catalog)>,
}

/// A server that let us in.
#[derive(Debug)]
pub struct Reached {
    connection: Connection,
    first: Finding,
}

/// The checks of one server, in the order in which they lean on each other.
struct Examination<'a> {
    source: &'a Source,
    connection: Connection,
    expected: &'a Expected,
    major: u32,
    findings: Vec<Finding>,
}

/// Every check of this module, in the order printed.
pub const CHECKS: [&str; 18] = [
    "PG001", "PG002", "PG003", "PG004", "PG005", "PG006", "PG007", "PG008", "PG010", "PG011", "PG013", "PG018", "PG021", "PG022",
    "PG023", "PG025", "PG026", "PG027",
];
/// Those that only the log needs.
const OF_THE_LOG: [&str; 8] = ["PG003", "PG004", "PG005", "PG006", "PG008", "PG010", "PG011", "PG025"];
/// Those that look at tables.
const OF_TABLES: [&str; 5] = ["PG013", "PG021", "PG022", "PG026", "PG027"];

/// Connects for SQL: PG001.
///
/// # Errors
/// The finding that says why the server does not let us in.
pub fn reach(source: &Source) -> Result<Reached, Finding> {
    match source.connect() {
        Ok(connection) => {
            let first = server::reached(source, &connection);
            Ok(Reached { connection, first })
        }
        Err(error) => Err(server::unreached(source, &error)),
    }
}

/// The findings of a server that cannot be reached: PG001 and every other check skipped.
#[must_use]
pub fn unreached(first: Finding) -> Vec<Finding> {
    let rest = CHECKS.iter().skip(1).map(|id| Finding::skip(id, "not looked at: the server does not let relay in (PG001)"));
    std::iter::once(first).chain(rest).collect()
}

/// Runs every check over the connection. What the role may not read is skipped, with the server's words.
#[must_use]
pub fn examine(source: &Source, reached: Reached, expected: &Expected) -> Examined {
    let Reached { connection, first } = reached;
    let major = server_version(&connection).unwrap_or(14);
    let mut examination = Examination { source, connection, expected, major, findings: vec![first] };
    let is_known = examination.version();
    if !is_known {
        let rest = CHECKS.iter().skip(2).map(|id| Finding::skip(id, "not looked at: the server is too old (PG002)"));
        examination.findings.extend(rest);
        return Examined { findings: examination.findings, ..Examined::default() };
    }
    let slot = if expected.is_poll {
        examination.findings.extend(OF_THE_LOG.iter().map(|id| Finding::skip(id, "not looked at: source.mode is \"poll\"")));
        examination.left_over();
        None
    } else {
        examination.wal_level();
        let has_walsender = examination.limits();
        examination.replication(has_walsender);
        let slot = examination.slot();
        examination.retention(slot.as_ref());
        examination.keep_size();
        examination.synchronous_standby();
        slot
    };
    let tables = examination.tables();
    let mut catalogs = Vec::new();
    let relations = match tables {
        Ok(tables) => {
            if !expected.is_poll {
                examination.publication(&tables, slot.is_some());
                examination.identities(&tables);
            }
            let (captured, outboxes): (Vec<Table>, Vec<Table>) =
                tables.iter().cloned().partition(|table| (expected.captured)(&table.raw()));
            examination.outboxes(&outboxes, &captured);
            let relations = examination.relations(&tables);
            if let Ok(relations) = &relations {
                catalogs = examination.catalogs(relations, &captured);
            }
            Some(relations)
        }
        Err(reason) => {
            let ids = OF_TABLES.iter().chain(["PG010", "PG011"].iter().filter(|_| !expected.is_poll));
            examination.findings.extend(ids.map(|id| Finding::skip(id, &reason)));
            Some(Err(reason))
        }
    };
    examination.writers();
    examination.superuser();
    let mut findings = examination.findings;
    findings.sort_by_key(|finding| finding.id);
    Examined { findings, relations, catalogs }
}

// === impl Examination ===

impl Examination<'_> {
    fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Runs a query of a check; what the server answers instead, in words for a skipped check.
    fn ask(&mut self, sql: &str) -> Result<Vec<Row>, String> {
        self.connection.query(sql).map_err(|error| format!("cannot be read: {error}"))
    }

    /// As [`Examination::ask`] for the only row of a query.
    fn ask_one(&mut self, sql: &str) -> Result<Row, String> {
        self.ask(sql)?.into_iter().next().ok_or_else(|| "cannot be read: the server answered without a row".to_owned())
    }

    fn role(&self) -> String {
        relay_pgwire::quote_identifier(self.source.config().wire.user())
    }
}

// === impl Finding ===

impl Finding {
    pub(crate) fn ok(id: &'static str, observed: impl Into<String>) -> Self {
        Self {
            id,
            status: Status::Ok,
            observed: observed.into(),
            cause: String::new(),
            effect: String::new(),
            fix: String::new(),
        }
    }

    pub(crate) fn skip(id: &'static str, observed: &str) -> Self {
        Self { status: Status::Skip, ..Self::ok(id, observed) }
    }

    pub(crate) fn fail(id: &'static str, observed: impl Into<String>) -> Self {
        Self { status: Status::Fail, ..Self::ok(id, observed) }
    }

    pub(crate) fn warn(id: &'static str, observed: impl Into<String>) -> Self {
        Self { status: Status::Warn, ..Self::ok(id, observed) }
    }

    pub(crate) fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = cause.into();
        self
    }

    pub(crate) fn so(mut self, effect: impl Into<String>) -> Self {
        self.effect = effect.into();
        self
    }

    pub(crate) fn cure(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }
}

// === impl Expected ===

impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expected").field("missing", &self.missing).finish_non_exhaustive()
    }
}

// === impl Status ===

impl Status {
    /// As `doctor --json` prints it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Skip => "skip",
            Status::Warn => "warn",
            Status::Fail => "fail",
        }
    }
}

/// The words of an error, and where the server has a hint of its own, that too.
fn words(error: &Error) -> String {
    let hint = match error {
        Error::Wire(error) => error.server().and_then(|error| error.hint.clone()),
        _ => None,
    };
    hint.map_or_else(|| error.to_string(), |hint| format!("{error}; {hint}"))
}

/// Bytes for people.
fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| count >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", count as f64 / *unit as f64),
        None => format!("{count} bytes"),
    }
}
